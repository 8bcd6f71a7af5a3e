"""What one node of a graph gives in float64, and how far float32 arithmetic may be from it.

Every value travels with a bound of its error (running error analysis): an operator carries the errors of its inputs to
its output and adds its own roundings, ``gamma(n) = n u / (1 - n u)`` times the magnitudes that it sums, u = 2^-24.
Where a bound is infinite, nothing can be said about the element, and it is not judged.

The values come from the evaluator of the onnx package, run in float64; :data:`OWN` lists the operators that it gets
wrong or does not cover, with the reason, and computes them from the standard's formulas.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import NodeProto, helper
from onnx.reference import ReferenceEvaluator
from tests.differential import resampling, windows

U = 2.0**-24
LEAST = 2.0**-149
LARGEST = float(np.finfo(np.float32).max)
FUNCTION_ROUNDINGS = 32
"""Roundings of one exponential, error function or root, as `omniconv.reference.bounds` allows them."""


class UntoldError(Exception):
    """The evaluator has no answer for a node: the node is not legal, or not covered."""


@dataclass(frozen=True)
class Bounded:
    """Float64 values and, of the same shape, how far a float32 computation may be from each."""

    value: np.ndarray
    error: np.ndarray

    @classmethod
    def exact(cls, value: Any) -> Bounded:
        array = np.asarray(value, np.float64)
        return cls(array, np.zeros(array.shape))

    @property
    def shape(self) -> tuple[int, ...]:
        return self.value.shape


Item = Bounded | np.ndarray | None


def gamma(terms: float) -> float:
    return terms * U / (1 - terms * U)


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


def with_attributes(node: NodeProto, **changes: Any) -> NodeProto:
    """The node with other attributes; ``None`` removes one."""
    given = {key: value for key, value in {**attributes_of(node), **changes}.items() if value is not None}
    return helper.make_node(node.op_type, list(node.input), list(node.output), node.name, **given)


# -- values -----------------------------------------------------------------------------------------------------------


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
        low, high = given.get("min"), given.get("max")
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


def _unsqueeze(node: NodeProto, _opset: int, arrays: Sequence[Any]) -> list[np.ndarray]:
    """The evaluator inserts one axis after the other; all are meant of the result."""
    axes = arrays[1] if len(arrays) > 1 else attributes_of(node)["axes"]
    return [np.expand_dims(arrays[0], tuple(int(axis) for axis in np.reshape(axes, -1)))]


OWN: dict[str, Callable[..., list[np.ndarray]]] = {
    "Softmax": _softmax, "LogSoftmax": _softmax, "LRN": _lrn, "BatchNormalization": _batch_norm, "Selu": _selu,
    "Celu": _selu, "Gelu": _gelu, "Swish": _swish, "PRelu": _prelu, "Gemm": _gemm, "Clip": _clip,
    "Mean": _mean, "Pad": _pad, "Unsqueeze": _unsqueeze, "GlobalMaxPool": _global_max,
    # Slow (0.1 s a layer), wrong with groups and automatic padding, and without ceil mode: computed tap by tap.
    **dict.fromkeys(("Conv", "ConvTranspose", "MaxPool", "AveragePool"), windows.evaluate),
    "Resize": resampling.evaluate, "Upsample": resampling.evaluate,
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


# -- bounds -----------------------------------------------------------------------------------------------------------


def _raw(item: Item) -> np.ndarray | None:
    return item.value if isinstance(item, Bounded) else item


def _spread(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """``|a - b|``, 0 where both are the same infinity or not a number."""
    with np.errstate(all="ignore"):
        same = (a == b) | (np.isnan(a) & np.isnan(b))
        return np.where(same, 0.0, np.nan_to_num(np.abs(a - b), nan=np.inf, posinf=np.inf))


def _rounding(terms: float, magnitude: np.ndarray) -> np.ndarray:
    """The roundings of ``terms`` operations; infinities and NaN are exact."""
    return np.where(np.isfinite(magnitude), gamma(terms) * np.nan_to_num(magnitude), 0.0) + terms * LEAST


MOVES = frozenset(
    """Reshape Flatten Squeeze Unsqueeze Transpose Slice Split Concat Gather Expand Tile Identity Dropout DepthToSpace
    SpaceToDepth Cast Pad Relu Clip Abs Neg Where ReduceMax GlobalMaxPool MaxPool""".split()
)
"""The largest error that went in is the largest that comes out, element by element by the operator itself."""
SUMS = {
    "AveragePool", "GlobalAveragePool", "ReduceMean", "ReduceSum", "Mean", "Sum", "Add", "Sub",
    "Conv", "ConvTranspose", "Gemm", "MatMul",
}  # fmt: skip
"""Linear in each input: errors and magnitudes go through the operator with all its signs made positive."""
SAMPLES = (-1.0, -0.5, 0.0, 0.5, 1.0)


def bound(node: NodeProto, opset: int, items: Sequence[Item], outputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The error of each output of a node."""
    op = node.op_type
    if op in MOVES:
        return _bound_move(node, opset, items)
    if op in ("Max", "Min"):
        total = items[0]
        for item in items[1:]:
            total = Bounded(total.value + item.value, np.maximum(total.error, item.error))
        return [np.broadcast_to(total.error, outputs[0].shape)]
    if op == "ReduceMin":
        opposite = helper.make_node("ReduceMax", list(node.input), list(node.output), **attributes_of(node))
        return _bound_move(opposite, opset, items)
    if op in SUMS:
        return [_bound_sum(node, opset, items)]
    if op in ("Resize", "Upsample"):
        return [resampling.bound(node, items[0].value, items[0].error, outputs[0], U)]
    if op in ("Softmax", "LogSoftmax"):
        return [_bound_softmax(node, opset, items[0], outputs[0])]
    if op == "LRN":
        return [_bound_lrn(node, opset, items[0], outputs[0])]
    if op in NORMS:
        return [NORMS[op](node, items)]
    return [_bound_function(node, opset, items, outputs[0])]


def _bound_move(node: NodeProto, opset: int, items: Sequence[Item]) -> list[np.ndarray]:
    if node.op_type in ("Relu", "Clip", "Abs", "Neg"):
        return [items[0].error]
    arrays = [item.error if isinstance(item, Bounded) else item for item in items]
    if node.op_type == "Pad" and opset < 11:
        node = with_attributes(node, value=0.0)
    return values_of(node, opset, arrays)


def _positive(node: NodeProto) -> NodeProto:
    """The node with weights and factors made positive."""
    if node.op_type == "Sub":
        return helper.make_node("Add", list(node.input), list(node.output))
    if node.op_type == "Gemm":
        given = attributes_of(node)
        return with_attributes(node, **{key: abs(given[key]) for key in ("alpha", "beta") if key in given})
    return node


def _bound_sum(node: NodeProto, opset: int, items: Sequence[Item]) -> np.ndarray:
    def apply(pick: Callable[[Bounded], np.ndarray]) -> np.ndarray:
        return values_of(_positive(node), opset, [pick(item) if isinstance(item, Bounded) else item for item in items])[
            0
        ]

    magnitude = apply(lambda item: np.abs(item.value))
    spread = apply(lambda item: np.abs(item.value) + item.error) - magnitude
    terms = sum_length(node, opset, items, magnitude) + 4
    spread = np.where(np.isfinite(magnitude), spread, 0.0)
    # A sum may leave the range of float32 on the way, though its result, or the mean, lies inside.
    total = magnitude * (len(items) if node.op_type == "Mean" else terms if "Mean" in node.op_type else 1)
    spread = np.where(np.isfinite(total) & (total > LARGEST), np.inf, spread)
    if any(isinstance(item, Bounded) and np.isinf(item.error).any() for item in items):
        spread = np.where(_reached(node, opset, items) > 0, np.inf, spread)
    return np.maximum(spread, 0) * (1 + 1e-9) + _rounding(terms, magnitude)


def _reached(node: NodeProto, opset: int, items: Sequence[Item]) -> np.ndarray:
    """Above 0 where some term has no bound."""
    floats = [item for item in items if isinstance(item, Bounded)]
    unknown = [np.isinf(item.error).astype(np.float64) for item in floats]
    if node.op_type in ("Add", "Sub", "Sum", "Mean"):
        return np.asarray(sum(unknown))
    weights = (np.ones(floats[1].shape), np.zeros(floats[2].shape) if len(floats) > 2 else None) if floats[1:] else ()
    places = iter((unknown[0], *weights))
    return values_of(_positive(node), opset, [next(places) if isinstance(i, Bounded) else i for i in items])[0]


def sum_length(node: NodeProto, opset: int, items: Sequence[Item], y: np.ndarray) -> int:
    """Terms in the longest sum."""
    x = items[0]
    match node.op_type:
        case "Conv" | "ConvTranspose":
            return max(items[1].value[0].size, items[1].value.size // items[1].value.shape[1], 1)
        case "Gemm" | "MatMul":
            return max(x.shape)
        case "Add" | "Sub" | "Sum" | "Mean":
            return len(items) + 1
        case "AveragePool":
            return math.prod(attributes_of(node)["kernel_shape"])
    return max(x.value.size // max(y.size, 1), 1) + 1


def _bound_softmax(node: NodeProto, opset: int, x: Bounded, y: np.ndarray) -> np.ndarray:
    """A common factor cancels: relative error twice the largest error of the exponents, plus roundings of the sum."""
    worst = float(x.error.max(initial=0.0))
    scale = float(np.abs(x.value).max(initial=0.0))
    terms = gamma(FUNCTION_ROUNDINGS + x.value.size) + 2 * U * scale
    if node.op_type == "LogSoftmax":
        return np.full(y.shape, 2 * worst + terms + gamma(4) * scale) + gamma(4) * np.abs(y)
    return np.abs(y) * (np.expm1(min(2 * worst, 80.0)) + terms) + 4 * LEAST


def _bound_lrn(node: NodeProto, opset: int, x: Bounded, y: np.ndarray) -> np.ndarray:
    """The power of a sum of squares; at least half of ``bias`` must be left for the bound to hold."""
    given = attributes_of(node)
    beta, alpha = abs(given.get("beta", 0.75)), abs(given.get("alpha", 1e-4))
    wide = values_of(node, opset, [x.value])[0]
    worst = float((np.abs(x.value) + x.error).max(initial=0.0))
    bias = given.get("bias", 1.0)
    inner = alpha * worst * float(x.error.max(initial=0.0)) * 2 / max(bias, 1e-30)
    if inner > 0.25 or worst**2 * given["size"] * max(alpha, 1.0) > LARGEST:
        return np.full(y.shape, np.inf)
    factor = np.abs(wide) / np.where(x.value == 0, 1.0, np.abs(x.value))
    lowest = np.maximum(factor, bias**-beta if given.get("beta", 0.75) > 0 else factor)
    return x.error * lowest * 2 + np.abs(y) * (2 * beta * inner + gamma(FUNCTION_ROUNDINGS * (1 + beta) + x.shape[1]))


def _standardise(value: np.ndarray, error: np.ndarray, axes: tuple[int, ...], epsilon: float) -> Bounded:
    """``(x - mean) / sqrt(var + epsilon)``, each step with its error."""
    n = math.prod(value.shape[axis] for axis in axes)

    def mean(x: np.ndarray) -> np.ndarray:
        return x.mean(axes, keepdims=True)

    middle = mean(value)
    middle_error = mean(error) + gamma(n + 2) * mean(np.abs(value) + error)
    centred = value - middle
    centred_error = error + middle_error + U * (np.abs(centred) + error + middle_error)
    variance = mean(centred**2)
    variance_error = mean(2 * np.abs(centred) * centred_error + centred_error**2)
    variance_error = variance_error + gamma(n + 4) * (variance + variance_error + epsilon)
    with np.errstate(all="ignore"):
        low = variance + epsilon - variance_error
        root = np.sqrt(variance + epsilon)
        least = np.sqrt(np.where(low > 0, low, np.nan))
        y = centred / root
        far = (np.abs(centred) + centred_error) / least - np.abs(centred) / root
        near = np.abs(centred) / root - np.abs(centred) / np.sqrt(variance + epsilon + variance_error)
        wrong = np.maximum(far, np.maximum(near, 0) + centred_error / least) + gamma(8) * np.abs(y)
    total = n * (variance + variance_error)  # the squares may leave the range of float32
    wrong = np.where(total < LARGEST, np.nan_to_num(wrong, nan=np.inf, posinf=np.inf), np.inf)
    return Bounded(y, wrong)


def _affine(x: Bounded, scale: np.ndarray, bias: np.ndarray) -> np.ndarray:
    product = x.value * scale
    error = x.error * np.abs(scale)
    return error + gamma(4) * (np.abs(product) + error + np.abs(bias)) + 4 * LEAST


def _instance_norm(node: NodeProto, items: Sequence[Item]) -> np.ndarray:
    x, scale, bias = items
    done = _standardise(x.value, x.error, tuple(range(2, x.value.ndim)), attributes_of(node).get("epsilon", 1e-5))
    form = (-1, *(1,) * (x.value.ndim - 2))
    return _affine(done, scale.value.reshape(form), bias.value.reshape(form))


def _layer_norm(node: NodeProto, items: Sequence[Item]) -> np.ndarray:
    x, scale, bias = (*items, None)[:3]
    axis = attributes_of(node).get("axis", -1) % x.value.ndim
    axes = tuple(range(axis, x.value.ndim))
    done = _standardise(x.value, x.error, axes, attributes_of(node).get("epsilon", 1e-5))
    return _affine(done, scale.value, np.zeros(()) if bias is None else bias.value)


def _group_norm(node: NodeProto, items: Sequence[Item]) -> np.ndarray:
    x, scale, bias = items
    given = attributes_of(node)
    grouped = (x.shape[0], given["num_groups"], -1)
    done = _standardise(x.value.reshape(grouped), x.error.reshape(grouped), (2,), given.get("epsilon", 1e-5))
    shaped = Bounded(done.value.reshape(x.shape), done.error.reshape(x.shape))
    repeat = x.shape[1] // scale.value.size
    form = (-1, *(1,) * (x.value.ndim - 2))
    return _affine(shaped, scale.value.repeat(repeat).reshape(form), bias.value.repeat(repeat).reshape(form))


def _batch_bound(node: NodeProto, items: Sequence[Item]) -> np.ndarray:
    """One factor and one shift, each computed in float64 and rounded: the shift may be larger than the result."""
    x, *rest = items
    form = (-1, *(1,) * (x.value.ndim - 2))
    scale, bias, mean, var = (item.value.reshape(form) for item in rest)
    with np.errstate(all="ignore"):
        factor = np.abs(scale / np.sqrt(var + attributes_of(node).get("epsilon", 1e-5)))
    total = factor * (np.abs(x.value) + x.error + np.abs(mean)) + np.abs(bias)
    return x.error * factor + gamma(8) * total + 4 * LEAST


NORMS: dict[str, Callable[[NodeProto, Sequence[Item]], np.ndarray]] = {
    "InstanceNormalization": _instance_norm, "LayerNormalization": _layer_norm, "GroupNormalization": _group_norm,
    "BatchNormalization": _batch_bound,
}  # fmt: skip


def _bound_function(node: NodeProto, opset: int, items: Sequence[Item], y: np.ndarray) -> np.ndarray:
    """Elementwise functions of one or two values: the spread over the corners of their intervals, half as much again,
    and the roundings of the function.
    """
    given = [item for item in items if isinstance(item, Bounded)]
    spread = np.zeros(y.shape)
    if any(item.error.any() for item in given):
        choices = [(s,) for s in SAMPLES] if len(given) == 1 else [(s, t) for s in (-1, 0, 1) for t in (-1, 0, 1)]
        for choice in choices:
            moved = iter(item.value + s * item.error for item, s in zip(given, choice))
            arrays = [next(moved) if isinstance(item, Bounded) else item for item in items]
            spread = np.maximum(spread, _spread(values_of(node, opset, arrays)[0], y))
        spread = spread * 1.5
    if node.op_type in ("Div", "Reciprocal"):
        under = given[-1]
        # Also for 0 itself, whose sign ONNX leaves open: Relu and Max of -0 may be either.
        crossing = np.abs(under.value) <= under.error
        spread = np.where(np.broadcast_to(crossing, y.shape), np.inf, spread)
    if node.op_type in ("Mul", "Div", "PRelu", "LeakyRelu", "Reciprocal", "Sign", "Floor", "Ceil", "Round"):
        return spread + _rounding(3, np.abs(y))
    if node.op_type in ("Exp", "Sqrt", "Pow"):
        return spread + _rounding(FUNCTION_ROUNDINGS, np.abs(y))
    scale = np.minimum(np.abs(given[0].value), 1.0) if len(given) == 1 else 0.0
    extra = attributes_of(node)
    factor = max(1.0, *(abs(v) for v in extra.values() if isinstance(v, float)), 0.0)
    return spread + _rounding(FUNCTION_ROUNDINGS, np.abs(y) + np.nan_to_num(scale) * factor) + _hard(node, given)


def _hard(node: NodeProto, given: Sequence[Bounded]) -> np.ndarray | float:
    """``alpha x + beta`` before it is clipped."""
    if node.op_type not in ("HardSigmoid", "HardSwish"):
        return 0.0
    extra = attributes_of(node)
    alpha, beta = extra.get("alpha", 0.2), extra.get("beta", 0.5)
    inner = np.minimum(np.abs(alpha * given[0].value) + abs(beta), abs(beta) + 2)
    return (
        gamma(4) * np.nan_to_num(inner) * (np.minimum(np.abs(given[0].value), 8) if node.op_type == "HardSwish" else 1)
    )


def evaluate(node: NodeProto, opset: int, items: Sequence[Item]) -> list[Item]:
    """The outputs of a node: floats with their bounds, integers and booleans as they are.

    Raises:
        UntoldError: the evaluator has no answer.
    """
    outputs = values_of(node, opset, [_raw(item) for item in items])
    if not any(isinstance(item, Bounded) for item in items) or outputs[0].dtype.kind != "f":
        return [Bounded.exact(y) if y.dtype.kind == "f" else y for y in outputs]
    with np.errstate(all="ignore"):
        errors = bound(node, opset, items, outputs)
    found: list[Item] = []
    for y, error in zip(outputs, errors):
        y = np.asarray(y, np.float64)
        error = np.nan_to_num(np.broadcast_to(np.asarray(error, np.float64), y.shape), nan=np.inf, posinf=np.inf)
        # What leaves the range of float32 is infinity or not, depending on the order of operations.
        beyond = np.isfinite(y) & (np.abs(y) + error > LARGEST)
        found.append(Bounded(y, np.where(beyond, np.inf, error)))
    return found
