"""Convolutions, pools and dense layers, drawn with any geometry that fits."""

from __future__ import annotations

import math
from typing import Any

from tests.differential.draft import LARGEST, WIDEST, Draft, UnfitError
from tests.differential.table import broadcastable, generator


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


def second(g: Draft, shape: tuple[int, ...]) -> str:
    """Finite weights or biases: constants, an input, or computed from one."""
    values = g.weights(shape)
    if g.chance(0.75):
        return g.const(values)
    name = g.input(shape, values)
    return g.emit(g.choose("Neg", "Abs", "Tanh"), name)[0] if g.chance(0.4) else name


def first(g: Draft, x: str, *others: str) -> str:
    """``x``, or a constant of its shape where another operand is computed."""
    if g.chance(0.2) and any(name in g.computed for name in others):
        return g.const(g.weights(g.shape(x)))
    return x


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
    weights, bias = second(g, w), second(g, (groups * out,)) if g.chance(0.6) else ""
    g.emit(op, first(g, x, weights, bias), weights, bias, group=groups if groups > 1 else None, **given)


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
    weights, bias = second(g, w), second(g, (groups * out,)) if g.chance(0.6) else ""
    g.emit(op, first(g, x, weights, bias), weights, bias, group=groups if groups > 1 else None, **given)


@generator("Col2Im", since=18)
def _col2im(g: Draft, op: str) -> None:
    x = g.pick(3, 3)
    _, planes, blocks = g.shape(x)
    dims = g.choose(1, 2, 2, 3)
    counts, kernel = factors(g, blocks, dims), factors(g, planes, dims + 1)[:dims]
    strides, dilations = ([g.choose(1, 1, 2, 3) for _ in kernel] for _ in range(2))
    full = [(n - 1) * s + d * (k - 1) + 1 for n, s, d, k in zip(counts, strides, dilations, kernel)]
    pads = [g.whole(0, min(3, size // 2)) if g.chance(0.5) else 0 for _ in range(2) for size in full]
    image = [f + g.whole(0, s - 1) - a - b for f, s, a, b in zip(full, strides, pads[:dims], pads[dims:])]
    if min(image) < 1 or math.prod(image) * planes > LARGEST:
        raise UnfitError(op)
    given: dict[str, Any] = {"strides": strides, "dilations": dilations, "pads": pads}
    for key, usual in (("strides", 1), ("dilations", 1), ("pads", 0)):
        if set(given[key]) == {usual} and g.chance(0.5):
            del given[key]
    g.emit(op, x, g.ints(image), g.ints(kernel), **given)


def factors(g: Draft, number: int, count: int) -> list[int]:
    """So many factors of a number."""
    found = []
    for _ in range(count - 1):
        found.append(g.random.choice([d for d in range(1, number + 1) if number % d == 0]))
        number //= found[-1]
    return [*found, number]


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
        c = second(g, g.choose((columns,), (1, columns), (rows, 1), (rows, columns), (1,), ()))
    if g.chance(0.4):
        given["alpha"], given["beta"] = g.number(1.0, 0.5, 0.0), g.number(1.0, 2.0, 0.0)
    right = second(g, b)
    g.emit(op, first(g, x, right, c), right, c, **given)


@generator("MatMul")
def _matmul(g: Draft, op: str) -> None:
    """A value times weights, weights times a value, a value times its transpose; with axes before that broadcast."""
    x = g.pick(1)
    shape, other = g.shape(x), g.choose(1, 2, 5, 8, 9, 16, 17)
    batch = broadcastable(g, shape[:-2])
    match g.choose("right", "right", "right", "left", "own"):
        case "left" if len(shape) > 1:
            g.emit(op, second(g, g.choose((*batch, other, shape[-2]), (shape[-2],))), x)
        case "own" if len(shape) > 1:
            perm = [*range(len(shape) - 2), len(shape) - 1, len(shape) - 2]
            turned = g.emit("Transpose", x, perm=perm)[0]
            g.emit(op, *g.choose((x, turned), (turned, x)))
        case _:
            inner = shape[-1]
            g.emit(op, x, second(g, g.choose((inner, other), (inner,), (*batch, inner, other))))


@generator("Einsum", since=12)
def _einsum(g: Draft, op: str) -> None:
    """Two or three operands, or one: every label summed, kept or shared; a label twice; an ellipsis in front."""
    x = g.pick(1, 4)
    shape = g.shape(x)
    letters = g.random.sample("abcdefgh", len(shape))
    sizes = dict(zip(letters, shape))
    terms, names = ["".join(letters)], [x]
    for _ in range(g.choose(0, 1, 1, 1, 2)):
        fresh = [c for c in "ijk" if c not in sizes][: g.whole(0, 1)]
        sizes.update((c, g.choose(1, 2, 5, 8)) for c in fresh)
        chosen = [
            *g.random.sample(sorted(sizes.keys() - set(fresh)), g.whole(1, min(3, len(sizes) - len(fresh)))),
            *fresh,
        ]
        g.random.shuffle(chosen)
        if g.chance(0.1):
            chosen.append(chosen[0])
        terms.append("".join(chosen))
        names.append(second(g, tuple(1 if g.chance(0.05) and c in letters else sizes[c] for c in chosen)))
    kept = [c for c in sizes if g.chance(0.6)]
    g.random.shuffle(kept)
    result = "".join(kept)
    if g.chance(0.2) and letters[0] not in "".join(terms[1:]) and terms[0][0] == letters[0]:
        terms[0] = "..." + terms[0][1:]
        result = "..." + result.replace(letters[0], "")
    g.emit(op, *names, equation=",".join(terms) + "->" + result)


@generator("Attention", since=23)
def _attention(g: Draft, op: str) -> None:
    """Over a value itself, or over constant keys; heads of queries that share keys; masks of every sort."""
    x = g.pick(3, 4)
    shape = g.shape(x)
    given: dict[str, Any] = {"is_causal": g.choose(None, 0, 1), "scale": g.choose(None, 0.5, 1.0)}
    given["softcap"] = g.choose(None, None, 2.0)
    b, features, heads, queries = shape[0], shape[-1], shape[1], shape[-2]
    if len(shape) == 3:
        heads = g.random.choice([d for d in range(1, features + 1) if features % d == 0])
        features //= heads
    groups = g.random.choice([d for d in range(1, heads + 1) if heads % d == 0])
    keys = g.choose(queries, g.whole(1, 9))
    if len(shape) == 3:
        given["q_num_heads"], given["kv_num_heads"] = heads, groups
    own = keys == queries and groups == heads and g.chance(0.5)
    wide = g.choose(features, g.whole(1, 9))
    form = (b, groups, keys) if len(shape) == 4 else (b, keys)
    times = 1 if len(shape) == 4 else groups
    k = x if own else g.const(g.weights((*form, features * times)))
    v = x if own and g.chance(0.5) else g.const(g.weights((*form, wide * times)))
    mask = ""
    if g.chance(0.5):
        most = g.choose((queries, keys), (1, keys), (b, 1, queries, keys), (b, heads, queries, keys))
        mask = g.const(g.numbers.random(most) < 0.7 if g.chance(0.5) else g.weights(most))
    g.emit(op, x, k, v, mask, **given)


@generator("RotaryEmbedding", since=23)
def _rotary(g: Draft, op: str) -> None:
    x = g.pick(3, 4)
    shape = g.shape(x)
    given: dict[str, Any] = {"interleaved": g.choose(None, 0, 1)}
    size, positions = shape[-1], shape[-2]
    if len(shape) == 3:
        given["num_heads"] = g.random.choice([d for d in range(1, size + 1) if size % d == 0])
        size //= given["num_heads"]
    half = size // 2 if size % 2 == 0 and g.chance(0.6) else g.whole(1, max(1, size // 2))
    if 2 * half != size:
        given["rotary_embedding_dim"] = 2 * half
    if g.chance(0.5):
        known = g.whole(1, 9)
        caches = [g.const(g.weights((known, half))) for _ in range(2)]
        ids = g.const(g.numbers.integers(0, known, (shape[0], positions)))
        g.emit(op, x, *caches, ids, **given)
    else:
        g.emit(op, x, *(g.const(g.weights((shape[0], positions, half))) for _ in range(2)), **given)
