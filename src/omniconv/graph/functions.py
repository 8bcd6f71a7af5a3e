"""Functions of a model (domains of its own) become the nodes that they stand for, after their number is known.

A function may call others, twice each, so that a short file can stand for any number of nodes: they are counted first.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, TypeAlias

import onnx

from omniconv.errors import LimitError, ModelError, UnsupportedError
from omniconv.graph.memory import Budget
from omniconv.graph.nodes import shorten

MOST_CALLS: Final = 64
"""Functions that call one another, from the outermost to the innermost."""
MOST_NODES: Final = 2**17
"""Nodes that all calls together may stand for."""
_NODE_BYTES: Final = 1024

_FunctionKey: TypeAlias = tuple[str, str]


def inline_functions(proto: onnx.ModelProto, budget: Budget) -> onnx.ModelProto:
    """The model with every call of a function replaced by the function's nodes.

    Raises:
        ModelError: functions that call themselves, or that ONNX cannot inline.
        LimitError: more nodes than allowed.
        UnsupportedError: functions that replace ONNX's own operators.
    """
    if any(function.domain in ("", "ai.onnx") for function in proto.functions):
        raise UnsupportedError("functions that replace ONNX's own operators", need="functions of other domains")
    functions = {(function.domain, function.name): function for function in proto.functions}
    if len(functions) < len(proto.functions):
        raise ModelError("a function is defined twice", need="unique names of functions")
    counted: dict[_FunctionKey, int] = {}
    total = _count(proto.graph.node, functions, counted, ())
    if total > MOST_NODES:
        raise LimitError(f"the functions of the model stand for {total} nodes", need=f"at most {MOST_NODES} in all")
    budget.check((total,), _NODE_BYTES, "the nodes of the model's functions")
    from onnx import inliner

    try:
        inlined: onnx.ModelProto = inliner.inline_local_functions(proto)
    except Exception as error:  # noqa: BLE001 - whatever the C++ code throws
        raise ModelError(
            f"the functions of the model cannot be inlined: {shorten(str(error))}",
            need="functions that ONNX can inline",
        ) from None
    return inlined


def _count(
    nodes: Iterable[onnx.NodeProto],
    functions: dict[_FunctionKey, onnx.FunctionProto],
    counted: dict[_FunctionKey, int],
    calls: tuple[_FunctionKey, ...],
) -> int:
    """How many nodes these are when every call is replaced."""
    total = 0
    for node in nodes:
        total += 1
        key = (node.domain, node.op_type)
        if key in functions:
            if key in calls:
                raise ModelError(f"function {shorten(node.op_type)!r} calls itself", need="functions that end")
            if len(calls) >= MOST_CALLS:
                raise LimitError(f"functions call one another {len(calls) + 1} deep", need=f"at most {MOST_CALLS}")
            if key not in counted:
                counted[key] = _count(functions[key].node, functions, counted, (*calls, key))
            total += counted[key]
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs) if attribute.HasField("g") or attribute.graphs else ():
                total += _count(graph.node, functions, counted, calls)
    return total
