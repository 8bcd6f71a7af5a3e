"""Steps that move values: views where the strides allow it, copies where they do not."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from omniconv.compiler.kernels.arrange import as_channels_last, as_row_major, copy_axes, copy_value
from omniconv.compiler.memory.layout import Layout
from omniconv.compiler.memory.planner import Planner
from omniconv.compiler.memory.storage import Stored, common_split, reshape_strides, take_channels
from omniconv.program.steps import ChannelStep, ConcatStep, RearrangeStep, SliceStep
from omniconv.spec import Shape


def lower_channels(planner: Planner, step: ChannelStep) -> None:
    """Channels picked and permuted: always a view; whoever cannot read it makes a copy."""
    x = planner.get(step.x)
    layout, offset = take_channels(x.layout, step.source)
    planner.stored[step.y] = Stored(x.buffer, x.offset + offset, layout)


def lower_concat(planner: Planner, step: ConcatStep) -> None:
    """Members that were produced in place need nothing; the others are copied in."""
    shape = planner.shape(step.y)
    axis = step.axis % len(shape)
    y = planner.produce(step.y)
    first = 0
    for position, name in enumerate(step.xs):
        size = planner.shape(name)[axis]
        target = replace(y, offset=y.offset + first * y.layout.strides[axis])
        first += size
        found = planner.get(name)
        in_place = step.xs.index(name) == position and (found.buffer, found.offset) == (target.buffer, target.offset)
        if not in_place or found.layout.channels is not None:
            layout = replace(y.layout, shape=planner.shape(name), tail=False)
            copy_value(planner, found, replace(target, layout=layout))


def lower_rearrange(planner: Planner, step: RearrangeStep) -> None:
    """Reshape and transpose: a view where the strides allow it, else one copy, else two."""
    result = planner.shape(step.y)
    x = planner.get(step.x)
    if x.layout.channels is not None:
        x = as_channels_last(planner, step.x)
    view = _view(x.layout, step.split, step.perm, result)
    if view is not None:
        planner.stored[step.y] = replace(x, layout=view)
        return
    y = planner.produce(step.y, plain=not 3 <= len(result) <= 5)
    dims = _dims(x.layout, y.layout, step.split, step.perm, result)
    if dims is None:
        x = as_row_major(planner, step.x)
        dims = _dims(x.layout, y.layout, step.split, step.perm, result)
    if dims is None:
        # The result, too, merges what it does not hold side by side: gather into row-major order first.
        room = planner.fresh_plain(result)
        between = _dims(x.layout, room.layout, step.split, step.perm, result)
        assert between is not None
        copy_axes(planner, between, x.ref, room.ref)
        copy_value(planner, room, y)
        return
    copy_axes(planner, dims, x.ref, y.ref)


def _view(layout: Layout, split: Shape, perm: Sequence[int], result: Shape) -> Layout | None:
    """The rearranged value in the same memory, if its strides can say so."""
    strides = reshape_strides(layout.shape, layout.strides, split)
    if strides is None:
        return None
    sizes = [split[axis] for axis in perm]
    moved = reshape_strides(sizes, [strides[axis] for axis in perm], result)
    if moved is None:
        return None
    return Layout(result, moved, readable=layout.readable)


def _dims(x: Layout, y: Layout, split: Shape, perm: Sequence[int], result: Shape) -> list[tuple[int, int, int]] | None:
    """Sizes and strides of the copy from x to y, over axes fine enough for both sides."""
    sizes = tuple(split[axis] for axis in perm)
    fine = common_split(sizes, result)
    if fine is None:
        return None
    # Refine the axes of ``split`` in the order of x, too.
    refined: list[list[int]] = []
    remaining = list(fine)
    for size in sizes:
        part: list[int] = []
        while math.prod(part) != size:
            part.append(remaining.pop(0))
        refined.append(part)
    by_axis = dict(zip(perm, refined, strict=True))
    split_fine = tuple(size for axis in range(len(split)) for size in by_axis[axis])
    sx = reshape_strides(x.shape, x.strides, split_fine)
    sy = reshape_strides(result, y.strides, fine)
    if sx is None or sy is None:
        return None
    starts = np.cumsum([0] + [len(by_axis[axis]) for axis in range(len(split))])
    order = [int(starts[axis]) + i for axis in perm for i in range(len(by_axis[axis]))]
    return [(size, sx[at], sy[i]) for i, (size, at) in enumerate(zip(fine, order, strict=True))]


def lower_slice(planner: Planner, step: SliceStep) -> None:
    """A strided slice: a view."""
    x = planner.get(step.x)
    if x.layout.channels is not None:
        x = as_channels_last(planner, step.x)
    shape = planner.shape(step.y)
    offset = sum(start * stride for start, stride in zip(step.starts, x.layout.strides, strict=True))
    strides = tuple(
        (stride if shape[axis] > 1 else abs(stride)) * (step.steps[axis] if shape[axis] > 1 else 1)
        for axis, stride in enumerate(x.layout.strides)
    )
    layout = Layout(shape, strides, readable=x.layout.readable)
    planner.stored[step.y] = Stored(x.buffer, x.offset + offset, layout)
