"""Steps of a batch normalisation as calls of kernels."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from omniconv.compiler.kernels.normalise.channels import Numbers
from omniconv.compiler.kernels.normalise.sums import BlockMoments, BlockSums, Join
from omniconv.compiler.kernels.normalise.values import Normalise, NormaliseGradient
from omniconv.compiler.kernels.normalise.walk import Walk
from omniconv.compiler.lowering.arrange import as_channels_last, as_row_major, copy_apart, copy_value
from omniconv.compiler.memory.layout import Layout
from omniconv.compiler.memory.planner import Planner, Recipe
from omniconv.compiler.memory.storage import BufferRef, Stored, merge_axes
from omniconv.program.steps import MomentsStep, NormaliseGradientStep, NormaliseStep, NormaliseSumsStep


def lower_moments(planner: Planner, step: MomentsStep) -> None:
    """Block by block, then over all blocks."""
    [x], walk = _read(planner, [step.x])
    blocks = _make_blocks(planner, walk)
    planner.call(BlockMoments(walk=walk), [x.ref, blocks], step.word, how=f"{walk.blocks} blocks")
    y = planner.produce(step.y)
    planner.call(Join(walk=walk, epsilon=None, row=y.layout.strides[0]), [blocks, y.ref], step.word)


def lower_normalise(planner: Planner, step: NormaliseStep) -> None:
    """Each element by itself."""
    [x], walk = _read(planner, [step.x])
    numbers, refs = _numbers(planner, step)
    _write(planner, step, walk, partial(Normalise, numbers=numbers), [x.ref, *refs])


def lower_normalise_sums(planner: Planner, step: NormaliseSumsStep) -> None:
    """Block by block, then over all blocks."""
    (x, dy), walk = _read(planner, [step.x, step.dy])
    numbers, refs = _numbers(planner, step)
    blocks = _make_blocks(planner, walk)
    planner.call(BlockSums(walk=walk, numbers=numbers), [x.ref, dy.ref, *refs, blocks], step.word)
    y = planner.produce(step.y)
    join = Join(walk=walk, epsilon=step.epsilon, row=y.layout.strides[0])
    planner.call(join, [blocks, y.ref, refs[1]], step.word)


def lower_normalise_gradient(planner: Planner, step: NormaliseGradientStep) -> None:
    """Each element by itself."""
    (x, dy), walk = _read(planner, [step.x, step.dy])
    numbers, refs = _numbers(planner, step)
    row = 0
    if step.sums is not None:
        sums = as_channels_last(planner, step.sums)
        row = sums.layout.strides[0]
        refs = [*refs, sums.ref]
    make = partial(NormaliseGradient, numbers=numbers, sums=row)
    _write(planner, step, walk, make, [x.ref, dy.ref, *refs])


def _read(planner: Planner, names: Sequence[str]) -> tuple[list[Stored], Walk]:
    """Values that are walked together: row major where the first is and has more than one position, else channels
    last with positions at one distance.
    """
    shape = planner.shape(names[0])
    first = planner.get(names[0]).layout
    images, channels, positions = shape[0], shape[1], math.prod(shape[2:])
    if first.plain and positions > 1:
        found = [as_row_major(planner, name) for name in names]
        pitches: tuple[int, ...] = ()
    else:
        found = [_in_line(planner, name) for name in names]
        pitches = tuple(_find_pitch(value.layout) or 0 for value in found)
    lanes = planner.target.lanes
    return found, Walk(images=images, channels=channels, positions=positions, pitches=pitches, lanes=lanes)


def _in_line(planner: Planner, name: str) -> Stored:
    found = as_channels_last(planner, name)
    return found if _find_pitch(found.layout) else copy_apart(planner, name)


def _find_pitch(layout: Layout) -> int | None:
    """The distance between positions of all images; none where it is not one."""
    sizes, strides = (layout.shape[0], *layout.shape[2:]), (layout.strides[0], *layout.strides[2:])
    merged = merge_axes(sizes, strides)
    return None if merged is None else merged[1][0] or layout.shape[1]


def _numbers(
    planner: Planner, step: NormaliseStep | NormaliseSumsStep | NormaliseGradientStep
) -> tuple[Numbers, list[BufferRef]]:
    """The numbers of the channels, neighbours in memory."""
    numbers = Numbers(affine=step.w is not None, epsilon=step.epsilon, activation=step.activation)
    found = []
    for name in step.parameters:
        rank = len(planner.shape(name))
        found.append((as_channels_last if rank == 2 else as_row_major)(planner, name).ref)
    return numbers, found


def _make_blocks(planner: Planner, walk: Walk) -> BufferRef:
    return BufferRef(planner.add_buffer("arena", 2 * walk.blocks * walk.pitch))


def _write(
    planner: Planner,
    step: NormaliseStep | NormaliseGradientStep,
    walk: Walk,
    make: Callable[..., Recipe],
    args: Sequence[BufferRef],
) -> None:
    """Call a kernel whose last argument is the result: where the caller wants it, if it can lie so."""
    name, wanted = step.y, planner.wanted.get(step.y)
    if not walk.last:
        y = wanted if wanted is not None and wanted.layout.plain else planner.produce(name, plain=True)
        planner.stored[name] = y
        planner.call(make(walk=walk), [*args, y.ref], step.word)
        return
    y = planner.produce(name)
    pitch = _find_pitch(y.layout)
    room = y if pitch else planner.fresh(planner.shape(name))
    pitch = _find_pitch(room.layout)
    assert pitch, "the positions of a value by itself lie at one distance"
    planner.call(make(walk=replace(walk, pitches=(*walk.pitches, pitch))), [*args, room.ref], step.word)
    if room is not y:
        copy_value(planner, room, y)
