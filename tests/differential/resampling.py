"""Resize and Upsample: what float32 coordinates and weights may change.

ONNX Runtime judges them (see `judge`): the evaluator of the onnx package takes the fractional length of the output
where corners are aligned, and rounds scales otherwise than exporters and runtimes do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnxruntime as ort
from onnx import NodeProto, TensorProto, helper, numpy_helper

COORDINATE_ROUNDINGS = 16


def bound(node: NodeProto, x: np.ndarray, error: np.ndarray, y: np.ndarray, u: float) -> np.ndarray:
    """Nearest copies; otherwise weights of a total of at most (1 + 4 |a|) an axis, which lie ``coordinate`` beside
    their place: a coordinate of about the size of the axis carries some roundings.
    """
    given: dict[str, Any] = {item.name: helper.get_attribute_value(item) for item in node.attribute}
    mode = given.get("mode", b"nearest").decode()
    worst = float(error.max(initial=0.0))
    if mode == "nearest":
        return np.full(y.shape, worst)
    dims = max(sum(a != b for a, b in zip(x.shape, y.shape)), 1)
    total = (1.0 if mode == "linear" else 1 + 4 * abs(given.get("cubic_coeff_a", -0.75))) ** dims
    largest = float(np.abs(x).max(initial=0.0))
    longest = max(*x.shape[2:], *y.shape[2:], 1) if x.ndim > 2 else max(x.shape)
    return np.full(y.shape, total * (worst + COORDINATE_ROUNDINGS * (longest + 4) * u * (largest + worst)))


def evaluate(node: NodeProto, opset: int, arrays: Sequence[Any]) -> list[np.ndarray]:
    """What ONNX Runtime computes in float32.

    Raises:
        ValueError: a form that it does not have.
    """
    names = list(node.input)
    typed = [a if a is None or a.dtype.kind != "f" else a.astype(np.float32) for a in arrays]
    given = [(name, array) for name, array in zip(names, typed) if array is not None and name]
    constants = [numpy_helper.from_array(array, name) for name, array in given[1:]]
    x_name, x = given[0]
    node = _count_axes_from_the_front(node, x.ndim)
    info = helper.make_tensor_value_info(x_name, TensorProto.FLOAT, x.shape)
    result = helper.make_tensor_value_info(node.output[0], TensorProto.FLOAT, None)
    graph = helper.make_graph([node], "resize", [info], [result], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    options = ort.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    try:
        session = ort.InferenceSession(model.SerializeToString(), options)
        return [np.asarray(session.run(None, {x_name: x})[0], np.float64)]
    except Exception as error:
        raise ValueError(str(error)) from error


def _count_axes_from_the_front(node: NodeProto, rank: int) -> NodeProto:
    """ONNX Runtime 1.32 takes negative axes wrongly where an aspect ratio is kept: its own inference says otherwise."""
    copy = NodeProto()
    copy.CopyFrom(node)
    for item in copy.attribute:
        if item.name == "axes":
            item.ints[:] = [axis % rank for axis in item.ints]
    return copy
