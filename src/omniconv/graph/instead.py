"""What serves in place of operators that are not compiled: by meaning, and nothing where nothing does."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Final

import onnx

from omniconv.graph.nodes import Node

_FLOAT_MODEL: Final = "the float32 model, before it was quantised"
_AFTERWARDS: Final = "its inputs as outputs of the model (onnx.utils.extract_model), and NumPy for what comes after"

INSTEAD: Final = {
    "ArgMax": _AFTERWARDS,
    "ArgMin": _AFTERWARDS,
    "CenterCropPad": "Slice and Pad",
    "ConvInteger": f"Conv of {_FLOAT_MODEL}",
    "DynamicQuantizeLinear": _FLOAT_MODEL,
    "If": "a model with the branch taken, such as onnxsim makes where the condition is constant",
    "Loop": "a model with its loops unrolled",
    "MatMulInteger": f"MatMul of {_FLOAT_MODEL}",
    "NonMaxSuppression": _AFTERWARDS,
    "NonZero": _AFTERWARDS,
    "Scan": "a model with its loops unrolled",
    "TopK": _AFTERWARDS,
}
"""Operators of ONNX that are not compiled -> what computes the same."""


def find_substitute(node: Node, supported: Iterable[str]) -> str:
    """What serves in place of a node's operator, or nothing.

    Spelling is asked only about names that ONNX does not have.

    Args:
        node: whose operator is not supported.
        supported: names of those that are.
    """
    if node.domain.startswith("com.microsoft"):
        return "the model as it was before ONNX Runtime optimised it"
    if node.domain:
        return "onnx.inliner.inline_local_functions(model) where it is a function of the model"
    if node.op in INSTEAD or onnx.defs.has(node.op):
        return INSTEAD.get(node.op, "")
    return " or ".join(difflib.get_close_matches(node.op[:64], tuple(supported), n=1, cutoff=0.5))
