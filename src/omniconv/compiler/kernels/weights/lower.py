"""Weight gradients become calls: sums of blocks, the sum of these, and the order of the weights."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Final

import numpy as np

from omniconv.compiler.kernels.reduction import Reduce
from omniconv.compiler.kernels.series.lower import in_rows
from omniconv.compiler.kernels.weights.filtered import lower_filtered_sums, plan_filtered_sums
from omniconv.compiler.kernels.weights.lane import LaneSums, plan_lane_sums
from omniconv.compiler.kernels.weights.panel import POSITIONS, STREAMED, PanelSums, plan_order, plan_panel_sums
from omniconv.compiler.kernels.weights.staged import StagedSums
from omniconv.compiler.kernels.weights.sums import SumAxis, Sums
from omniconv.compiler.lowering.arrange import PAGE, as_channels_last, copy_axes, layout_channels_last
from omniconv.compiler.lowering.copy import Copy
from omniconv.compiler.lowering.layer import strides_of
from omniconv.compiler.memory.layout import Layout, row_major
from omniconv.compiler.memory.planner import Planner
from omniconv.compiler.memory.storage import BufferRef, Stored
from omniconv.program.steps import ReduceStep, WeightGradientStep
from omniconv.target.model import Target

WORD: Final = "weights"
"""What tables call these kernels."""
CROWDED: Final = 2
"""Places in a page of the first-level cache that all pixels share, at most, for copies to pay."""


def serves_lane(sums: Sums, target: Target) -> bool:
    """Whether the lane kernel computes these sums: two groups or more fit one vector, or each channel is its own."""
    outer, inner = max(sums.narrow, sums.wide), min(sums.narrow, sums.wide)
    if sums.groups == 1 or outer > target.lanes:
        return False
    return inner == 1 or 2 * outer <= target.lanes


def lower_weight_gradient(planner: Planner, step: WeightGradientStep) -> None:
    """The gradient of the weights of one layer."""
    sums = Sums.of(step.spec, planner.shape(step.x), planner.shape(step.dy))
    names = (step.x, step.dy) if step.spec.transposed else (step.dy, step.x)
    if serves_lane(sums, planner.target):
        _lower_lane(planner, step, sums, *names)
    else:
        _lower_panel(planner, step, sums, *names)


def _result(planner: Planner, name: str) -> Stored:
    """Room for the gradient, row major: where the caller wants it, if it lies so."""
    wanted = planner.wanted.get(name)
    if wanted is not None and wanted.layout.plain:
        planner.stored[name] = wanted
        return wanted
    return planner.produce(name, plain=True)


def _add_blocks(planner: Planner, sums: BufferRef, blocks: int, size: int) -> BufferRef:
    """The sums of all blocks, added in their order."""
    if blocks == 1:
        return sums
    each = Layout((1, size, blocks), (blocks * size, 1, size), tail=True, readable=True)
    total = BufferRef(planner.add_buffer("arena", size + planner.target.lanes))
    whole = Layout((1, size), (size, 1), tail=True, readable=True)
    recipe = Reduce.of(ReduceStep("", "", "sum"), each, whole, planner.target.lanes)
    planner.call(recipe, [sums, total], WORD)
    return total


def _lower_lane(planner: Planner, step: WeightGradientStep, sums: Sums, narrow: str, wide: str) -> None:
    target = planner.target
    found = planner.get(narrow), planner.get(wide)
    recipe = _plan_lane(target, sums, *found)
    staged = None
    if all(in_rows(value.layout) and not value.layout.channels_last for value in found):
        staged = StagedSums.of(recipe, _strides(found[0]), _strides(found[1]), target)
    if staged is None:
        found = as_channels_last(planner, narrow), as_channels_last(planner, wide)
        recipe = _plan_lane(target, sums, *found)
        if any(_crowded(value.layout, target) for value in found):
            staged = StagedSums.of(recipe, _strides(found[0]), _strides(found[1]), target)
    recipe = staged or recipe
    blocks = BufferRef(planner.add_buffer("arena", recipe.blocks * recipe.size + target.lanes))
    zero = planner.zeros(sums.groups * max(sums.narrow, sums.wide) + 2 * target.lanes)
    args = [found[0].ref, found[1].ref, blocks, zero]
    if staged is not None:
        args.append(planner.thread_memory(staged.room))
    how = f"lane: {recipe.blocks} blocks of sums" + (", channels copied side by side" if staged else "")
    planner.call(recipe, args, WORD, how=how)
    total = _add_blocks(planner, blocks, recipe.blocks, recipe.size)
    y = _result(planner, step.y)
    size = math.prod(planner.shape(step.y))

    def places() -> np.ndarray:
        found = recipe.places().reshape(-1, *(axis.kernel for axis in sums.axes))
        return np.ascontiguousarray(found[:, ::-1, ::-1, ::-1] if step.spec.flip else found).reshape(-1)

    planner.call(Copy.of(((size, 1, 1),), target.lanes, mapped=0), [total, y.ref, planner.index(size, places)], WORD)


def _lower_panel(planner: Planner, step: WeightGradientStep, sums: Sums, narrow: str, wide: str) -> None:
    target = planner.target
    copied = sum(
        math.prod(planner.shape(name))
        for name in (narrow, wide)
        if layout_channels_last(planner, name) != planner.get(name).layout
    )
    filtered = plan_filtered_sums(sums, target, exact=planner.exact, accuracy=planner.accuracy, copied=copied)
    if filtered is not None:
        last = as_channels_last(planner, narrow), as_channels_last(planner, wide)
        recipe, total = lower_filtered_sums(planner, filtered, sums, *last)
        _arrange(planner, recipe, total, _result(planner, step.y).ref, flip=step.spec.flip, turned=False)
        return
    held, read = _in_order(planner, narrow), _in_order(planner, wide)
    turned, ahead = False, 0
    if sums.pointwise:
        sums, held, read = _merge(sums, held, read)
        if _strides(held)[1] == _strides(read)[1] == 1:
            turned, ahead = plan_order(sums, target)
        if turned:
            sums, held, read = sums.turn(), read, held
    recipe = PanelSums(
        sums=sums,
        narrow_strides=_strides(held),
        wide_strides=_strides(read),
        narrow_group=sums.narrow * _strides(held)[1],
        wide_group=sums.wide * _strides(read)[1],
        tile=plan_panel_sums(sums, target, STREAMED if ahead else POSITIONS),
        lanes=target.lanes,
        ahead=ahead,
    )
    blocks = BufferRef(planner.add_buffer("arena", recipe.blocks * recipe.size + target.lanes))
    room = planner.thread_memory(recipe.room)
    planner.call(recipe, [held.ref, read.ref, blocks, room], WORD, how=f"panel: {recipe.blocks} blocks of sums")
    total = _add_blocks(planner, blocks, recipe.blocks, recipe.size)
    y = _result(planner, step.y)
    _arrange(planner, recipe, total, y.ref, flip=step.spec.flip, turned=turned)


def _plan_lane(target: Target, sums: Sums, narrow: Stored, wide: Stored) -> LaneSums:
    """The lane kernel for values that lie so."""
    row = narrow.layout.grid.strides[1] + sums.axes[1].stride * wide.layout.grid.strides[1]
    near = target.element.bytes * row * sums.rows <= target.cache_bytes
    far = target.element.bytes * row > target.cache_bytes // 4
    return LaneSums(
        sums=sums,
        narrow_strides=strides_of(narrow.layout),
        wide_strides=strides_of(wide.layout),
        narrow_readable=narrow.layout.readable,
        wide_readable=wide.layout.readable,
        tile=plan_lane_sums(sums, target),
        lanes=target.lanes,
        halved=not target.traits.permutes_cross_halves,
        ahead=0 if near or far else target.traits.line_bytes // target.element.bytes,
    )


def _crowded(layout: Layout, target: Target) -> bool:
    """Whether the pixels of a value share so few sets of the first-level cache that copying them costs less: half the
    time at two sets, half as long again at four.
    """
    return PAGE // math.gcd(target.element.bytes * layout.grid.strides[2], PAGE) <= CROWDED


def _in_order(planner: Planner, name: str) -> Stored:
    """A value whose channels are in order, wherever they lie."""
    found = planner.get(name)
    return found if found.layout.channels is None else as_channels_last(planner, name)


def _strides(value: Stored) -> tuple[int, int, int, int, int]:
    grid = value.layout.grid
    return grid.sn, grid.sc, *grid.strides


def _merge(sums: Sums, narrow: Stored, wide: Stored) -> tuple[Sums, Stored, Stored]:
    """The sums of a pointwise layer with its positions in as few axes as both values allow."""
    sizes = [sums.batch, *(axis.count for axis in sums.axes)]
    strides = [[_strides(value)[place] for place in (0, 2, 3, 4)] for value in (narrow, wide)]
    merged: list[list[int]] = []
    for size, *steps in zip(sizes, *strides, strict=True):
        if size == 1:
            continue
        if merged and all(merged[-1][1 + i] == size * step for i, step in enumerate(steps)):
            merged[-1] = [merged[-1][0] * size, *steps]
        else:
            merged.append([size, *steps])
    merged = [[1, 0, 0]] * (4 - len(merged)) + merged
    axes = [SumAxis(size, size) for size, *_ in merged[1:]]
    found = []
    for index, value in enumerate((narrow, wide)):
        steps = [row[1 + index] for row in merged]
        shape = (merged[0][0], value.layout.shape[1], *(row[0] for row in merged[1:]))
        channel = value.layout.grid.sc
        found.append(replace(value, layout=replace(value.layout, shape=shape, strides=(steps[0], channel, *steps[1:]))))
    return replace(sums, batch=merged[0][0], axes=(axes[0], axes[1], axes[2])), found[0], found[1]


def _arrange(planner: Planner, recipe: PanelSums, x: BufferRef, y: BufferRef, *, flip: bool, turned: bool) -> None:
    """Sums in the order of the weights: group, channel of narrow, channel of wide (turned: of wide, of narrow), tap."""
    sums, width = recipe.sums, recipe.width
    taps = tuple(axis.kernel for axis in sums.axes)
    group, channel, inner, *steps = row_major((sums.groups, sums.narrow, sums.wide, *taps)).strides
    if turned:
        group, inner, channel, *steps = row_major((sums.groups, sums.wide, sums.narrow, *taps)).strides
    apart = row_major((*taps, sums.wide, width)).strides
    source, reads = x, list(apart[:3])
    if flip:
        last = sum((size - 1) * stride for size, stride in zip(taps, reads, strict=True))
        source, reads = x.shift(last), [-stride for stride in reads]
    common = [
        (sums.groups, recipe.panels * recipe.each, group),
        *zip(taps, reads, steps, strict=True),
        (sums.wide, width, inner),
    ]
    whole, rest = divmod(sums.narrow, width)
    if whole:
        copy_axes(planner, [*common, (whole, recipe.each, width * channel), (width, 1, channel)], source, y)
    if rest:
        behind = source.shift(whole * recipe.each)
        copy_axes(planner, [*common, (rest, 1, channel)], behind, y.shift(whole * width * channel))
