"""What is known of the results of a node before it runs on the host, by ONNX's own rules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from omniconv.errors import UnsupportedError
from omniconv.graph.inference import infer, make_type, read_shape
from omniconv.graph.memory import Budget
from omniconv.graph.nodes import AnyArray, Node
from omniconv.graph.schedule import Computed, HostRef, Settings, Unknown
from omniconv.graph.tensors import DTYPES, name_dtype

KEEPS_SHAPE: Final = frozenset({"GroupNormalization", "MeanVarianceNormalization"})
"""Operators whose result is like their first input, which ONNX has no rule for."""


def expect(
    node: Node, operands: Sequence[Computed | AnyArray | None], settings: Settings, budget: Budget
) -> list[HostRef | Unknown | None]:
    """One entry for each output of a node; ``None`` for those that have no name.

    Args:
        node: the node.
        operands: its inputs; constants among them are looked at.
        settings: of the walk.
        budget: what a result may take.

    Raises:
        ModelError: inputs that ONNX's rule refuses.
        UnsupportedError: a result that is no tensor, or of a type that is not known here.
        LimitError: a result that takes more memory than allowed.
    """
    dtypes = [None if item is None else settings.dtype_of(item) for item in operands]
    types = {
        name: make_type(dtype, item.shape)
        for name, item, dtype in zip(node.inputs, operands, dtypes, strict=True)
        if item is not None and dtype is not None
    }
    data = {name: item for name, item in zip(node.inputs, operands, strict=True) if isinstance(item, np.ndarray)}
    kinds = dict(infer(node, types, data))
    if node.op in KEEPS_SHAPE:
        kinds[node.outputs[0]] = types[node.inputs[0]]
    if node.op == "GatherND" and not node.integer("batch_dims", 0):
        # ONNX's rule says nothing of a result without axes.
        x, indices = (read_shape(types[name]) for name in node.inputs)
        if dtypes[0] is not None and x is not None and indices == (len(x),):
            kinds[node.outputs[0]] = make_type(dtypes[0], ())
    x = read_shape(types.get(node.inputs[0])) if node.op == "Resize" else None
    if x is not None and 0 in x and node.outputs[0] in kinds:
        # Given sizes, the rule says nothing of an axis of 0, which stays one.
        for size, dim in zip(x, kinds[node.outputs[0]].tensor_type.shape.dim, strict=False):
            if size == 0 and not dim.HasField("dim_value"):
                dim.dim_value = 0
    return [_read(node, name, kinds.get(name), settings, budget) if name else None for name in node.outputs]


def _read(node: Node, name: str, kind: Any, settings: Settings, budget: Budget) -> HostRef | Unknown:
    """What an inferred type says of a result."""
    number = kind.tensor_type.elem_type if kind is not None and kind.HasField("tensor_type") else 0
    if (kind is not None and not kind.HasField("tensor_type")) or (number and number not in DTYPES):
        what = name_dtype(number) if number else "no tensor"
        need = "tensors of " + ", ".join(map(name_dtype, DTYPES))
        raise UnsupportedError(f"the result of {node.op} is {what}", need=need)
    shape = read_shape(kind)
    if not number or shape is None:
        return Unknown(name, DTYPES.get(number))
    budget.check(shape, max(DTYPES[number].itemsize, settings.element.bytes), "the result")
    return HostRef(name, DTYPES[number], shape)
