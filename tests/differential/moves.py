"""Operators that move values: reshapes, transposes, slices, joins, pads."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from onnx import TensorProto
from tests.differential.draft import Draft
from tests.differential.table import counted, generator


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
        name
        for name in g.computed
        if len(g.shape(name)) == len(shape)
        and all(a == b or i == axis for i, (a, b) in enumerate(zip(g.shape(name), shape)))
    ]
    items = [x, *(g.random.choice(fits) for _ in range(g.whole(0, 3)))]
    if g.chance(0.05):
        items.append(g.const(g.weights(shape)))
    g.random.shuffle(items)
    g.emit(op, *items, axis=counted(g, axis, len(shape)))


@generator("Gather")
def _gather(g: Draft, op: str) -> None:
    x = g.pick(1)
    shape = g.shape(x)
    axis = min(1, len(shape) - 1) if g.chance(0.3) else g.whole(0, len(shape) - 1)
    n = shape[axis]
    if g.chance(0.3):
        indices: Any = np.int64(g.whole(0, n - 1))
    elif g.chance(0.6):
        form = g.choose((g.whole(1, n + 1),), (g.whole(1, n + 1),), (g.whole(1, 3), g.whole(1, 3)))
        indices = g.numbers.integers(0, n, form)
    else:
        low, step = g.whole(0, n - 1), g.choose(1, 1, 2, -1)
        indices = np.arange(low, n if step > 0 else -1, step, dtype=np.int64)
    if g.opset >= 11 and g.chance(0.2):
        indices = indices - n
    kind = g.choose(np.int64, np.int32)
    g.emit(op, x, g.const(np.asarray(indices, kind)), axis=counted(g, axis, len(shape)))


@generator("GatherElements", since=11)
def _gather_elements(g: Draft, op: str) -> None:
    x = g.pick(1, 5)
    shape = g.shape(x)
    axis = g.whole(0, len(shape) - 1)
    form = [g.whole(1, 5) if i == axis else g.whole(1, size) for i, size in enumerate(shape)]
    low = g.choose(0, -shape[axis])
    g.emit(op, x, g.const(g.numbers.integers(low, shape[axis], form)), axis=counted(g, axis, len(shape)))


@generator("GatherND", since=11)
def _gather_nd(g: Draft, op: str) -> None:
    x = g.pick(1, 5)
    shape = g.shape(x)
    batch = g.whole(0, len(shape) - 1) if g.opset >= 12 and g.chance(0.5) else 0
    depth = g.whole(1, len(shape) - batch)
    form = (*shape[:batch], *(g.whole(1, 4) for _ in range(g.whole(0 if batch else 1, 2))))
    columns = [g.numbers.integers(-size, size, form) for size in shape[batch : batch + depth]]
    g.emit(op, x, g.const(np.stack(columns, -1)), batch_dims=batch or None)


@generator("Trilu", since=14)
def _trilu(g: Draft, op: str) -> None:
    x = g.pick(2, 6)
    k = "" if g.chance(0.3) else g.const(np.int64(g.whole(-6, 6)))
    g.emit(op, x, k, upper=g.choose(None, 0, 1))


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
    g.emit(op, x, g.ints([g.whole(1, 3) if size == 1 or g.chance(0.4) else 1 for size in g.shape(x)]))


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


@generator("CastLike", since=15)
def _cast_like(g: Draft, op: str) -> None:
    g.emit(op, g.pick(), g.pick())
