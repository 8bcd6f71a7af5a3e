"""What one node of a graph gives in float64, and how far float32 arithmetic may be from it.

Every value travels with a bound of its error (running error analysis): an operator carries the errors of its inputs to
its output and adds its own roundings, ``gamma(n) = n u / (1 - n u)`` times the magnitudes that it sums, u = 2^-24.
Where a bound is infinite, nothing can be said about the element, and it is not judged.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import NodeProto, helper
from tests.differential import norms, resampling
from tests.differential.attention import bound_attention, bound_rotary
from tests.differential.values import attributes_of, values_of

U = 2.0**-24
LEAST = 2.0**-149
LARGEST = float(np.finfo(np.float32).max)
FUNCTION_ROUNDINGS = 32
"""Roundings of one exponential, error function or root, as `omniconv.reference.bounds` allows them."""


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


def with_attributes(node: NodeProto, **changes: Any) -> NodeProto:
    """The node with other attributes; ``None`` removes one."""
    given = {key: value for key, value in {**attributes_of(node), **changes}.items() if value is not None}
    return helper.make_node(node.op_type, list(node.input), list(node.output), node.name, **given)


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
    SpaceToDepth GatherElements GatherND Trilu Cast Pad Relu Clip Abs Neg Where ReduceMax GlobalMaxPool
    MaxPool""".split()
)
"""The largest error that went in is the largest that comes out, element by element by the operator itself."""
SUMS = {
    "AveragePool", "GlobalAveragePool", "ReduceMean", "ReduceSum", "Mean", "Sum", "Add", "Sub",
    "Conv", "ConvTranspose", "Gemm", "MatMul", "CumSum", "Einsum", "Col2Im",
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
    if op == "Attention":
        return [bound_attention(node, items, outputs[0], gamma, FUNCTION_ROUNDINGS)]
    if op == "RotaryEmbedding":
        return [bound_rotary(node, opset, items, gamma(4)) + 4 * LEAST]
    if op == "LRN":
        return [_bound_lrn(node, opset, items[0], outputs[0])]
    if op in ("LSTM", "GRU", "RNN"):
        from tests.differential import recurrent

        errors = [item.error if isinstance(item, Bounded) else 0.0 for item in items]
        return recurrent.evaluate(node, [_raw(item) for item in items], errors, U)[1]
    if op in norms.JUDGED:
        x, *rest = items
        return [norms.bound(node, x.value, x.error, [x.value, *map(_raw, rest)], outputs[0], U)]
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
    if node.op_type == "Einsum":
        ones = [np.ones(item.shape) for item in floats]
        found = (values_of(node, opset, [*ones[:i], u, *ones[i + 1 :]])[0] for i, u in enumerate(unknown))
        return np.asarray(sum(found))
    weights = (np.ones(floats[1].shape), np.zeros(floats[2].shape) if len(floats) > 2 else None) if floats[1:] else ()
    places = iter((unknown[0], *weights))
    return values_of(_positive(node), opset, [next(places) if isinstance(i, Bounded) else i for i in items])[0]


def sum_length(node: NodeProto, opset: int, items: Sequence[Item], y: np.ndarray) -> int:
    """Terms in the longest sum."""
    x = items[0]
    match node.op_type:
        case "Conv" | "ConvTranspose":
            return max(items[1].value[0].size, items[1].value.size // items[1].value.shape[1], 1)
        case "Einsum":
            left, _, right = attributes_of(node)["equation"].decode().partition("->")
            terms = left.replace("...", "").split(",")
            sizes = {c: s for term, item in zip(terms, items) for c, s in zip(term, item.shape) if c not in right}
            return math.prod(sizes.values()) + len(items)
        case "Gemm" | "MatMul" | "CumSum" | "Col2Im":
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


def _mean_variance(node: NodeProto, items: Sequence[Item]) -> np.ndarray:
    x = items[0]
    axes = tuple(axis % x.value.ndim for axis in attributes_of(node).get("axes", (0, 2, 3)))
    done = _standardise(x.value, x.error, axes, 0.0)
    return np.where(np.isfinite(done.value), 2 * done.error + gamma(8) * np.abs(done.value), np.inf)


NORMS: dict[str, Callable[[NodeProto, Sequence[Item]], np.ndarray]] = {
    "InstanceNormalization": _instance_norm,
    "LayerNormalization": _layer_norm,
    "GroupNormalization": _group_norm,
    "BatchNormalization": _batch_bound,
    "MeanVarianceNormalization": _mean_variance,
}


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
    for item in given:
        # NaN that may as well be a number, such as the root of what is 0 or a little below, stays unknown.
        lost = np.isinf(item.error) & np.isnan(item.value)
        if lost.any():
            spread = np.where(np.broadcast_to(lost, y.shape), np.inf, spread)
    if node.op_type in ("Div", "Reciprocal"):
        under = given[-1]
        # Also for 0 itself, whose sign ONNX leaves open: Relu and Max of -0 may be either.
        crossing = np.abs(under.value) <= under.error
        spread = np.where(np.broadcast_to(crossing, y.shape), np.inf, spread)
    if node.op_type in ("Sin", "Cos", "Tan", "Mod") and max(float(i.error.max(initial=0)) for i in given) > 0.05:
        return np.full(y.shape, np.inf)
    if node.op_type in ("Mul", "Div", "PRelu", "LeakyRelu", "Reciprocal", "Sign", "Floor", "Ceil", "Round", "Mod"):
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
