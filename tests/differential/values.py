"""What one node gives in float64.

The values come from the evaluator of the onnx package, run in float64; :data:`OWN` lists the operators that it gets
wrong, does not cover or computes slowly, with the reason, and computes them from the standard's formulas.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from onnx import NodeProto, helper
from onnx.reference import ReferenceEvaluator
from tests.differential import norms, resampling, windows


class UntoldError(Exception):
    """The evaluator has no answer for a node: the node is not legal, or not covered."""


def attributes_of(node: NodeProto) -> dict[str, Any]:
    return {item.name: helper.get_attribute_value(item) for item in node.attribute}


def run_node(node: NodeProto, opset: int, arrays: Sequence[np.ndarray | None]) -> list[np.ndarray]:
    """The outputs of one node by the evaluator of the onnx package, in the precision of the arrays."""
    names = [name if array is not None else "" for name, array in zip(node.input, arrays)]
    feeds = {name: array for name, array in zip(names, arrays) if name}
    infos = [helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), None) for n, a in feeds.items()]
    outputs = [name for name in node.output if name]
    copy = NodeProto()
    copy.CopyFrom(node)
    copy.input[:] = names
    infos_out = [helper.make_tensor_value_info(name, 11, None) for name in outputs]
    graph = helper.make_graph([copy], "node", infos, infos_out)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    try:
        with np.errstate(all="ignore"):
            return [np.asarray(y) for y in ReferenceEvaluator(model).run(None, feeds)]
    except Exception as error:
        raise UntoldError(f"{node.op_type} of opset {opset}: {error}") from error


def _softmax(node: NodeProto, opset: int, arrays: Sequence[Any]) -> list[np.ndarray]:
    """Before opset 13 the axes from ``axis`` on are one: the evaluator knows the newer meaning only."""
    x, given = arrays[0], attributes_of(node)
    axis = given.get("axis", -1 if opset >= 13 else 1)
    flat = x if opset >= 13 else x.reshape(math.prod(x.shape[: axis % x.ndim]), -1)
    axis = axis if opset >= 13 else 1
    shifted = flat - flat.max(axis, keepdims=True)
    total = np.exp(shifted).sum(axis, keepdims=True)
    result = shifted - np.log(total) if node.op_type == "LogSoftmax" else np.exp(shifted) / total
    return [result.reshape(x.shape)]


def _lrn(node: NodeProto, _opset: int, arrays: Sequence[Any]) -> list[np.ndarray]:
    """The evaluator takes one channel too few before (even sizes) and four axes only."""
    x, given = arrays[0], attributes_of(node)
    size, squares = given["size"], np.zeros_like(arrays[0])
    for c in range(x.shape[1]):
        squares[:, c] = (x[:, max(c - (size - 1) // 2, 0) : c + size // 2 + 1] ** 2).sum(1)
    bias, alpha, beta = given.get("bias", 1.0), given.get("alpha", 1e-4), given.get("beta", 0.75)
    return [x / (bias + alpha / size * squares) ** beta]


def _batch_norm(node: NodeProto, _opset: int, arrays: Sequence[Any]) -> list[np.ndarray]:
    """The evaluator of opset 7 and 8 takes the statistics of the input, whatever is stored."""
    x, *rest = arrays
    scale, bias, mean, var = (item.reshape(-1, *(1,) * (x.ndim - 2)) for item in rest)
    return [scale * (x - mean) / np.sqrt(var + attributes_of(node).get("epsilon", 1e-5)) + bias]


def _selu(node: NodeProto, _opset: int, arrays: Sequence[Any]) -> list[np.ndarray]:
    """Celu of the evaluator works in float32."""
    x, given = arrays[0], attributes_of(node)
    if node.op_type == "Celu":
        alpha = given.get("alpha", 1.0)
        return [np.where(x >= 0, x, alpha * np.expm1(np.minimum(x, 0) / alpha))]
    alpha, factor = given.get("alpha", 1.67326319217681884765625), given.get("gamma", 1.05070102214813232421875)
    return [factor * np.where(x >= 0, x, alpha * np.expm1(np.minimum(x, 0)))]


_erfc = np.vectorize(math.erfc, otypes=[np.float64])


def _gelu(node: NodeProto, _opset: int, arrays: Sequence[Any]) -> list[np.ndarray]:
    """Written with erfc and a sigmoid, which keep their digits far below zero."""
    x = arrays[0]
    if attributes_of(node).get("approximate", b"none") == b"tanh":
        return [x / (1 + np.exp(-2 * math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))]
    return [x / 2 * _erfc(-x / math.sqrt(2))]


def _swish(node: NodeProto, _opset: int, arrays: Sequence[Any]) -> list[np.ndarray]:
    x = arrays[0]
    return [x / (1 + np.exp(-attributes_of(node).get("alpha", 1.0) * x))]


def _prelu(_node: NodeProto, _opset: int, arrays: Sequence[Any]) -> list[np.ndarray]:
    """The evaluator guesses at slopes that do not broadcast from the right; here they always do."""
    x, slope = arrays
    return [np.where(x >= 0, x, slope * x)]


def _gemm(node: NodeProto, _opset: int, arrays: Sequence[Any]) -> list[np.ndarray]:
    """The evaluator of opset 7 and 9 fails without C or with a C of one axis."""
    a, b, c = (*arrays, None)[:3]
    given = attributes_of(node)
    y = given.get("alpha", 1.0) * (a.T if given.get("transA") else a) @ (b.T if given.get("transB") else b)
    return [y if c is None else y + given.get("beta", 1.0) * c]


def _clip(node: NodeProto, opset: int, arrays: Sequence[Any]) -> list[np.ndarray]:
    """Where the bounds cross, the upper one wins (the standard since opset 13); NaN stays."""
    x, low, high = (*arrays, None, None)[:3]
    if opset < 11:
        given = attributes_of(node)
        largest = float(np.finfo(np.float32).max)  # the default of these opsets, so that infinities are clipped
        low, high = given.get("min", -largest), given.get("max", largest)
    x = x if low is None else np.maximum(x, low)
    return [x if high is None else np.minimum(x, high)]


def _mean(_node: NodeProto, _opset: int, arrays: Sequence[Any]) -> list[np.ndarray]:
    """The evaluator adds in place, so that only the first operand may be wide."""
    return [sum(arrays[1:], arrays[0]) / len(arrays)]


def _pad(node: NodeProto, opset: int, arrays: Sequence[Any]) -> list[np.ndarray]:
    """The evaluator does not crop where pads are negative."""
    given, x = attributes_of(node), arrays[0]
    pads, value, axes = (
        (*arrays[1:], None, None, None)[:3] if opset >= 11 else (given["pads"], given.get("value"), None)
    )
    axes = range(x.ndim) if axes is None else [int(axis) % x.ndim for axis in axes]
    pairs = [(0, 0)] * x.ndim
    for index, axis in enumerate(axes):
        pairs[axis] = (int(pads[index]), int(pads[index + len(axes)]))
    x = x[tuple(slice(max(-a, 0), size - max(-b, 0)) for (a, b), size in zip(pairs, x.shape))]
    pairs = [(max(a, 0), max(b, 0)) for a, b in pairs]
    mode: Any = {b"constant": "constant", b"reflect": "reflect", b"edge": "edge", b"wrap": "wrap"}[
        given.get("mode", b"constant")
    ]
    more = {"constant_values": 0.0 if value is None else float(value)} if mode == "constant" else {}
    return [np.pad(x, pairs, mode=mode, **more)]


def _global_max(_node: NodeProto, _opset: int, arrays: Sequence[Any]) -> list[np.ndarray]:
    """The evaluator gives two axes of size 1, however many there were."""
    x = arrays[0]
    return [x.max(tuple(range(2, x.ndim)), keepdims=True)]


def _group_norm(node: NodeProto, opset: int, arrays: Sequence[Any]) -> list[np.ndarray]:
    """The evaluator computes the variance in float32, as a difference of large numbers; scales are of channels since
    opset 21, of groups before.
    """
    given, (x, scale, bias) = attributes_of(node), arrays
    groups, form = given["num_groups"], (1, x.shape[1], *(1,) * (x.ndim - 2))
    rows = x.reshape(x.shape[0], groups, -1)
    rows = (rows - rows.mean(-1, keepdims=True)) / np.sqrt(rows.var(-1, keepdims=True) + given.get("epsilon", 1e-5))
    repeats = 1 if opset >= 21 else x.shape[1] // groups
    return [rows.reshape(x.shape) * scale.repeat(repeats).reshape(form) + bias.repeat(repeats).reshape(form)]


def _unsqueeze(node: NodeProto, _opset: int, arrays: Sequence[Any]) -> list[np.ndarray]:
    """The evaluator inserts one axis after the other; all are meant of the result."""
    axes = arrays[1] if len(arrays) > 1 else attributes_of(node)["axes"]
    return [np.expand_dims(arrays[0], tuple(int(axis) for axis in np.reshape(axes, -1)))]


def _attention(node: NodeProto, opset: int, arrays: Sequence[Any]) -> list[np.ndarray]:
    """The evaluator's causal mask has the rows of the mask that is given, which may be one for all queries."""
    arrays = list(arrays)
    if len(arrays) > 3 and arrays[3] is not None:
        mask = np.atleast_2d(arrays[3])
        arrays[3] = np.broadcast_to(mask, (*mask.shape[:-2], arrays[0].shape[-2], mask.shape[-1]))
    return run_node(node, opset, arrays)


def _recurrent(node: NodeProto, _opset: int, arrays: Sequence[Any]) -> list[np.ndarray]:
    """The evaluator knows neither directions nor lengths, bounds or functions."""
    from tests.differential import recurrent

    return recurrent.evaluate(node, arrays, [0.0 if a is not None else None for a in arrays], 0.0)[0]


OWN: dict[str, Callable[..., list[np.ndarray]]] = {
    "Softmax": _softmax, "LogSoftmax": _softmax, "LRN": _lrn, "BatchNormalization": _batch_norm, "Selu": _selu,
    "Celu": _selu, "Gelu": _gelu, "Swish": _swish, "PRelu": _prelu, "Gemm": _gemm, "Clip": _clip,
    "Mean": _mean, "Pad": _pad, "Unsqueeze": _unsqueeze, "GlobalMaxPool": _global_max,
    "GroupNormalization": _group_norm,
    # Slow (0.1 s a layer), wrong with groups and automatic padding, and without ceil mode: computed tap by tap.
    **dict.fromkeys(("Conv", "ConvTranspose", "MaxPool", "AveragePool"), windows.evaluate),
    "Col2Im": windows.fold_windows,
    "Resize": resampling.evaluate, "Upsample": resampling.evaluate, **norms.VALUES,
    **dict.fromkeys(("LSTM", "GRU", "RNN"), _recurrent), "Attention": _attention,
}  # fmt: skip


def values_of(node: NodeProto, opset: int, arrays: Sequence[np.ndarray | None]) -> list[np.ndarray]:
    """The outputs of one node in float64."""
    own = OWN.get(node.op_type)
    if own is None:
        return run_node(node, opset, arrays)
    try:
        with np.errstate(all="ignore"):
            return [np.asarray(y) for y in own(node, opset, arrays)]
    except (ValueError, IndexError) as error:
        raise UntoldError(f"{node.op_type} of opset {opset}: {error}") from error
