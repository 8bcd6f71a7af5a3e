"""Steps that move values: views where the strides allow it, copies where they do not."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from omniconv.compiler.lowering.arrange import as_channels_last, as_row_major, copy_axes, copy_value
from omniconv.compiler.memory.layout import Layout
from omniconv.compiler.memory.planner import Planner
from omniconv.compiler.memory.storage import Stored, common_split, reshape_strides, split_axes, take_channels
from omniconv.errors import UnsupportedError
from omniconv.program.steps import ChannelStep, ConcatStep, RearrangeStep, SliceStep
from omniconv.spec import Shape


def lower_channels(planner: Planner, step: ChannelStep) -> None:
    """Channels picked and permuted: always a view; whoever cannot read it makes a copy."""
    x = planner.get(step.x)
    layout, offset = take_channels(x.layout, step.source)
    planner.stored[step.y] = replace(x, offset=x.offset + offset, layout=layout)


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
    """Reshape and transpose: a view where the strides allow it, else one copy, else one or two through row-major order.

    Every value can be copied to row-major order, and from there every axis that a reshape cuts or joins has a stride.
    """
    result = planner.shape(step.y)
    split, perm = simplify_move(step.split, step.perm)
    x = planner.get(step.x)
    if x.layout.channels is not None:
        x = as_channels_last(planner, step.x)
    if _look(planner, step, x, split, perm):
        return
    y = planner.produce(step.y, plain=not 3 <= len(result) <= 5)
    dims = _dims(x.layout, y.layout, split, perm)
    if dims is None and split_axes(x.layout.shape, x.layout.strides, split) is None:
        x = as_row_major(planner, step.x)
        if _look(planner, step, x, split, perm):
            return
        dims = _dims(x.layout, y.layout, split, perm)
    if dims is None:
        y = planner.fresh_plain(result, x.element)
        planner.stored[step.y] = y
        dims = _dims(x.layout, y.layout, split, perm)
    if dims is None:
        raise UnsupportedError(f"reading {x.layout.shape} as {step.split}", need="sizes with equal products")
    copy_axes(planner, dims, x.ref, y.ref)


def simplify_move(split: Shape, perm: Sequence[int]) -> tuple[Shape, tuple[int, ...]]:
    """The same permutation of fewer axes: those that stay side by side are one, those of size 1 are none.

    Example:
        >>> simplify_move((2, 3, 1, 4, 5), (3, 4, 0, 2, 1))
        ((6, 20), (1, 0))
    """
    order = [axis for axis in perm if split[axis] != 1]
    place = {axis: index for index, axis in enumerate(sorted(order))}
    runs: list[list[int]] = []
    for axis in order:
        if runs and place[axis] == place[runs[-1][-1]] + 1:
            runs[-1].append(axis)
        else:
            runs.append([axis])
    ordered = sorted(runs)
    return tuple(math.prod(split[axis] for axis in run) for run in ordered), tuple(ordered.index(run) for run in runs)


def _look(planner: Planner, step: RearrangeStep, x: Stored, split: Shape, perm: Sequence[int]) -> bool:
    """Whether the result is a view of x; if so, it is stored as one."""
    axes = split_axes(x.layout.shape, x.layout.strides, split)
    if axes is None:
        return False
    moved = [axis for place in perm for axis in axes[place]]
    result = planner.shape(step.y)
    strides = reshape_strides([size for size, _ in moved], [stride for _, stride in moved], result)
    if strides is None:
        return False
    planner.stored[step.y] = replace(x, layout=Layout(result, strides, readable=x.layout.readable))
    return True


def _dims(x: Layout, y: Layout, split: Shape, perm: Sequence[int]) -> list[tuple[int, int, int]] | None:
    """Sizes and strides of the copy from x to y, over axes fine enough for both; ``None`` where there are none."""
    xs = split_axes(x.shape, x.strides, split)
    ys = split_axes(y.shape, y.strides, tuple(split[axis] for axis in perm))
    if xs is None or ys is None:
        return None
    dims: list[tuple[int, int, int]] = []
    for source, target in zip((xs[axis] for axis in perm), ys, strict=True):
        fine = common_split(tuple(size for size, _ in source), tuple(size for size, _ in target))
        if fine is None:
            return None
        steps = [reshape_strides([s for s, _ in part], [s for _, s in part], fine) for part in (source, target)]
        dims += zip(fine, *(step or () for step in steps), strict=True)
    return dims


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
    planner.stored[step.y] = replace(x, offset=x.offset + offset, layout=layout)
