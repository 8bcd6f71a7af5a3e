"""Minimal filtering: slabs of blocks through two transforms and the panel kernel."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import numpy as np

from omniconv.compiler.kernels.panel.kernel import Panel
from omniconv.compiler.kernels.panel.tiles import plan_panel
from omniconv.compiler.kernels.winograd.blocks import BlockGrid
from omniconv.compiler.kernels.winograd.computed import DirectSums, WinogradWeights
from omniconv.compiler.kernels.winograd.constant import transform_weights
from omniconv.compiler.kernels.winograd.points import PointSet
from omniconv.compiler.kernels.winograd.slabs import (
    list_slabs,
    plan_winograd,
    reject_winograd,
    serves_computed,
    settle_slabs,
    share_slabs,
)
from omniconv.compiler.kernels.winograd.transforms import WinogradInput, WinogradOutput
from omniconv.compiler.lowering.copy import Copy
from omniconv.compiler.lowering.family import Choice, Family
from omniconv.compiler.lowering.layer import Layer, place_layer, strides_of, with_neighbours
from omniconv.compiler.lowering.weights import pack_bias
from omniconv.compiler.memory.layout import plan_pitch
from omniconv.compiler.memory.planner import Group, Planner
from omniconv.compiler.memory.storage import BufferRef, Stored
from omniconv.compiler.problem.candidate import Candidate
from omniconv.compiler.problem.problem import Problem
from omniconv.compiler.problem.walk import AxisWalk
from omniconv.program.element import FLOAT32
from omniconv.program.steps import Array, ConvStep
from omniconv.spec.geometry import Axis
from omniconv.target.model import Target

OUTPUT_ARGS = 4


def _list(problem: Problem, target: Target) -> tuple[Iterator[Candidate[BlockGrid]]]:
    return (list_slabs(problem, target),)


def _place(planner: Planner, step: ConvStep, x: Stored, problem: Problem, _tile: BlockGrid) -> Layer:
    return place_layer(planner, step, with_neighbours(planner, step, x), problem)


def _lower(planner: Planner, layer: Layer, choice: Choice[BlockGrid]) -> None:
    problem, x, y = layer.problem, layer.x, layer.y
    strips, blocks = share_slabs(choice.tile, problem, planner.threads, kept=planner.shared is not None)
    lanes, products = planner.target.lanes, blocks.groups * blocks.points
    inputs, outputs = problem.inputs, problem.outputs
    sums = blocks.phases * outputs
    wide, narrow = plan_pitch(blocks.parts * inputs, planner.target), plan_pitch(sums, planner.target)
    axes = (AxisWalk.flat(1), AxisWalk.flat(1), _walk_planes(blocks))
    before, after = blocks.stride(wide, blocks.planes[0]), blocks.stride(narrow, blocks.planes[1])
    forward = WinogradInput(
        blocks=blocks,
        channels=inputs,
        x_strides=strides_of(x.layout),
        readable=x.layout.readable,
        pitch=wide,
        lanes=lanes,
    )
    sets = blocks.sets
    panels = [
        Panel(
            batch=1,
            axes=axes,
            groups=blocks.groups * each.points,
            inputs=each.parts * inputs,
            outputs=len(each.phases) * outputs,
            x_strides=(0, 0, 0, wide),
            y_strides=(0, 0, 0, narrow),
            x_channel=1,
            x_group=before,
            y_group=after,
            mapped=False,
            tail=True,
            posts=(),
            tile=plan_panel(
                Problem(1, axes, blocks.groups * each.points, each.parts * inputs, len(each.phases) * outputs),
                planner.target,
            ),
            lanes=lanes,
            along=False,
        )
        for each in sets
    ]
    flip = _flips(layer)
    source_weights = layer.weights.source
    computed = source_weights is not None
    direct = DirectSums(
        x=OUTPUT_ARGS,
        w=OUTPUT_ARGS + 1,
        x_strides=forward.x_strides,
        inputs=inputs,
        outputs=outputs,
        flip=flip,
    )
    back = WinogradOutput(
        blocks=blocks,
        channels=outputs,
        pitch=narrow,
        y_strides=strides_of(y.layout),
        tail=y.layout.tail and problem.groups == 1,
        posts=layer.posts_behind(OUTPUT_ARGS + 2 * computed),
        lanes=lanes,
        direct=direct if computed else None,
    )
    sizes, turns = [panel.groups * panel.depth * panel.columns for panel in panels], problem.groups // blocks.groups

    def pack(panel: Panel, each: PointSet, w: Array) -> Array:
        points = transform_weights(_order_weights(layer, w), blocks.axes, each.lines, problem.groups)
        served = math.prod(len(line.phases) for line in each.lines)
        points = points.reshape(-1, served, outputs, each.parts, inputs * axes[2].kernel)
        points = points[:, each.before : each.before + len(each.phases)]
        if each.order != tuple(range(each.parts)):
            points = points[:, :, :, each.order]
        points = points.reshape(-1, panel.inputs, 1, 1, axes[2].kernel)
        return replace(panel, groups=turns * panel.groups).pack_weights(points, transposed=False, flip=False)

    more: list[BufferRef] = []
    if source_weights is None:
        weights = [
            layer.weights.widened().pack(
                planner, turns * size, partial(pack, panel, each), ("weights", blocks.sizes, turns, each, panel.packing)
            )
            for size, panel, each in zip(sizes, panels, sets, strict=True)
        ]
    else:
        [panel], [size] = panels, sizes  # filtered in one part
        laid = _lay_out(planner, layer, source_weights)
        weights = [BufferRef(planner.add_buffer("arena", turns * size + lanes))]
        transform = WinogradWeights(
            axes=blocks.axes,
            groups=problem.groups,
            inputs=inputs,
            outputs=outputs,
            columns=panel.columns,
            panel=panel.tile.vectors,
            flip=flip,
            lanes=lanes,
        )
        planner.call(transform, [laid, *weights], "winograd_weights")
        more = [x.ref, laid]
    most = max(panels, key=lambda panel: panel.groups * panel.columns)
    nothing = planner.constant(most.groups * most.columns, lambda: most.pack_bias(None), packed="zeros")
    width = problem.groups * outputs + lanes
    bias = pack_bias(planner, layer.bias, width, lambda b: _pad_bias(b, width), "bias")
    zero = planner.zeros(max(problem.groups * inputs, wide) + 2 * lanes)
    slabs = [(turn, first) for turn in range(turns) for first in range(0, blocks.count, blocks.slab)]
    how = f"in {strips} strips, one for each thread" if strips > 1 else ""
    if strips > 1:
        planner.groups.append(Group(len(planner.calls), ((2 + len(sets)) * len(slabs) // strips,) * strips))
    # Where each slab begins: its first block, and its first channel of the input and of the result.
    table = [(first, turn * blocks.groups * channels) for turn, first in slabs for channels in (inputs, outputs)]
    starts, words = planner.table([number for pair in table for number in pair]), 16 // planner.target.element.bytes
    places = iter([BufferRef(starts.buffer, words * index) for index in range(len(table))])
    decision, why = replace(choice.decision, multiplications=blocks.count_multiplications(problem)), blocks.describe()
    for strip in range(strips):
        spread = BufferRef(planner.add_buffer("arena", products * before + lanes))
        gathered = BufferRef(planner.add_buffer("arena", products * after + lanes))
        for turn, _ in slabs[strip * len(slabs) // strips : (strip + 1) * len(slabs) // strips]:
            planner.call(forward, [x.ref, spread, zero, next(places)], "winograd_input", choice.rejected, decision, how)
            for panel, each, size, packed in zip(panels, sets, sizes, weights, strict=True):
                taken = spread.shift(each.first * before + each.slot * inputs)
                made = gathered.shift(each.first * after + each.phases.start * outputs)
                part = packed.shift(turn * size)
                args = [taken, part, nothing, made, zero, zero]
                planner.call(panel, args, "panel", (), decision, why, fixed=True)
            planner.call(
                back, [gathered, bias, y.ref, next(places), *more, *layer.refs], "winograd_output", (), decision
            )


def _walk_planes(blocks: BlockGrid) -> AxisWalk:
    """The blocks of a slab, plane after plane, as one axis: a tap of a plane is as far away as there are blocks."""
    depth = blocks.axes[0]
    if not depth.direct:
        return AxisWalk.flat(blocks.slab)
    return AxisWalk.of(Axis(depth.r, dilation=blocks.slab), depth.reads * blocks.slab)


def _order_weights(layer: Layer, w: Array) -> Array:
    """Weights as ``(out, in of a group, depth, height, width)``, their taps as walks number them."""
    spec, problem = layer.spec, layer.problem
    taps = tuple(axis.kernel for axis in problem.axes)
    if spec.transposed:
        w = w.reshape(spec.groups, problem.inputs, problem.outputs, *taps).swapaxes(1, 2)
    w = w.reshape(spec.out_channels, problem.inputs, *taps)
    return w[:, :, ::-1, ::-1, ::-1] if spec.flip else w


def _flips(layer: Layer) -> bool:
    """Whether taps are taken from the last to the first."""
    return layer.spec.flip != layer.spec.transposed


def _lay_out(planner: Planner, layer: Layer, weights: BufferRef) -> BufferRef:
    """Computed weights as ``[group][input][tap][output]``."""
    groups, inputs, outputs = layer.problem.groups, layer.problem.inputs, layer.problem.outputs
    taps = layer.problem.taps
    size = groups * inputs * outputs * taps
    # In memory: (group, output, input, tap), or of a transposed layer (group, input, output, tap).
    apart = (taps, outputs * taps) if layer.spec.transposed else (inputs * taps, taps)
    laid = BufferRef(planner.add_buffer("arena", size + planner.target.lanes))
    dims = (
        (groups, inputs * outputs * taps, inputs * outputs * taps),
        (inputs, apart[1], taps * outputs),
        (taps, 1, outputs),
        (outputs, apart[0], 1),
    )
    planner.call(Copy.of(dims, planner.target.lanes), [weights, laid], "pack")
    return laid


def _holds(blocks: BlockGrid, largest: float) -> bool:
    """Whether all transformed weights are finite: a point adds up the taps with factors of its own along each axis."""
    most = math.prod(float(np.abs(axis.filtering.kernel).sum(axis=1).max()) for axis in blocks.axes if axis.filtered)
    return largest * most <= float(np.finfo(FLOAT32.dtype).max)


def _pad_bias(b: Array | None, size: int) -> Array:
    padded = np.zeros(size, np.float32 if b is None else b.dtype)
    if b is not None:
        padded[: b.size] = b
    return padded


FAMILY = Family(
    "winograd",
    reject=reject_winograd,
    tiles=_list,
    prefer=plan_winograd,
    place=_place,
    lower=_lower,
    settle=settle_slabs,
    holds=_holds,
    computes=serves_computed,
)
