"""The panel family: every layer whose groups have vectors of their own."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from omniconv.compiler.kernels.lane.tiles import WHOLE, fits_both, reject_lane
from omniconv.compiler.kernels.panel.kernel import Panel
from omniconv.compiler.kernels.panel.packing import pack_panels
from omniconv.compiler.kernels.panel.row import ARGS, divide_spans
from omniconv.compiler.kernels.panel.tiles import PanelTile, list_panels, plan_panel
from omniconv.compiler.lowering.arrange import as_channels_last
from omniconv.compiler.lowering.family import Choice, Family
from omniconv.compiler.lowering.layer import Layer, merge_positions, place_layer, strides_of
from omniconv.compiler.lowering.weights import pack_bias
from omniconv.compiler.memory.layout import Layout, row_major
from omniconv.compiler.memory.planner import Planner
from omniconv.compiler.memory.storage import BufferRef, Stored
from omniconv.compiler.problem.candidate import Candidate
from omniconv.compiler.problem.problem import Facts, Problem
from omniconv.program.element import BFLOAT16
from omniconv.program.steps import Array, ConvStep
from omniconv.target.model import Target

FAR = 8
"""Weights of so many second-level caches come from memory, or from a cache that others use as well."""
LEAST_TILES = 8
"""Fewer tiles read weights no slower than they come."""
DIRECT = 16
"""Below so many input channels a panel kernel reads channels-first input in place; from here on, a copy pays."""


def reads_in_place(x: Layout, channels: int) -> bool:
    """Whether an input is read as it lies."""
    return x.channels_last or channels < DIRECT


def merge_layer(layer: Layer) -> Layer:
    """A layer with all positions in one row, where it and its layouts allow that."""
    found = merge_positions(layer.problem, layer.x.layout, layer.y.layout, layer.posts)
    if found is None:
        return layer
    problem, x, y, posts = found
    source, result = replace(layer.x, layout=x), replace(layer.y, layout=y)
    return replace(layer, problem=problem, x=source, y=result, posts=posts)


class _Source(NamedTuple):
    """Input channels of a panel kernel: where they start, their step, an optional list, and the order of weights."""

    ref: BufferRef
    step: int
    offsets: tuple[int, ...] | None
    order: tuple[int, ...] | None


def _channel_source(x: Stored, groups: int) -> _Source:
    """How the reduction walks the input channels.

    Within a group the order is free (the weights follow), so positions are sorted: a whole permutation becomes a plain
    walk.
    """
    step = x.layout.grid.sc
    if x.layout.channels is None:
        return _Source(x.ref, step, None, None)
    positions = np.asarray(x.layout.channels).reshape(groups, -1)
    order = np.argsort(positions, axis=1, kind="stable")
    walk = np.take_along_axis(positions, order, axis=1).reshape(-1)
    width = positions.shape[1]
    reorder = tuple(int(i) for i in (order + np.arange(groups)[:, None] * width).reshape(-1))
    if np.array_equal(walk, np.arange(walk[0], walk[0] + walk.size)):
        return _Source(x.ref.shift(int(walk[0]) * step), step, None, reorder)
    return _Source(x.ref, step, tuple(int(p) * step for p in walk), reorder)


def _reorder_inputs(w: Array, order: tuple[int, ...] | None, groups: int, transposed: bool) -> Array:
    """Weights with the input channels of each group in walking order."""
    if order is None:
        return w
    if transposed:
        return w[list(order)]
    width = w.shape[1]
    within = np.asarray(order).reshape(groups, width) % width
    outputs = w.shape[0] // groups
    index = np.repeat(within, outputs, axis=0).reshape(w.shape[0], width, *(1,) * (w.ndim - 2))
    return np.take_along_axis(w, index, axis=1)


def _reject(problem: Problem, target: Target, _facts: Facts) -> str | None:
    return None if fits_both(problem, target) or reject_lane(problem, target) is not None else WHOLE


def _prefer(problem: Problem, target: Target) -> tuple[PanelTile, tuple[str, ...]]:
    return plan_panel(problem, target), ()


def _list(problem: Problem, target: Target) -> tuple[Iterator[Candidate[PanelTile]]]:
    return (list_panels(problem, target),)


def place_panel(planner: Planner, step: ConvStep, x: Stored, problem: Problem, _tile: PanelTile) -> Layer:
    """The layer of a step for the panel kernel."""
    if not reads_in_place(x.layout, step.spec.in_channels):
        x = as_channels_last(planner, step.x)
    return merge_layer(place_layer(planner, step, x, problem))


def _lower(planner: Planner, layer: Layer, choice: Choice[PanelTile]) -> None:
    lower_panel(planner, layer, choice.tile, choice)


def lower_panel(
    planner: Planner, layer: Layer, tile: PanelTile, choice: Choice[Any], how: str = "", kind: Hashable = None
) -> None:
    """Append the call of a layer.

    Args:
        planner: what it is planned with.
        layer: the layer.
        tile: of the panel kernel.
        choice: what the call says of how it was chosen.
        how: the same of how it is computed.
        kind: what the order of the weights depends on beside the kernel.
    """
    problem, x, y = layer.problem, layer.x, layer.y
    channels = _channel_source(x, problem.groups)
    recipe = Panel(
        batch=problem.batch,
        axes=problem.axes,
        groups=problem.groups,
        inputs=problem.inputs,
        outputs=problem.outputs,
        x_strides=strides_of(x.layout),
        y_strides=strides_of(y.layout),
        x_channel=channels.step,
        x_group=problem.inputs * channels.step,
        y_group=problem.outputs,
        mapped=channels.offsets is not None,
        tail=y.layout.tail and problem.groups == 1,
        posts=layer.posts_behind(ARGS),
        tile=tile,
        lanes=planner.target.lanes,
        pairs=layer.weights.narrow,
    )
    if x.element is BFLOAT16 and recipe.neighbours:
        adds = recipe.pairs and bool(planner.target.traits.pair_sums)
        recipe = replace(recipe, adds_pairs=adds, widens=not adds and problem.pointwise and x.layout.readable)
    recipe = replace(recipe, parted=is_parted(recipe, planner.target))
    weights = _pack(planner, layer, recipe, channels.order, kind)
    key = "bias", recipe.packing, kind
    bias = pack_bias(planner, layer.bias, recipe.groups * recipe.columns, recipe.pack_bias, key)
    furthest = max(channels.offsets) if channels.offsets else (problem.groups * problem.inputs) * channels.step
    zero = planner.zeros(furthest + 1)
    table = planner.table(channels.offsets) if channels.offsets is not None else zero
    args = [channels.ref, weights, bias, y.ref, zero, table, *layer.refs]
    if recipe.widens or recipe.parted:
        args.append(planner.thread_memory(recipe.room))
    planner.call(recipe, args, FAMILY.name, choice.rejected, choice.decision, how)


def is_parted(recipe: Panel, target: Target) -> bool:
    """Whether the weights come from far beyond the caches of a core, so that a tile that goes through all of a panel
    alone waits for them.
    """
    pointwise = all(axis.pointwise for axis in recipe.axes)
    plain = not (recipe.mapped or recipe.pairs or recipe.widens or recipe.tile.inner)
    if not (pointwise and plain and divide_spans(recipe.inputs)[0] > 0):
        return False
    if recipe.axes[2].counts[0] < LEAST_TILES * recipe.tile.rows:
        return False
    return target.element.bytes * recipe.groups * recipe.depth * recipe.columns > FAR * target.cache_bytes


def _pack(planner: Planner, layer: Layer, recipe: Panel, order: tuple[int, ...] | None, kind: Hashable) -> BufferRef:
    """Weights in reading order. Computed ones whose input channels keep their order are copied by strides."""
    spec, source = layer.spec, layer.weights.source
    if source is None or order is not None:
        return layer.weights.pack(
            planner,
            recipe.groups * recipe.depth * recipe.columns,
            lambda w: recipe.pack_weights(
                _reorder_inputs(w, order, recipe.groups, spec.transposed), transposed=spec.transposed, flip=spec.flip
            ),
            ("weights", recipe.packing, order, kind),
        )
    taps = tuple(axis.kernel for axis in recipe.axes)
    inner = (recipe.inputs, recipe.outputs) if spec.transposed else (recipe.outputs, recipe.inputs)
    group, first, second, *rest = row_major((recipe.groups, *inner, *taps)).strides
    inputs, outputs = (first, second) if spec.transposed else (second, first)
    if spec.flip:
        last = sum((size - 1) * stride for size, stride in zip(taps, rest, strict=True))
        source, rest = source.shift(last), [-stride for stride in rest]
    depth = [*zip(taps, rest, strict=True), (recipe.inputs, inputs)]
    return pack_panels(planner, recipe, source, [(recipe.groups, group)], depth, outputs)


FAMILY = Family("panel", reject=_reject, tiles=_list, prefer=_prefer, place=place_panel, lower=_lower, merges=True)
