"""Which operators there are: all files of :mod:`omniconv.graph.ops`, found by themselves."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from omniconv.errors import UnsupportedError
from omniconv.graph import ops
from omniconv.graph.instead import find_substitute
from omniconv.graph.nodes import Node
from omniconv.graph.operator import OPERATORS, Operator


@cache
def _discover() -> None:
    for module in pkgutil.iter_modules(ops.__path__):
        if not module.name.startswith("_"):
            importlib.import_module(f"{ops.__name__}.{module.name}")


def supported_operators() -> tuple[str, ...]:
    """Names of all operators of ONNX's own domain, sorted."""
    _discover()
    return tuple(sorted(name for domain, name in OPERATORS if not domain))


def has_operator(node: Node) -> Operator | None:
    """The operator of a node, where there is one for its version."""
    _discover()
    operator = OPERATORS.get((node.domain, node.op))
    if operator is None or node.version < operator.since or node.version > (operator.until or node.version):
        return None
    return operator


def find_operator(node: Node) -> Operator:
    """The operator of a node.

    Raises:
        UnsupportedError: an operator or a version that is not handled; says what serves instead.
    """
    _discover()
    operator = OPERATORS.get((node.domain, node.op))
    if operator is None:
        raise UnsupportedError(
            f"operator {node.place.split(' ')[0]} is not supported",
            need="an operator of `omniconv.graph.supported_operators()`",
            fix=find_substitute(node, supported_operators()),
            at=node.place,
        )
    if node.version < operator.since or (operator.until is not None and node.version > operator.until):
        raise UnsupportedError(
            f"{node.op} of opset {node.version}",
            need=f"opset {operator.since} to {operator.until or 'newest'}",
            fix="onnx.version_converter.convert_version(model, 17)",
            at=node.place,
        )
    return operator
