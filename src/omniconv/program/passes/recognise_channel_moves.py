"""Pass: recognise channel shuffles and slices, and join moves that follow each other.

- A slice of axis 1 alone is a `ChannelStep`.
- A reshape that is only a view joins the rearrangement before or after it, so Reshape-Transpose-Reshape is one step.
- A rearrangement that permutes channels among themselves is a `ChannelStep`; two of those in a row are one.
- A move that moves nothing is removed.

It must not fire on: rearrangements that mix channels with the batch or with positions; slices that also cut other axes.
A step whose value is an output is never removed.
"""

from __future__ import annotations

import math
import operator
from dataclasses import replace

import numpy as np

from omniconv.program.passes.drop_dead import drop_dead
from omniconv.program.program import Program
from omniconv.program.rewrite import Item, is_touched, rebuild, with_labels
from omniconv.program.steps import ChannelStep, MapStep, ProgramStep, RearrangeStep, SliceStep
from omniconv.spec import Shape


def _is_view(step: RearrangeStep) -> bool:
    return step.perm == tuple(range(len(step.perm)))


def _permuted(step: RearrangeStep) -> Shape:
    return tuple(step.split[axis] for axis in step.perm)


def join_rearranges(first: RearrangeStep, second: RearrangeStep, shape: Shape) -> RearrangeStep | None:
    """``second`` after ``first`` as one step, or ``None``; ``shape`` is the shape between them."""
    if _is_view(first):
        return replace(second, x=first.x)
    if _is_view(second):
        return replace(second, x=first.x, split=first.split, perm=first.perm)
    if second.split == _permuted(first) == shape:
        return replace(second, x=first.x, split=first.split, perm=tuple(first.perm[axis] for axis in second.perm))
    return None


def find_channel_source(step: RearrangeStep, x: Shape, y: Shape) -> tuple[int, ...] | None:
    """For each channel of the result the channel of x, where the step permutes channels and nothing else."""
    if len(x) < 2 or x != y:
        return None
    # Axes of size 1 say nothing about where they belong.
    real = [axis for axis, size in enumerate(step.split) if size > 1]
    order = [axis for axis in step.perm if axis in real]
    first = last = 0
    product = 1
    while first < len(real) and product < x[0]:
        product *= step.split[real[first]]
        first += 1
    if product != x[0]:
        return None
    last, product = first, 1
    while last < len(real) and product < x[1]:
        product *= step.split[real[last]]
        last += 1
    if product != x[1] or order[:first] != real[:first] or order[last:] != real[last:]:
        return None
    middle = real[first:last]
    sizes = [operator.index(step.split[axis]) for axis in middle]  # the channels are counted: no size of them is open
    source = np.arange(math.prod(sizes)).reshape(sizes or [1])
    return tuple(source.transpose([middle.index(axis) for axis in order[first:last]] or [0]).ravel().tolist())


def _find_slice_source(step: SliceStep, x: Shape, y: Shape) -> tuple[int, ...] | None:
    if len(x) < 2 or x[:1] + x[2:] != y[:1] + y[2:]:
        return None
    cuts = tuple(zip(step.starts, step.steps, strict=True))
    if any(cut != (0, 1) for axis, cut in enumerate(cuts) if axis != 1 and x[axis] > 1):
        return None
    return tuple(step.starts[1] + index * step.steps[1] for index in range(y[1]))


def _simplify(step: ProgramStep, made: dict[str, ProgramStep], shapes: dict[str, Shape]) -> ProgramStep:
    """The step joined with the one before it, in its simplest form."""
    if isinstance(step, RearrangeStep):
        before = made.get(step.x)
        if isinstance(before, RearrangeStep):
            step = join_rearranges(before, step, shapes[step.x]) or step
        source = find_channel_source(step, shapes[step.x], shapes[step.y])
        if source is None:
            return step
        step = ChannelStep(step.x, step.y, source)
    elif isinstance(step, SliceStep):
        source = _find_slice_source(step, shapes[step.x], shapes[step.y])
        if source is None:
            return step
        step = ChannelStep(step.x, step.y, source)
    if isinstance(step, ChannelStep):
        before = made.get(step.x)
        if isinstance(before, ChannelStep):
            step = ChannelStep(before.x, step.y, tuple(before.source[channel] for channel in step.source))
    return step


def _moves_nothing(step: ProgramStep, shapes: dict[str, Shape]) -> str | None:
    """The value that the step copies unchanged, if it does."""
    match step:
        case ChannelStep(x=x, source=source) if source == tuple(range(shapes[x][1])):
            return x
        case RearrangeStep(x=x) if shapes[x] == shapes[step.y] and _is_view(step):
            return x
        case MapStep(x=x, post=()) if shapes[x] == shapes[step.y]:
            return x
    return None


def recognise_channel_moves(program: Program) -> Program:
    """Join and simplify moves."""
    made: dict[str, ProgramStep] = {}
    names: dict[str, str] = {}
    items: list[Item] = []
    for step, label in with_labels(program):
        if is_touched(step, names):
            step = step.renamed(names)
        step = _simplify(step, made, program.shapes)
        same = _moves_nothing(step, program.shapes)
        if same is not None and step.y not in program.outputs:
            names[step.y] = same
            continue
        made[step.y] = step
        items.append((step, label))
    return drop_dead(rebuild(program, items))
