"""What a `Program` means: a NumPy float64 interpreter of every step, clear and slow.

It is written from the docstrings of :mod:`omniconv.program.steps` alone and shares no code with the compiler or with
the passes over graphs, so that it can judge both.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from tests.gradient_oracle import gradients

from omniconv.program.element import BFLOAT16
from omniconv.program.levels import Levels
from omniconv.program.program import Program
from omniconv.program.steps import (
    Array,
    ChannelStep,
    ConcatStep,
    ConstantStep,
    ConvStep,
    CumSumStep,
    DenseStep,
    LrnStep,
    MapStep,
    MomentsStep,
    NormaliseGradientStep,
    NormaliseStep,
    NormaliseSumsStep,
    PadStep,
    PoolStep,
    PostOp,
    ProductStep,
    ProgramStep,
    QuantisedConvStep,
    QuantisedDenseStep,
    QuantisedMapStep,
    QuantisedMeanStep,
    QuantisedTableStep,
    RearrangeStep,
    RecurrentStep,
    ReduceStep,
    ResizeStep,
    SliceStep,
    SoftmaxStep,
    StandardiseStep,
    WeightGradientStep,
)
from omniconv.spec import Activation

Float64 = npt.NDArray[np.float64]
Values = dict[str, Float64]

_erf = np.vectorize(math.erf, otypes=[np.float64])


def _sigmoid(x: Float64) -> Float64:
    small = np.exp(-np.abs(x))
    return np.asarray(np.where(x >= 0, 1.0, small) / (1 + small))


def _power(x: Float64, y: Float64) -> Float64:
    """C's pow: NumPy takes a root where the exponent is 1/2, which -infinity does not have."""
    found = np.power(x, y)
    return np.asarray(np.where(np.isneginf(x) & (y == 0.5), np.inf, found))


ACTIVATIONS: dict[str, Callable[..., Any]] = {
    "relu": lambda x: np.maximum(x, 0),
    "relu6": lambda x: np.minimum(np.maximum(x, 0), 6),
    "clip": lambda x, lo, hi: np.minimum(np.maximum(x, lo), hi),
    "leaky_relu": lambda x, alpha: np.where(x >= 0, x, alpha * x),
    "elu": lambda x, alpha: np.where(x >= 0, x, alpha * (np.exp(np.minimum(x, 0)) - 1)),
    "sigmoid": _sigmoid,
    "silu": lambda x: x * _sigmoid(x),
    "hard_sigmoid": lambda x, alpha, beta: np.minimum(np.maximum(alpha * x + beta, 0), 1),
    "hard_swish": lambda x: x * np.minimum(np.maximum(x / 6 + 0.5, 0), 1),
    "tanh": np.tanh,
    "exp": np.exp,
    "sqrt": np.sqrt,
    "abs": np.abs,
    "neg": np.negative,
    "gelu": lambda x: x / 2 * (1 + _erf(x / math.sqrt(2))),
    "gelu_tanh": lambda x: x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
}

BINARY: dict[str, Callable[[Float64, Float64], Any]] = {
    "add": lambda v, a: v + a,
    "sub": lambda v, a: v - a,
    "rsub": lambda v, a: a - v,
    "mul": lambda v, a: v * a,
    "div": lambda v, a: v / a,
    "rdiv": lambda v, a: a / v,
    "max": np.maximum,
    "min": np.minimum,
    "prelu": lambda v, a: np.where(v >= 0, v, a * v),
    "threshold": lambda v, a: np.where(v > a, v, 0.0),
    "less": np.less,
    "less_equal": np.less_equal,
    "greater": np.greater,
    "greater_equal": np.greater_equal,
    "equal": np.equal,
    "keep": lambda v, a: np.where(a != 0, v, -0.0),
    "rkeep": lambda v, a: np.where(v != 0, a, -0.0),
    "drop": lambda v, a: np.where(a != 0, -0.0, v),
    "rdrop": lambda v, a: np.where(v != 0, -0.0, a),
    "pow": _power,
    "rpow": lambda v, a: _power(a, v),
    "fmod": np.fmod,
    "rfmod": lambda v, a: np.fmod(a, v),
}

FUNCTIONS: dict[str, Callable[[Float64], Any]] = {
    "log": np.log,
    "erf": _erf,
    "sign": np.sign,
    "floor": np.floor,
    "ceil": np.ceil,
    "round": np.rint,
    "sin": np.sin,
    "cos": np.cos,
    "tan": np.tan,
    "asin": np.arcsin,
    "acos": np.arccos,
    "atan": np.arctan,
    "sinh": np.sinh,
    "cosh": np.cosh,
    "asinh": np.arcsinh,
    "acosh": np.arccosh,
    "atanh": np.arctanh,
    "softplus": lambda x: np.logaddexp(x, 0),
    "softsign": lambda x: x / (1 + np.abs(x)),
    "mish": lambda x: x * np.tanh(np.logaddexp(x, 0)),
}


def activate(activation: Activation, x: Float64) -> Float64:
    """One activation in float64."""
    return np.asarray(ACTIVATIONS[activation.name](x, **dict(activation.parameters)), np.float64)


def apply_post(v: Float64, post: Sequence[PostOp], values: Values) -> Float64:
    """The elementwise operations after a step."""
    for op in post:
        if op.op == "act":
            assert op.activation is not None
            v = activate(op.activation, v)
        elif op.op in FUNCTIONS:
            v = np.asarray(FUNCTIONS[op.op](v), np.float64)
        else:
            assert op.operand is not None
            a = values[op.operand] if isinstance(op.operand, str) else op.operand.astype(np.float64)
            v = np.asarray(BINARY[op.op](v, a), np.float64)
    return v


def _pad_spatial(x: Float64, pairs: Sequence[tuple[int, int]], mode: str) -> Float64:
    modes: dict[str, Any] = {"zeros": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}
    return np.pad(x, [(0, 0), (0, 0), *pairs], mode=modes[mode])


def _window(start: Sequence[int], stride: Sequence[int], count: Sequence[int]) -> tuple[slice, ...]:
    return (
        slice(None),
        slice(None),
        *(slice(a, a + s * (n - 1) + 1, s) for a, s, n in zip(start, stride, count, strict=True)),
    )


def run_conv(step: ConvStep, values: Values) -> Float64:
    """A convolution, tap by tap."""
    x, spec, groups = values[step.x], step.spec, step.spec.groups
    w = _number(step.w, values)
    taps = list(itertools.product(*map(range, spec.kernel_size)))
    n, sizes = x.shape[0], x.shape[2:]
    split = x.reshape(n, groups, spec.in_channels // groups, *sizes)
    out_group = spec.out_channels // groups
    assert not isinstance(spec.padding, str)

    def tap_weight(tap: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(k - 1 - t for k, t in zip(spec.kernel_size, tap, strict=True)) if spec.flip else tap

    if spec.transposed:
        wg = w.reshape(groups, spec.in_channels // groups, out_group, *spec.kernel_size)
        full = [
            (i - 1) * s + d * (k - 1) + 1 + extra
            for i, s, d, k, extra in zip(
                sizes, spec.stride, spec.dilation, spec.kernel_size, spec.output_padding, strict=True
            )
        ]
        y = np.zeros((n, spec.out_channels, *full))
        for tap in taps:
            wt = wg[(slice(None),) * 3 + tap_weight(tap)]
            part = np.einsum("gio,ngi...->ngo...", wt, split, optimize=True).reshape(n, spec.out_channels, *sizes)
            y[_window([t * d for t, d in zip(tap, spec.dilation, strict=True)], spec.stride, sizes)] += part
        y = y[
            (slice(None), slice(None), *(slice(a, size - b) for (a, b), size in zip(spec.padding, full, strict=True)))
        ]
    else:
        padded = _pad_spatial(x, spec.padding, spec.padding_mode)
        counts = [
            (size - d * (k - 1) - 1) // s + 1
            for size, d, k, s in zip(padded.shape[2:], spec.dilation, spec.kernel_size, spec.stride, strict=True)
        ]
        padded = padded.reshape(n * groups, spec.in_channels // groups, *padded.shape[2:])
        wg = w.reshape(groups, out_group, spec.in_channels // groups, *spec.kernel_size)
        y = np.zeros((n, groups, out_group, math.prod(counts)))
        for tap in taps:
            wt = wg[(slice(None),) * 3 + tap_weight(tap)]
            view = padded[_window([t * d for t, d in zip(tap, spec.dilation, strict=True)], spec.stride, counts)]
            y += wt @ view.reshape(n, groups, spec.in_channels // groups, -1)
        y = y.reshape(n, spec.out_channels, *counts)
    if step.b is not None:
        y = y + _number(step.b, values).reshape(1, -1, *(1,) * spec.dims)
    return y


def _number(operand: Array | str, values: Values) -> Float64:
    """A constant, or the value of that name."""
    return values[operand] if isinstance(operand, str) else operand.astype(np.float64)


def run_pool(step: PoolStep, x: Float64, shape: Sequence[int]) -> Float64:
    """A pool: taps over an input widened far enough for every window."""
    counts = shape[2:]
    far = [
        (before, max(after, (n - 1) * s + d * (k - 1) + 1 - before - size))
        for (before, after), n, s, d, k, size in zip(
            step.padding, counts, step.stride, step.dilation, step.kernel, x.shape[2:], strict=True
        )
    ]
    wide = np.pad(x, [(0, 0), (0, 0), *far], constant_values=-np.inf if step.op == "max" else 0.0)
    # Positions that count in the divisor: the input, or the input with its explicit padding.
    counted = step.padding if step.count_padding else ((0, 0),) * len(far)
    inside = np.pad(np.ones((1, 1, *x.shape[2:])), [(0, 0), (0, 0), *counted], constant_values=1.0)
    rest = [(f[0] - c[0], f[1] - c[1]) for f, c in zip(far, counted, strict=True)]
    inside = np.pad(inside, [(0, 0), (0, 0), *rest])
    result = np.full(tuple(shape), -np.inf if step.op == "max" else 0.0)
    divisor = np.zeros((1, 1, *counts))
    for tap in itertools.product(*map(range, step.kernel)):
        window = _window([t * d for t, d in zip(tap, step.dilation, strict=True)], step.stride, counts)
        result = np.maximum(result, wide[window]) if step.op == "max" else result + wide[window]
        divisor += inside[window]
    return result if step.op == "max" else result / divisor


def _softmax(step: SoftmaxStep, x: Float64) -> Float64:
    shifted = x - x.max(step.axis, keepdims=True)
    total = np.exp(shifted).sum(step.axis, keepdims=True)
    return np.asarray(shifted - np.log(total) if step.log else np.exp(shifted) / total)


def _standardise(step: StandardiseStep, x: Float64) -> Float64:
    axes = tuple(range(-step.axes, 0))
    centred = x - x.mean(axes, keepdims=True)
    return np.asarray(centred / np.sqrt((centred**2).mean(axes, keepdims=True) + step.epsilon))


def _lrn(step: LrnStep, x: Float64) -> Float64:
    squares = np.zeros_like(x)
    channels = x.shape[1]
    for c in range(channels):
        low, high = max(c - (step.size - 1) // 2, 0), min(c + step.size // 2, channels - 1)
        squares[:, c] = (x[:, low : high + 1] ** 2).sum(1)
    return np.asarray(x / (step.bias + step.alpha / step.size * squares) ** step.beta)


def _slice(step: SliceStep, x: Float64, shape: Sequence[int]) -> Float64:
    for axis, (start, stride, count) in enumerate(zip(step.starts, step.steps, shape, strict=True)):
        x = np.take(x, start + stride * np.arange(count), axis)
    return x


def _resize(step: ResizeStep, x: Float64) -> Float64:
    for axis, (index, weight) in enumerate(zip(step.index, step.weight, strict=True), 2):
        form = [1] * x.ndim
        form[axis] = index.shape[1]
        x = sum(
            (
                np.take(x, row, axis) * factor.astype(np.float64).reshape(form)
                for row, factor in zip(index, weight, strict=True)
            ),
            start=np.zeros(()),
        )
    return x


def run_recurrence(step: RecurrentStep, values: Values, shape: Sequence[int]) -> Float64:
    """A recurrent layer, one sequence in one direction after the other, one time after the other."""
    total, directions, batch, hidden = shape
    times, y = total - step.states, np.zeros(tuple(shape))
    x = values[step.x].reshape(times, batch, directions, -1, hidden)
    zeros = np.zeros((directions, batch, hidden))
    if step.rounded:
        return _run_rounded(step, values, y, x)
    for d, n in itertools.product(range(directions), range(batch)):
        w = step.w[d].astype(np.float64).reshape(-1, hidden, hidden)
        h, c = (zeros if name is None else values[name] for name in (step.h, step.c))
        h, c, length = h[d, n], c[d, n], times if step.lengths is None else step.lengths[n]
        for t in reversed(range(length)) if step.reverse[d] else range(length):
            h, c = _run_cell(step, d, x[t, n, d], w, h, c)
            y[t, d, n] = h
        y[times, d, n] = h
        if step.states == 2:
            y[times + 1, d, n] = c
    return y


def round_states(h: Float64) -> Float64:
    """Each the nearest of 256 levels of the range of all."""
    low, high = min(h.min(), 0.0), max(h.max(), 0.0)
    width = (high - low) / 255 or 1.0
    point = np.rint(-low / width)
    return np.asarray(width * np.clip(np.rint(h / width), -point, 255 - point))


def _run_rounded(step: RecurrentStep, values: Values, y: Float64, x: Float64) -> Float64:
    """An LSTM with rounded states, all sequences of a direction at once."""
    times, batch, directions, _, hidden = x.shape
    zeros = np.zeros((directions, batch, hidden))
    h, c = (np.array(zeros if name is None else values[name]) for name in (step.h, step.c))
    for d in range(directions):
        w = step.w[d].astype(np.float64)
        w = (w if step.scale is None else w * step.scale[d, :, None]).reshape(-1, hidden, hidden)
        for t in reversed(range(times)) if step.reverse[d] else range(times):
            rounded = round_states(h[d])
            for n in range(batch):
                h[d, n], c[d, n] = _run_cell(step, d, x[t, n, d], w, rounded[n], c[d, n])
            y[t, d] = h[d]
        y[times, d], y[times + 1, d] = h[d], c[d]
    return y


def _run_cell(step: RecurrentStep, d: int, x: Float64, w: Float64, h: Float64, c: Float64) -> tuple[Float64, Float64]:
    """The new state and the new cell."""
    bound = np.inf if step.clip is None else step.clip
    f, g, *_ = (
        lambda s, act=act: activate(act, np.clip(s, -bound, bound)) for act in (*step.functions[d], *step.functions[d])
    )
    if step.cell == "rnn":
        return f(x[0] + w[0] @ h), c
    if step.cell == "gru":
        z, r = f(x[0] + w[0] @ h), f(x[1] + w[1] @ h)
        n = g(x[2] + w[2] @ (r * h)) if step.b is None else g(x[2] + r * (w[2] @ h + step.b[d].astype(np.float64)))
        return (1 - z) * n + z * h, c
    p = np.zeros((3, 1)) if step.p is None else step.p[d].astype(np.float64).reshape(3, -1)
    i = f(x[0] + w[0] @ h + p[0] * c)
    kept = 1 - i if step.coupled else f(x[2] + w[2] @ h + p[2] * c)
    c = kept * c + i * g(x[3] + w[3] @ h)
    return f(x[1] + w[1] @ h + p[1] * c) * activate(step.functions[d][2], c), c


def run_step(step: ProgramStep, values: Values, shape: Sequence[int]) -> Float64:
    """One step; ``shape`` is the shape its value must have."""
    match step:
        case ConcatStep():
            return np.concatenate([values[name] for name in step.xs], step.axis)
        case ConvStep():
            return apply_post(run_conv(step, values), step.post, values)
        case ProductStep():
            return apply_post(np.matmul(values[step.x], values[step.w]), step.post, values)
        case ConstantStep():
            return step.value.astype(np.float64)
        case DenseStep():
            y = values[step.x] @ step.w.astype(np.float64).T
            return apply_post(y if step.b is None else y + step.b.astype(np.float64), step.post, values)
        case PoolStep():
            return run_pool(step, values[step.x], shape)
        case ReduceStep():
            x = values[step.x]
            functions: dict[str, Callable[..., Any]] = {
                "mean": np.mean,
                "max": np.max,
                "sum": np.sum,
                "min": np.min,
                "prod": np.prod,
            }
            return np.asarray(functions[step.op](x, axis=tuple(range(2, x.ndim)))).reshape(tuple(shape))
        case MapStep():
            return apply_post(np.array(np.broadcast_to(values[step.x], tuple(shape))), step.post, values)
        case SoftmaxStep():
            return _softmax(step, values[step.x])
        case StandardiseStep():
            return apply_post(_standardise(step, values[step.x]), step.post, values)
        case LrnStep():
            return _lrn(step, values[step.x])
        case ChannelStep():
            return values[step.x][:, list(step.source)]
        case RearrangeStep():
            return values[step.x].reshape(step.split).transpose(step.perm).reshape(tuple(shape))
        case SliceStep():
            return _slice(step, values[step.x], shape)
        case PadStep():
            mode: Any = step.mode
            more = {"constant_values": step.value} if mode == "constant" else {}
            return np.pad(values[step.x], step.pads, mode=mode, **more)
        case ResizeStep():
            return _resize(step, values[step.x])
        case RecurrentStep():
            return run_recurrence(step, values, shape)
        case CumSumStep():
            x = np.moveaxis(values[step.x], step.axis, 0)[:: -1 if step.reverse else 1]
            y = np.cumsum(x, 0)
            if step.exclusive:
                y = np.concatenate([np.zeros_like(y[:1]), y[:-1]])
            return np.moveaxis(y[:: -1 if step.reverse else 1], 0, step.axis)
        case WeightGradientStep():
            return gradients(step.spec, values[step.x], np.zeros(tuple(shape)), None, values[step.dy]).dw
        case MomentsStep():
            return moments(values[step.x])
        case (
            QuantisedConvStep() | QuantisedDenseStep() | QuantisedMeanStep() | QuantisedTableStep() | QuantisedMapStep()
        ):
            return run_quantised(step, values, shape)
        case NormaliseStep() | NormaliseSumsStep() | NormaliseGradientStep():
            return normalise(step, values)


def _channels(array: npt.NDArray[Any], rank: int) -> npt.NDArray[Any]:
    """One number for each channel, against a value of so many axes."""
    return array.reshape(1, -1, *(1,) * (rank - 2))


def requantise(total: Float64, factor: npt.NDArray[np.float32] | np.float32, levels: Levels | None) -> Float64:
    """Sums of 32 bits on levels: rounded to float32, multiplied in float32, rounded to the nearest, or not."""
    assert np.abs(total).max() < 2**31
    scaled = total.astype(np.float32) * factor
    assert scaled.dtype == np.float32
    if levels is None:
        return scaled.astype(np.float64)
    return np.clip(np.rint(scaled), levels.low, levels.high).astype(np.float64)


def run_quantised(step: ProgramStep, values: Values, shape: Sequence[int]) -> Float64:
    """A step on integers."""
    match step:
        case QuantisedConvStep():
            plain = ConvStep(step.x, step.y, step.spec, step.w.astype(np.float64), step.b.astype(np.float64))
            return requantise(run_conv(plain, values), _channels(step.factor, len(shape)), step.levels)
        case QuantisedDenseStep():
            return requantise(values[step.x] @ step.w.astype(np.float64).T + step.b, step.factor, step.levels)
        case QuantisedMeanStep():
            x = values[step.x]
            total = x.sum(tuple(range(2, x.ndim))).reshape(tuple(shape))
            return requantise(total, step.factor(*x.shape[2:]), step.levels)
        case QuantisedTableStep():
            # Between two integers what lies between their entries, for tests that move values by less than one.
            integers = np.arange(step.x_levels.low, step.x_levels.high + 1)
            return np.interp(values[step.x], integers, step.table)
    assert isinstance(step, QuantisedMapStep)
    return run_quantised_map(step, values, shape)


def run_quantised_map(step: QuantisedMapStep, values: Values, shape: Sequence[int]) -> Float64:
    """Elementwise operations, each rounded to float32 where a rounding to levels follows: that has to be the same."""
    element = np.dtype(np.float64 if step.levels is None else np.float32)

    def read(name: str, scale: float | None) -> Float64:
        found = values[name].astype(element)
        return np.asarray(found if scale is None else found * element.type(scale), np.float64)

    v, scales = np.array(np.broadcast_to(read(step.x, step.x_scale), tuple(shape))), iter(step.scales)
    for op in step.post:
        known = {op.operand: read(op.operand, next(scales))} if isinstance(op.operand, str) else {}
        v = apply_post(v, [op], known).astype(element).astype(np.float64)
    if step.levels is None:
        return v
    quotient = (v.astype(np.float32) / np.float32(step.levels.scale)).astype(np.float64)
    found = np.clip(np.rint(quotient), step.levels.low, step.levels.high)
    return np.where(np.isnan(found), step.levels.low, found)


def moments(x: Float64) -> Float64:
    """Mean, variance and unbiased variance of each channel."""
    axes, n = (0, *range(2, x.ndim)), x.size // x.shape[1]
    return np.stack([x.mean(axes), x.var(axes), x.var(axes) * n / (n - 1)])


def normalise(step: NormaliseStep | NormaliseSumsStep | NormaliseGradientStep, values: Values) -> Float64:
    """Normalised values, or what their gradient is made of; the slope of an activation is found by differences."""
    x = values[step.x]
    wide = lambda numbers: np.reshape(numbers, (1, -1, *(1,) * (x.ndim - 2)))
    mean, variance = (wide(values[name]) for name in (step.mean, step.variance))
    w, b = (1.0, 0.0) if step.w is None else (wide(values[name]) for name in (step.w, step.b))
    r = 1 / np.sqrt(variance + step.epsilon)
    z = (x - mean) * r * w + b
    f = (
        (lambda z: z)
        if step.activation is None
        else (lambda z: ACTIVATIONS[step.activation.name](z, **dict(step.activation.parameters)))
    )
    if isinstance(step, NormaliseStep):
        return np.asarray(f(z))
    h = 1e-5
    g = (f(z + h) - f(z - h)) / (2 * h) * values[step.dy]
    if isinstance(step, NormaliseSumsStep):
        axes = (0, *range(2, x.ndim))
        return np.stack([g.sum(axes), (g * (x - mean) * r).sum(axes)])
    if step.sums is not None:
        db, dw = map(wide, values[step.sums])
        n = x.size // x.shape[1]
        g = g - db / n - (x - mean) * r * dw / n
    return np.asarray(g * r * w)


def rounded(x: npt.NDArray[Any]) -> Float64:
    """Numbers of float32 rounded to the nearest with 8 digits, halves to even."""
    with np.errstate(invalid="ignore"):
        exact = np.asarray(x, np.float32).astype(np.float64)
    finite = np.isfinite(exact)
    unit = 2.0 ** (np.maximum(np.frexp(np.where(finite, exact, 0.0))[1], -125) - 8)
    found = np.where(finite, np.rint(exact / unit) * unit, exact)
    return np.where(np.abs(found) >= 2.0**128, np.copysign(np.inf, found), found)


def run_program(program: Program, inputs: Mapping[str, npt.ArrayLike]) -> dict[str, Float64]:
    """Run a program in float64 and check every shape on the way.

    Args:
        program: the program.
        inputs: an array for each input, by name.

    Returns:
        The outputs by name.
    """
    values: Values = {name: np.asarray(inputs[name], np.float64) for name in program.inputs}
    for name, value in values.items():
        assert value.shape == program.shapes[name], (name, value.shape, program.shapes[name])
    with np.errstate(all="ignore"):
        for step in program.steps:
            if step.y in program.rounded:
                step = replace(step, w=rounded(step.w))
            value = run_step(step, values, program.shapes[step.y])
            assert value.shape == program.shapes[step.y], (step.y, value.shape, program.shapes[step.y])
            values[step.y] = rounded(value) if program.elements.get(step.y) is BFLOAT16 else value
    return {name: values[name] for name in program.outputs}
