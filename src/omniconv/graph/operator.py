"""The registry of operators: one :class:`Operator` for each file of :mod:`omniconv.graph.ops`, found by itself."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final, TypeAlias

from omniconv.errors import UnsupportedError
from omniconv.graph.builder import Builder
from omniconv.graph.memory import Budget
from omniconv.graph.nodes import AnyArray, Node
from omniconv.graph.operands import Operand, Operands

Lower: TypeAlias = Callable[[Node, Operands, Builder], Operand | Sequence[Operand]]
Fold: TypeAlias = Callable[[Node, Sequence[AnyArray | None], Budget], AnyArray | Sequence[AnyArray]]


@dataclass(frozen=True, slots=True)
class Operator:
    """How one operator becomes steps, and how it is evaluated where all its inputs are constants.

    Attributes:
        name: ONNX's name.
        lower: appends steps and returns the outputs; ``None`` where the operator is only ever folded.
        fold: evaluates it in NumPy; ``None`` where it is not folded.
        since, until: first and last opset version handled; ``until=None`` for no end.
        domain: ``""`` for ONNX's own.
    """

    name: str
    lower: Lower | None = None
    fold: Fold | None = None
    since: int = 1
    until: int | None = None
    domain: str = ""


OPERATORS: Final[dict[tuple[str, str], Operator]] = {}

_INSTEAD: Final = {
    "RMSNormalization": "LayerNormalization",
    "LpNormalization": "LayerNormalization",
    "ConvInteger": "Conv in float32",
    "QLinearConv": "DequantizeLinear removed and Conv in float32",
    "DeformConv": "Conv",
    "LpPool": "AveragePool",
    "Einsum": "MatMul, with Transpose before and after",
    "LSTM": "a model without recurrence",
    "GRU": "a model without recurrence",
    "If": "a model with the branch taken, e.g. after onnx.version_converter or onnxsim",
    "Loop": "a model with its loops unrolled",
    "Scan": "a model with its loops unrolled",
    "Softplus": "Sigmoid, Elu or LeakyRelu",
    "Mish": "Swish or HardSwish",
}


def register(
    name: str,
    *,
    lower: Lower | None = None,
    fold: Fold | None = None,
    since: int = 1,
    until: int | None = None,
    domain: str = "",
) -> None:
    """Add an operator to the registry; called once for each operator when its file is imported."""
    OPERATORS[domain, name] = Operator(name, lower, fold, since, until, domain)


@cache
def _discover() -> None:
    from omniconv.graph import ops

    for module in pkgutil.iter_modules(ops.__path__):
        if not module.name.startswith("_"):
            importlib.import_module(f"{ops.__name__}.{module.name}")


def supported_operators() -> tuple[str, ...]:
    """Names of all operators, sorted."""
    _discover()
    return tuple(sorted(name for _, name in OPERATORS))


def find_operator(node: Node) -> Operator:
    """The operator of a node.

    Raises:
        UnsupportedError: an operator or a version that is not handled; names the nearest one that is.
    """
    _discover()
    operator = OPERATORS.get((node.domain, node.op))
    if operator is None:
        near = difflib.get_close_matches(node.op[:64], supported_operators(), n=2, cutoff=0.5)
        raise UnsupportedError(
            f"operator {node.place.split(' ')[0]} is not supported",
            need="an operator of `omniconv.graph.supported_operators()`",
            fix=(node.domain and "onnx.inliner.inline_local_functions(model) where it is a function of the model")
            or _INSTEAD.get(node.op)
            or " or ".join(near)
            or "Conv",
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
