"""How each supported operator is drawn: attributes over their whole legal range, for the opset of the draft."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from onnx import TensorProto
from tests.differential.draft import WIDEST, Draft, UnfitError

Draw = Callable[[Draft], Any]
GENERATORS: dict[str, tuple[int, Draw]] = {}
"""Operator -> the first opset, and what appends one node of it to a draft."""


def generator(*names: str, since: int = 7) -> Callable[[Callable[[Draft, str], Any]], Callable[[Draft, str], Any]]:
    def register(draw: Callable[[Draft, str], Any]) -> Callable[[Draft, str], Any]:
        for name in names:
            GENERATORS[name] = (since, lambda g, name=name: draw(g, name))
        return draw

    return register


def axis_of(g: Draft, rank: int) -> int:
    return g.whole(-rank, rank - 1) if rank else 0


def counted(g: Draft, axis: int, rank: int) -> int:
    """An axis, counted from the end where the opset allows it."""
    return axis - rank if g.opset >= 11 and g.chance(0.4) else axis


# -- elementwise ------------------------------------------------------------------------------------------------------


@generator("Relu", "Sigmoid", "Tanh", "Exp", "Abs", "Neg", "Identity", "Reciprocal", "Sqrt")
def _plain(g: Draft, op: str) -> None:
    x = g.pick()
    if op in ("Sqrt", "Reciprocal") and g.style != "special" and g.chance(0.7):
        (x,) = g.emit("Abs", x)
        x = g.emit("Add", x, g.const(g.number(1.0, 0.5) ** 2 + 0.25, np.float32))[0]
    g.emit(op, x)


@generator("HardSwish", since=14)
def _hard_swish(g: Draft, op: str) -> None:
    g.emit(op, g.pick())


@generator("LeakyRelu", "Elu", "Selu", "HardSigmoid")
def _with_alpha(g: Draft, op: str) -> None:
    given = {"alpha": g.number(0.01, 0.0, 1.0, 0.1) if g.chance(0.8) else None}
    if op == "Selu":
        given["gamma"] = g.number(1.0, 1.05)
    if op == "HardSigmoid":
        given["beta"] = g.number(0.5, 0.0, 1.0)
    g.emit(op, g.pick(), **given)


@generator("Celu", since=12)
def _celu(g: Draft, op: str) -> None:
    g.emit(op, g.pick(), alpha=abs(g.number(1.0, 0.5, 2.0)) + 0.125)


@generator("Gelu", since=20)
def _gelu(g: Draft, op: str) -> None:
    g.emit(op, g.pick(), approximate=g.choose("none", "tanh", None))


@generator("Swish", since=24)
def _swish(g: Draft, op: str) -> None:
    g.emit(op, g.pick(), alpha=g.number(1.0, 1.702, 0.0))


@generator("Dropout")
def _dropout(g: Draft, op: str) -> None:
    if g.opset < 12:
        g.emit(op, g.pick(), ratio=g.choose(0.0, 0.5, None))
    else:
        g.emit(op, g.pick(), g.const(0.4, np.float32) if g.chance(0.5) else "")


@generator("Clip")
def _clip(g: Draft, op: str) -> None:
    low = g.choose(None, g.number(0.0, -1.0, -65504.0, 1.0))
    high = g.choose(None, g.number(6.0, 1.0, 65504.0, -1.0))
    if g.opset < 11:
        if low is not None and high is not None and low > high:
            low, high = high, low
        g.emit(op, g.pick(), min=low, max=high)
        return
    bounds = ["" if b is None else g.const(b, np.float32) for b in (low, high)]
    g.emit(op, g.pick(), *bounds)


def broadcastable(g: Draft, shape: tuple[int, ...], *, wider: bool = True) -> tuple[int, ...]:
    """A shape that broadcasts with ``shape``, or (not wider) to it."""
    drawn = [size if g.chance(0.6) else 1 for size in shape]
    drawn = drawn[g.whole(0, len(drawn)) :] if g.chance(0.4) else drawn
    if wider:
        if g.chance(0.2) and math.prod(shape) < 500:
            drawn = [g.whole(1, 4) if size == 1 and g.chance(0.5) else size for size in drawn]
        if g.chance(0.1) and len(drawn) == len(shape) < 6:
            drawn = [g.whole(1, 3), *drawn]
        for index in range(1, min(len(drawn), len(shape)) + 1):  # only sizes of 1 may have grown
            if drawn[-index] not in (1, shape[-index]) and shape[-index] != 1:
                drawn[-index] = 1
    return tuple(drawn)


def partner(g: Draft, x: str) -> str:
    """Another value, or a constant, that broadcasts with x."""
    shape = g.shape(x)
    if g.chance(0.5):
        for _ in range(4):
            other = g.pick()
            try:
                np.broadcast_shapes(shape, g.shape(other))
            except ValueError:
                continue
            return other
    if g.chance(0.25):
        return g.const(g.number(0.0, 1.0, -1.0, 0.5, 1e-6, 3.0, 6.0), np.float32)
    return g.const(g.weights(broadcastable(g, shape)))


@generator("Add", "Sub", "Mul", "Div")
def _binary(g: Draft, op: str) -> None:
    x = g.pick()
    y = partner(g, x)
    if op == "Div" and g.style != "special" and g.chance(0.7):
        y = g.const(np.abs(g.weights(broadcastable(g, g.shape(x)))) + np.float32(0.5))
    g.emit(op, *((x, y) if g.chance(0.6) else (y, x)))


@generator("Sum", "Max", "Min", "Mean", since=8)
def _variadic(g: Draft, op: str) -> None:
    x = g.pick()
    items = [x]
    shape = g.shape(x)
    for _ in range(g.whole(0, 3)):
        y = partner(g, x)
        try:
            shape = np.broadcast_shapes(shape, g.shape(y))
        except ValueError:
            continue
        items.append(y)
    g.random.shuffle(items)
    g.emit(op, *items)


@generator("Pow")
def _pow(g: Draft, op: str) -> None:
    exponent = g.choose(*(0.5, 1.0, 2.0, 3.0, 4.0) * 4, -1.0, 0.0, 1.5)
    x = g.pick()
    if exponent not in {1.0, 2.0, 3.0, 4.0}:
        x = g.emit("Add", g.emit("Abs", x)[0], g.const(0.25, np.float32))[0]
    shape = g.choose((), (1,), (1, 1)) if len(g.shape(x)) >= 2 else ()
    g.emit(op, x, g.const(np.full(shape, exponent, np.float32)))


@generator("PRelu")
def _prelu(g: Draft, op: str) -> None:
    x = g.pick(1)
    shape = g.shape(x)
    if len(shape) >= 3 and g.chance(0.5):
        drawn: tuple[int, ...] = (shape[1], *(1,) * (len(shape) - 2))
    else:
        drawn = broadcastable(g, shape, wider=False)
    g.emit(op, x, g.const(g.weights(drawn)))


# -- activations written out ------------------------------------------------------------------------------------------


def near(g: Draft, value: float, share: float = 0.75) -> np.float32:
    """The constant of a formula, or one beside it that must not be taken for it."""
    return np.float32(
        value if g.chance(share) else g.choose(value * 1.001, value + 1e-6, -value, value * 2, value + 0.25)
    )


@generator("written gelu", since=9)
def _written_gelu(g: Draft, _op: str) -> None:
    x = g.pick()
    scaled = (
        g.emit("Div", x, g.const(near(g, math.sqrt(2.0), 0.95)))
        if g.chance(0.5)
        else g.emit("Mul", x, g.const(near(g, math.sqrt(0.5), 0.95)))
    )
    inner = g.emit("Add", g.emit("Erf", scaled[0])[0], g.const(near(g, 1.0, 0.95)))[0]
    if g.chance(0.5):
        g.emit("Mul", g.emit("Mul", x, inner)[0], g.const(near(g, 0.5, 0.95)))
    else:
        g.emit("Mul", g.emit("Mul", x, g.const(near(g, 0.5, 0.95)))[0], inner)


@generator("written swish")
def _written_swish(g: Draft, _op: str) -> None:
    x = g.pick()
    match g.whole(0, 3):
        case 0:
            inner = x if g.chance(0.5) else g.emit("Mul", x, g.const(near(g, 1.0)))[0]
            gate = g.emit("Sigmoid", inner)[0]
            g.emit("Mul", *((x, gate) if g.chance(0.5) else (gate, x)))
        case 1:
            gate = g.emit("HardSigmoid", x, alpha=float(near(g, 1 / 6)), beta=float(near(g, 0.5)))[0]
            g.emit("Mul", x, gate)
        case 2:
            shifted = g.emit("Add", x, g.const(near(g, 3.0)))[0]
            if g.opset < 11:
                clipped = g.emit("Clip", shifted, min=float(near(g, 0.0)), max=6.0)[0]
            else:
                clipped = g.emit("Clip", shifted, g.const(near(g, 0.0)), g.const(near(g, 6.0)))[0]
            g.emit("Div", g.emit("Mul", x, clipped)[0], g.const(near(g, 6.0)))
        case _:
            power = g.emit("Exp", g.emit("Neg", x)[0])[0]
            g.emit("Div", x, g.emit("Add", power, g.const(near(g, 1.0)))[0])


@generator("written clamp", since=11)
def _written_clamp(g: Draft, _op: str) -> None:
    x = g.emit(g.choose("Relu", "Sigmoid", "Abs", "Tanh"), g.pick())[0]
    bound = g.const(np.float32(g.choose(65504.0, 6.0, 1.0, 1e-6, 0.0, 1e30)))
    match g.whole(0, 4):
        case 0:
            g.emit("Clip", x, "", bound)
        case 1:
            g.emit("Clip", x, bound, "")
        case 2 | 3:
            g.emit(g.choose("Min", "Max"), x, bound)
        case _:
            g.emit("Add", x, bound)


# -- layers -----------------------------------------------------------------------------------------------------------


def geometry(g: Draft, sizes: tuple[int, ...], *, transposed: bool = False) -> dict[str, Any]:
    """kernel_shape, strides, dilations and padding that fit ``sizes``."""
    dims = len(sizes)
    most = {1: 6, 2: 5, 3: 3}[dims]
    kernel = [g.whole(1, most) for _ in sizes]
    strides = [g.choose(1, 1, 1, 2, 2, 3, 4) for _ in sizes]
    dilations = [g.choose(1, 1, 1, 2, 3) for _ in sizes]
    pads = [
        g.whole(0, max(d * (k - 1), 0)) if g.chance(0.5) else 0 for _ in range(2) for k, d in zip(kernel, dilations)
    ]
    auto = g.choose(None, None, None, None, "NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID")
    if not transposed:
        for i, size in enumerate(sizes):
            total = size if auto == "VALID" else size + pads[i] + pads[i + dims]
            if auto not in ("SAME_UPPER", "SAME_LOWER") and dilations[i] * (kernel[i] - 1) + 1 > total:
                kernel[i], dilations[i] = min(kernel[i], size), 1
                pads[i], pads[i + dims] = min(pads[i], kernel[i] - 1), min(pads[i + dims], kernel[i] - 1)
    given: dict[str, Any] = {"kernel_shape": kernel, "strides": strides, "dilations": dilations}
    if g.chance(0.15):
        del given["strides"]
    if g.chance(0.2):
        del given["dilations"]
        if not transposed and auto in (None, "NOTSET"):
            pads = [min(pad, kernel[i % dims] - 1) for i, pad in enumerate(pads)]
    if auto in (None, "NOTSET") and any(pads):
        given["pads"] = pads
    if auto is not None:
        given["auto_pad"] = auto
    return given


def channels_of(g: Draft, channels: int) -> tuple[int, int]:
    """Groups that divide the channels, and output channels of a group."""
    divisors = [d for d in range(1, channels + 1) if channels % d == 0]
    groups = g.choose(1, 1, channels, g.random.choice(divisors))
    return groups, g.choose(1, 1, 2, 3, 4, 8, 9) if groups > 1 else g.choose(1, 2, 3, 4, 5, 8, 9, 16, 17)


@generator("Conv")
def _conv(g: Draft, op: str) -> None:
    x = g.pick(3, 5)
    shape = g.shape(x)
    given = geometry(g, shape[2:])
    groups, out = channels_of(g, shape[1])
    w = (groups * out, shape[1] // groups, *given["kernel_shape"])
    if math.prod(w) * math.prod(shape[2:]) * shape[0] > WIDEST:
        raise UnfitError(op)
    if g.chance(0.4):
        del given["kernel_shape"]
    bias = g.const(g.weights((groups * out,))) if g.chance(0.6) else ""
    g.emit(op, x, g.const(g.weights(w)), bias, group=groups if groups > 1 else None, **given)


@generator("ConvTranspose")
def _conv_transpose(g: Draft, op: str) -> None:
    x = g.pick(3, 5)
    shape = g.shape(x)
    given = geometry(g, shape[2:], transposed=True)
    strides = given.get("strides", [1] * (len(shape) - 2))
    dilations = given.get("dilations", [1] * (len(shape) - 2))
    if g.chance(0.4):
        given["output_padding"] = [g.whole(0, max(s, d) - 1) for s, d in zip(strides, dilations)]
    if g.chance(0.15):
        given.pop("pads", None)
        given["output_shape"] = [
            g.whole(1, s * (n - 1) + d * (k - 1) + 1)
            for s, n, d, k in zip(strides, shape[2:], dilations, given["kernel_shape"])
        ]
    groups, out = channels_of(g, shape[1])
    w = (shape[1], out, *given["kernel_shape"])
    if math.prod(w) * math.prod(shape[2:]) * shape[0] > WIDEST:
        raise UnfitError(op)
    bias = g.const(g.weights((groups * out,))) if g.chance(0.6) else ""
    g.emit(op, x, g.const(g.weights(w)), bias, group=groups if groups > 1 else None, **given)


@generator("MaxPool", "AveragePool")
def _pool(g: Draft, op: str) -> None:
    x = g.pick(3, 5)
    given = geometry(g, g.shape(x)[2:])
    if g.opset < (10 if op == "MaxPool" else 19) and given.pop("dilations", None):
        given["pads"] = (
            [min(p, given["kernel_shape"][i % len(given["kernel_shape"])] - 1) for i, p in enumerate(given["pads"])]
            if "pads" in given
            else None
        )
    if g.opset >= 10:
        given["ceil_mode"] = g.choose(None, 0, 1)
    if op == "AveragePool":
        given["count_include_pad"] = g.choose(None, 0, 1)
    g.emit(op, x, **given)


@generator("GlobalAveragePool", "GlobalMaxPool")
def _global_pool(g: Draft, op: str) -> None:
    g.emit(op, g.pick(3, 5))


@generator("Gemm")
def _gemm(g: Draft, op: str) -> None:
    x = g.pick(2, 2)
    rows, inner = g.shape(x)
    given: dict[str, Any] = {}
    if g.chance(0.3):
        given["transA"], rows, inner = 1, inner, rows
    columns = g.choose(1, 2, 5, 8, 9, 16, 17)
    b = (inner, columns)
    if g.chance(0.5):
        given["transB"], b = 1, b[::-1]
    c = ""
    if g.opset < 11 or g.chance(0.7):
        c = g.const(g.weights(g.choose((columns,), (1, columns), (rows, 1), (rows, columns), (1,), ())))
    if g.chance(0.4):
        given["alpha"], given["beta"] = g.number(1.0, 0.5, 0.0), g.number(1.0, 2.0, 0.0)
    g.emit(op, x, g.const(g.weights(b)), c, **given)


@generator("MatMul")
def _matmul(g: Draft, op: str) -> None:
    x = g.pick(1)
    inner, columns = g.shape(x)[-1], g.choose(1, 2, 5, 8, 9, 16, 17)
    b = g.choose(*((inner, columns), (inner,), (1, inner, columns)) * 5, (2, inner, columns))
    g.emit(op, x, g.const(g.weights(b)))


@generator("BatchNormalization")
def _batch_norm(g: Draft, op: str) -> None:
    x = g.pick(2)
    c = g.shape(x)[1]
    values = [g.weights((c,)), g.weights((c,)), g.weights((c,)), np.abs(g.weights((c,))) + np.float32(0.1)]
    g.emit(op, x, *map(g.const, values), epsilon=g.choose(None, 1e-5, 1e-3, 0.1))


@generator("InstanceNormalization")
def _instance_norm(g: Draft, op: str) -> None:
    x = g.pick(3)
    c = g.shape(x)[1]
    g.emit(op, x, g.const(g.weights((c,))), g.const(g.weights((c,))), epsilon=g.choose(None, 1e-3, 0.1))


@generator("LayerNormalization", since=17)
def _layer_norm(g: Draft, op: str) -> None:
    x = g.pick(1)
    shape = g.shape(x)
    axis = axis_of(g, len(shape))
    last = shape[axis % len(shape) :]
    bias = g.const(g.weights(last)) if g.chance(0.6) else ""
    g.emit(op, x, g.const(g.weights(last)), bias, axis=axis, epsilon=g.choose(None, 1e-3, 0.1))


@generator("GroupNormalization", since=18)
def _group_norm(g: Draft, op: str) -> None:
    x = g.pick(3)
    c = g.shape(x)[1]
    groups = g.random.choice([d for d in range(1, c + 1) if c % d == 0])
    sizes = groups if g.opset < 21 else c
    parts = (g.const(g.weights((sizes,))), g.const(g.weights((sizes,))))
    g.emit(op, x, *parts, num_groups=groups, epsilon=g.choose(None, 1e-3, 0.1))


@generator("LRN")
def _lrn(g: Draft, op: str) -> None:
    given = {
        "alpha": abs(g.number(1e-4, 0.5)),
        "beta": abs(g.number(0.75, 0.5, 1.0)),
        "bias": abs(g.number(1.0, 2.0)) + 0.1,
    }
    g.emit(op, g.pick(3), size=g.whole(1, 7), **{k: v for k, v in given.items() if g.chance(0.7)})


@generator("Softmax", "LogSoftmax")
def _softmax(g: Draft, op: str) -> None:
    x = g.pick(1)
    rank = len(g.shape(x))
    axis = g.choose(None, counted(g, g.whole(0, rank - 1), rank)) if rank > 1 else 0
    g.emit(op, x, axis=axis)


@generator("ReduceMean", "ReduceMax", "ReduceMin", "ReduceSum")
def _reduce(g: Draft, op: str) -> None:
    x = g.pick()
    rank = len(g.shape(x))
    chosen = sorted(g.random.sample(range(rank), g.whole(1, rank))) if rank and g.chance(0.85) else None
    axes = None if chosen is None else [counted(g, axis, rank) for axis in chosen]
    keep = g.choose(None, 0, 1)
    as_input = g.opset >= (13 if op == "ReduceSum" else 18)
    if as_input:
        noop = g.choose(None, 0, 1) if axes is None else None
        g.emit(op, x, "" if axes is None else g.ints(axes), keepdims=keep, noop_with_empty_axes=noop)
    else:
        g.emit(op, x, axes=axes, keepdims=keep)


# -- moves ------------------------------------------------------------------------------------------------------------


def factorise(g: Draft, number: int) -> list[int]:
    """Sizes whose product is ``number``."""
    sizes: list[int] = []
    while number > 1 and len(sizes) < 5:
        divisor = g.random.choice([d for d in range(1, number + 1) if number % d == 0])
        sizes.append(divisor)
        number //= divisor
    sizes.append(number)
    return sizes if g.chance(0.7) else [size for size in sizes if size != 1]


@generator("Reshape")
def _reshape(g: Draft, op: str) -> None:
    x = g.pick()
    shape = g.shape(x)
    if shape and g.chance(0.5):  # merge and split neighbours
        sizes = list(shape)
        for _ in range(g.whole(1, 2)):
            at = g.whole(0, len(sizes) - 1)
            if g.chance(0.5) and at + 1 < len(sizes):
                sizes[at : at + 2] = [sizes[at] * sizes[at + 1]]
            else:
                d = g.random.choice([d for d in range(1, sizes[at] + 1) if sizes[at] % d == 0])
                sizes[at : at + 1] = [d, sizes[at] // d]
    else:
        sizes = factorise(g, math.prod(shape))
    sizes = [0 if i < len(shape) and shape[i] == size and g.chance(0.2) else size for i, size in enumerate(sizes)]
    if sizes and g.chance(0.4):
        sizes[g.whole(0, len(sizes) - 1)] = -1
    if g.chance(0.15) and shape and all(size > 0 for size in sizes[1:]):  # written with the shape of the value
        first = g.emit("Slice", g.emit("Shape", x)[0], g.ints([0]), g.ints([1]))[0] if g.opset >= 10 else None
        if first and sizes and (sizes[0] == shape[0] or sizes[0] == 0):
            g.emit(op, x, g.emit("Concat", first, g.ints(sizes[1:]), axis=0)[0] if len(sizes) > 1 else first)
            return
    g.emit(op, x, g.ints(sizes))


@generator("Flatten", since=9)
def _flatten(g: Draft, op: str) -> None:
    x = g.pick()
    rank = len(g.shape(x))
    g.emit(op, x, axis=g.choose(None, g.whole(0, rank), g.whole(-rank if g.opset >= 11 else 0, rank)) if rank else 0)


@generator("Squeeze")
def _squeeze(g: Draft, op: str) -> None:
    x = g.pick()
    shape = g.shape(x)
    ones = [axis for axis, size in enumerate(shape) if size == 1]
    axes = (
        [counted(g, a, len(shape)) for a in g.random.sample(ones, g.whole(1, len(ones)))]
        if ones and g.chance(0.8)
        else None
    )
    if g.opset < 13:
        g.emit(op, x, axes=axes)
    else:
        g.emit(op, x, "" if axes is None else g.ints(axes))


@generator("Unsqueeze")
def _unsqueeze(g: Draft, op: str) -> None:
    x = g.pick(0, 5)
    more = g.whole(1, 2)
    rank = len(g.shape(x)) + more
    axes = [counted(g, a, rank) for a in g.random.sample(range(rank), more)]
    if g.opset < 13:
        g.emit(op, x, axes=sorted(axes) if min(axes) >= 0 else axes)
    else:
        g.emit(op, x, g.ints(axes))


@generator("Transpose")
def _transpose(g: Draft, op: str) -> None:
    x = g.pick()
    perm = list(range(len(g.shape(x))))
    g.random.shuffle(perm)
    g.emit(op, x, perm=perm if perm and g.chance(0.85) else None)


@generator("Slice")
def _slice(g: Draft, op: str) -> None:
    x = g.pick(1)
    shape = g.shape(x)
    axes = sorted(g.random.sample(range(len(shape)), g.whole(1, min(3, len(shape)))))
    starts, ends, steps = [], [], []
    for axis in axes:
        n = shape[axis]
        step = 1 if g.opset < 10 else g.choose(1, 1, 1, 2, 3, -1, -1, -2)
        low, high = g.whole(0, n - 1), g.whole(1, n)
        if step > 0:
            start, end = (low, high) if low < high else (0, n)
            starts.append(start - n if g.chance(0.3) else start)
            ends.append(g.choose(end, end, n + 5, 2**31 - 1) if end == n else end - n if g.chance(0.3) else end)
        else:
            starts.append(g.choose(n - 1, -1, n + 3, high - 1))
            ends.append(g.choose(-n - 1, -(2**31)))
        steps.append(step)
    counted_axes = [counted(g, axis, len(shape)) for axis in axes]
    if g.opset < 10:
        g.emit(op, x, starts=starts, ends=ends, axes=axes)
        return
    leading = axes == list(range(len(axes)))
    names = [g.ints(starts), g.ints(ends), "" if leading and g.chance(0.5) else g.ints(counted_axes)]
    g.emit(op, x, *names, "" if steps == [1] * len(steps) and g.chance(0.5) else g.ints(steps))


@generator("Split")
def _split(g: Draft, op: str) -> None:
    x = g.pick(1)
    shape = g.shape(x)
    axis = g.whole(0, len(shape) - 1)
    parts = g.whole(1, min(shape[axis], 4))
    cuts = sorted(g.random.sample(range(1, shape[axis]), parts - 1))
    sizes = [b - a for a, b in zip([0, *cuts], [*cuts, shape[axis]])]
    even = shape[axis] % parts == 0 and g.chance(0.5)
    given: dict[str, Any] = {"axis": counted(g, axis, len(shape))}
    if even:
        sizes = None
        if g.opset >= 18:
            given["num_outputs"] = parts
    if g.opset < 13:
        g.emit(op, x, count=parts, split=sizes, **given)
    else:
        g.emit(op, x, "" if sizes is None else g.ints(sizes), count=parts, **given)


@generator("Concat")
def _concat(g: Draft, op: str) -> None:
    x = g.pick(1)
    shape = g.shape(x)
    axis = g.whole(0, len(shape) - 1)
    fits = [
        name for name in g.computed
        if len(g.shape(name)) == len(shape)
        and all(a == b or i == axis for i, (a, b) in enumerate(zip(g.shape(name), shape)))
    ]  # fmt: skip
    items = [x, *(g.random.choice(fits) for _ in range(g.whole(0, 3)))]
    if g.chance(0.05):
        items.append(g.const(g.weights(shape)))
    g.random.shuffle(items)
    g.emit(op, *items, axis=counted(g, axis, len(shape)))


@generator("Gather")
def _gather(g: Draft, op: str) -> None:
    x = g.pick(1)
    shape = g.shape(x)
    axis = min(1, len(shape) - 1) if g.chance(0.5) else g.whole(0, len(shape) - 1)
    n = shape[axis]
    if g.chance(0.3):
        indices: Any = np.int64(g.whole(0, n - 1))
    elif axis == 1 or g.chance(0.15):
        indices = np.array([g.whole(0, n - 1) for _ in range(g.whole(1, n + 1))], np.int64)
    else:
        low, step = g.whole(0, n - 1), g.choose(1, 1, 2, -1)
        indices = np.arange(low, n if step > 0 else -1, step, dtype=np.int64)
    if g.opset >= 11 and g.chance(0.2):
        indices = indices - n
    kind = g.choose(np.int64, np.int32)
    g.emit(op, x, g.const(np.asarray(indices, kind)), axis=counted(g, axis, len(shape)))


@generator("Expand", since=8)
def _expand(g: Draft, op: str) -> None:
    x = g.pick(0, 5)
    sizes = [g.whole(1, 4) if size == 1 and g.chance(0.7) else g.choose(1, size) for size in g.shape(x)]
    if g.chance(0.3):
        sizes = [g.whole(1, 3), *sizes]
    g.emit(op, x, g.ints(sizes))


@generator("Tile")
def _tile(g: Draft, op: str) -> None:
    x = g.pick(0, 5)
    g.emit(op, x, g.ints([g.whole(1, 3) if size == 1 or g.chance(0.1) else 1 for size in g.shape(x)]))


@generator("Pad")
def _pad(g: Draft, op: str) -> None:
    x = g.pick(1)
    shape = g.shape(x)
    mode = g.choose("constant", "constant", "reflect", "edge", *(("wrap",) if g.opset >= 19 else ()))
    axes = sorted(g.random.sample(range(len(shape)), g.whole(1, min(3, len(shape)))))
    pads = {}
    for axis in axes:
        room = {"reflect": shape[axis] - 1, "wrap": shape[axis]}.get(mode, 4)
        low = -(shape[axis] - 1) // 2 if mode == "constant" and g.chance(0.3) else 0
        pads[axis] = (g.whole(low, room), g.whole(low, room))
    every = [pads.get(axis, (0, 0)) for axis in range(len(shape))]
    value = g.number(0.0, 1.0) if mode == "constant" and g.chance(0.6) else None
    if g.opset < 11:
        g.emit(op, x, pads=[p[0] for p in every] + [p[1] for p in every], mode=mode, value=value)
        return
    if g.opset >= 18 and g.chance(0.5):
        chosen = [pads[axis] for axis in axes]
        names = [g.ints([counted(g, axis, len(shape)) for axis in axes])]
    else:
        chosen, names = every, []
    flat = [p[0] for p in chosen] + [p[1] for p in chosen]
    g.emit(
        op,
        x,
        g.ints(flat),
        "" if value is None else g.const(value, np.float32),
        *names,
        mode=mode if g.chance(0.8) or mode != "constant" else None,
    )


@generator("DepthToSpace", "SpaceToDepth")
def _depth(g: Draft, op: str) -> None:
    x = g.pick(4, 4)
    _, c, h, w = g.shape(x)
    blocks = [b for b in (1, 2, 3, 4) if (c % (b * b) == 0 if op == "DepthToSpace" else h % b == 0 and w % b == 0)]
    mode = g.choose(None, "DCR", "CRD") if op == "DepthToSpace" and g.opset >= 11 else None
    g.emit(op, x, blocksize=g.random.choice(blocks), mode=mode)


@generator("Cast", since=9)
def _cast(g: Draft, op: str) -> None:
    g.emit(op, g.pick(), to=TensorProto.FLOAT)


# -- resampling -------------------------------------------------------------------------------------------------------

FACTORS = (0.3, 0.5, 0.6, 0.7, 0.9, 1.0, 1.1, 1.5, 1.7, 2.0, 3.0, 3.3)


@generator("Upsample")
def _upsample(g: Draft, op: str) -> None:
    x = g.pick(3, 5)
    if g.opset > 9:
        raise UnfitError(op)
    shape = g.shape(x)
    scales = [1.0, 1.0, *(g.choose(*(f for f in FACTORS if f >= 1)) for _ in shape[2:])]
    mode = g.choose("nearest", "linear", None)
    if g.opset < 9:
        g.emit(op, x, scales=scales, mode=mode)
    else:
        g.emit(op, x, g.const(np.array(scales, np.float32)), mode=mode)


@generator("Resize", since=10)
def _resize(g: Draft, op: str) -> None:
    x = g.pick(3, 5)
    shape = g.shape(x)
    scales = [g.choose(*FACTORS) for _ in shape[2:]]
    if any(int(n * f) < 1 for n, f in zip(shape[2:], scales)):
        raise UnfitError(op)
    if g.opset == 10:
        g.emit(op, x, g.const(np.array([1.0, 1.0, *scales], np.float32)), mode=g.choose("nearest", "linear", None))
        return
    mode = g.choose("nearest", "nearest", "linear", "linear", "cubic")
    given: dict[str, Any] = {"mode": mode if mode != "nearest" or g.chance(0.7) else None}
    modes = ["half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"]
    if g.opset < 13:
        modes.append("tf_half_pixel_for_nn")
    if g.opset >= 19:
        modes.append("half_pixel_symmetric")
    given["coordinate_transformation_mode"] = g.choose(None, *modes)
    if mode == "nearest":
        given["nearest_mode"] = g.choose(None, "round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
    if mode == "cubic":
        given["cubic_coeff_a"], given["exclude_outside"] = g.choose(None, -0.5, -0.75), g.choose(None, 0, 1)
    if g.opset >= 18 and mode != "nearest" and g.chance(0.3):
        given["antialias"] = 1
    partial = g.opset >= 18 and g.chance(0.3)
    if partial:
        given["axes"] = [counted(g, axis, len(shape)) for axis in range(2, len(shape))]
    ahead = [] if partial else [1.0, 1.0]
    roi = "" if g.opset >= 13 or g.chance(0.5) else g.const(np.array([], np.float32))
    if g.opset < 13 and not roi:
        roi = g.const(np.array([], np.float32))
    if g.chance(0.5):
        g.emit(op, x, roi, g.const(np.array([*ahead, *scales], np.float32)), **given)
        return
    sizes = [max(1, round(n * f)) for n, f in zip(shape[2:], scales)]
    if g.opset >= 18 and g.chance(0.15):
        given["keep_aspect_ratio_policy"] = g.choose("stretch", "not_larger", "not_smaller")
    empty = "" if g.opset >= 13 else g.const(np.array([], np.float32))
    g.emit(op, x, roi, empty, g.ints([*([] if partial else shape[:2]), *sizes]), **given)


# -- constants that are computed --------------------------------------------------------------------------------------


@generator("folded", since=11)
def _folded(g: Draft, _op: str) -> None:
    """A constant computed by operators that are only folded, then used."""
    x = g.pick()
    shape = broadcastable(g, g.shape(x))
    quarters = (g.numbers.integers(-16, 17, shape) / 4).astype(np.float32)
    name = g.const(quarters)
    for _ in range(g.whole(1, 3)):
        match g.whole(0, 9):
            case 0:
                name = g.emit(g.choose("Floor", "Ceil", "Round", "Sign", "Abs", "Neg"), name)[0]
            case 1:
                other = g.const((g.numbers.integers(-16, 17, shape) / 4).astype(np.float32))
                test = g.emit(g.choose("Less", "Greater", "Equal"), name, other)[0]
                if g.chance(0.3):
                    test = g.emit("Not", test)[0]
                name = g.emit("Where", test, name, other)[0]
            case 2:
                divisor = g.const(g.choose(1.0, 0.5, 2.0, 3.0), np.float32)
                name = g.emit("Mod", name, divisor, fmod=1)[0]
            case 3:
                whole = g.emit("Cast", name, to=TensorProto.INT64)[0]
                name = g.emit("Cast", whole, to=TensorProto.FLOAT)[0]
            case 4:
                name = g.emit(
                    g.choose("Add", "Sub", "Mul", "Max", "Min"), name, g.const(g.choose(1.0, 0.5, -2.0), np.float32)
                )[0]
            case 5:
                size = g.emit("Size", x)[0]
                name = g.emit("Add", name, g.emit("Cast", size, to=TensorProto.FLOAT)[0])[0]
            case 6 if shape:
                count = g.const(shape[-1], np.int64)
                steps = g.emit("Range", g.const(0, np.int64), count, g.const(1, np.int64))[0]
                name = g.emit("Add", name, g.emit("Cast", steps, to=TensorProto.FLOAT)[0])[0]
            case 7:
                form = g.emit("ConstantOfShape", g.ints([*shape]))[0] if shape else g.const(0.0, np.float32)
                name = g.emit("Add", name, form)[0]
            case 8:
                name = g.emit(g.choose("Tanh", "Sigmoid", "Relu", "Exp"), name)[0]
                break  # no longer exact: what jumps may not follow
            case _:
                name = g.emit("Clip", name, g.const(-1.0, np.float32), g.const(2.0, np.float32))[0]
    g.emit(g.choose("Add", "Mul", "Sub"), x, name)
