"""Quantised layers become calls: which kernel, in which tiles."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import numpy.typing as npt

from omniconv.compiler.kernels.quantised.byte_lane import PackedBytes, QuantisedByteLane
from omniconv.compiler.kernels.quantised.filtered import MOST, OUTPUTS, POINTS, ROWS, QuantisedFilter
from omniconv.compiler.kernels.quantised.lane import QuantisedLane, count_held
from omniconv.compiler.kernels.quantised.panel import QuantisedPanel
from omniconv.compiler.kernels.quantised.quads import QUAD, PackedQuads, QuantisedQuads
from omniconv.compiler.kernels.quantised.taps import TapAxis, TapWalk, list_axes, stays_bounded
from omniconv.compiler.lowering.arrange import as_channels_last, as_rows
from omniconv.compiler.lowering.layer import strides_of
from omniconv.compiler.memory.layout import Layout
from omniconv.compiler.memory.planner import Planner
from omniconv.compiler.memory.storage import Buffer, BufferRef, Stored, merge_axes
from omniconv.integers import ceil_div
from omniconv.program.element import INT16
from omniconv.program.levels import Levels
from omniconv.program.steps import QuantisedConvStep, QuantisedDenseStep
from omniconv.program.steps.quantised_conv import Requantised
from omniconv.spec import Conv

_PANEL_ROWS = 6
"""Positions of a tile of the panel kernel: by two vectors of sums, twelve of sixteen registers."""
_BYTE_STEPS = {1: (5, 2.0), 2: (4, 3.2)}
"""The same where it multiplies bytes, for each number of quads in a step: two vectors of weights and one of ones stay
in registers beside ten of sums; and the cost of a step [multiplications of vectors].
"""
_WORD_COST, _MORE_COST = 1.2, 2.5
"""Cost of a step of words, and of a further quad [multiplications of vectors]."""
_EXACT_COST, _BYTE_COST = 1.0, 6.0
"""Cost of a step of bytes whose products are added in 32 bits, and of making a vector of bytes [multiplications of
vectors]: counts of instructions, not measured.
"""
_LANE_ROWS = 4
"""Positions of a tile of the lane kernel."""
_BLOCK_BYTES = 2**14
"""Inputs of a unit of a pointwise layer, about: half of the smallest first-level cache [bytes]."""
_SPREAD, _GATHER = 4, 6
"""Cost of transforming an input, and an output, of a point [multiplications]."""
_MOST_BLOCKS, _SLAB = 48, 4
"""Blocks of a slab, at most; and what weights that are read again for each cost [blocks]."""
_MARGIN = 0.9
"""Layers are filtered where that is expected to take less than this part of the direct sum's time."""
_BLOCK_TILES = 4
"""Tiles of such a unit, at least: they share the weights that are read for it."""


def lower_quantised_conv(planner: Planner, step: QuantisedConvStep) -> None:
    """A convolution of integers."""
    x, y = as_channels_last(planner, step.x), planner.produce(step.y)
    _lower_layer(planner, step, step.spec, step.w, x, y)


def lower_quantised_dense(planner: Planner, step: QuantisedDenseStep) -> None:
    """A dense layer of integers: a pointwise convolution over rows."""
    outputs, inputs = step.w.shape
    shape = planner.shape(step.x)
    rows = math.prod(shape[:-1])
    if len(shape) == 2:
        x, y = as_channels_last(planner, step.x), planner.produce(step.y)
        distances = x.layout.strides[0], y.layout.strides[0]
    else:
        x, distance = as_rows(planner, step.x)
        y = planner.produce(step.y, plain=True)
        distances = distance, outputs
    seen = [
        replace(value, layout=Layout((1, size, rows), (0, 1, distance), tail=value.layout.tail and len(shape) == 2))
        for value, size, distance in zip((x, y), (inputs, outputs), distances, strict=True)
    ]
    _lower_layer(planner, step, Conv.of(inputs, outputs, 1, dims=1), step.w[:, :, None], seen[0], seen[1])


def _lower_layer(
    planner: Planner, step: Requantised, spec: Conv, w: npt.NDArray[np.int16], x: Stored, y: Stored
) -> None:
    lanes = planner.target.lanes
    axes, batch = list_axes(spec, x.layout, y.layout), x.layout.shape[0]
    y_words = planner.program.element_of(step.y).bytes // INT16.bytes
    x_strides = strides_of(x.layout)
    yn, yd, yh, yw = strides_of(y.layout)
    y_strides = yn * y_words, yd * y_words, yh * y_words, yw * y_words
    inputs, outputs = spec.in_channels // spec.groups, spec.out_channels // spec.groups
    by_lane = spec.groups > 1 and count_held(lanes, inputs, outputs) > 1
    pointwise = all(axis.kernel == axis.stride == 1 and not axis.padded for axis in axes)
    sizes = (batch, *(axis.result for axis in axes))
    merged = merge_axes(sizes, x_strides, y_strides) if pointwise else None
    if merged is not None:
        count, (sx, sy) = merged
        one = TapAxis(1, 1, 1, 1, 1, 0)
        axes, batch = (one, one, TapAxis(count, count, 1, 1, 1, 0)), 1
        x_strides, y_strides = (0, 0, 0, sx), (0, 0, 0, sy)
    filtered, why = False, ""
    if not by_lane:
        filtered, why = _filters(spec, axes, batch, step, w)
    rows = _LANE_ROWS if by_lane else _even_rows(axes[2].result, _PANEL_ROWS)
    walk = TapWalk(
        batch=batch,
        axes=axes,
        x_strides=x_strides,
        y_strides=y_strides,
        tile=rows,
        block=_size_unit(axes[2].result, rows, spec.in_channels if pointwise else None),
        limits=None if step.levels is None else (step.levels.low, step.levels.high),
        bounded=stays_bounded(step.largest_sums(0), step.factor),
        lanes=lanes,
        y_words=y_words,
    )
    recipe: QuantisedLane | QuantisedPanel | QuantisedFilter
    split: PackedQuads | PackedBytes | None = None
    if by_lane:
        recipe = QuantisedLane(walk=walk, groups=spec.groups, inputs=inputs, outputs=outputs, tail=y.layout.tail)
        recipe, split, why = _by_byte_lane(planner, recipe, step, spec, w)
    elif filtered:
        slab, most = _size_slab(planner, batch, axes, inputs)
        recipe = QuantisedFilter(walk=walk, inputs=inputs, outputs=outputs, slab=slab, most=most, tail=y.layout.tail)
    else:
        tail = y.layout.tail and spec.groups == 1 and step.levels is not None
        recipe = QuantisedPanel(walk=walk, groups=spec.groups, inputs=inputs, outputs=outputs, tail=tail)
        if merged is not None and spec.groups == 1:
            recipe, split, why = _by_bytes(planner, recipe, step, w)
    way: Hashable = type(recipe).__name__, lanes
    if split is not None:
        assert isinstance(recipe, QuantisedQuads | QuantisedByteLane)
        way = recipe.packing(step.x_levels)
        weights, bias = split.weights, recipe.pack_outputs((step.b + split.moved).astype(np.int32))
    else:
        weights = planner.of_array(step.w, way, lambda: recipe.pack(_straighten(spec, w)))
        bias = recipe.pack_outputs(step.b)
    arrays = weights, bias, recipe.pack_outputs(step.factor)
    packed = [_constant(planner, array, (way, number)) for number, array in enumerate(arrays)]
    # A row of zeros: integers of half the size of floats.
    zeros = planner.zeros(axes[2].size * x_strides[3] + 2 * lanes)
    args, name = [x.ref, y.ref, *packed, zeros], "lane" if by_lane else "panel"
    if isinstance(recipe, QuantisedFilter | QuantisedQuads):
        args.append(planner.thread_memory(recipe.room))
    if isinstance(recipe, QuantisedQuads) and recipe.split:
        assert isinstance(split, PackedQuads)
        args.append(_constant(planner, split.places, (way, len(packed))))
    if isinstance(recipe, QuantisedFilter):
        name = "filtered"
    planner.call(recipe, args, name, how=why)


def _by_bytes(
    planner: Planner, panel: QuantisedPanel, step: Requantised, w: npt.NDArray[np.int16]
) -> tuple[QuantisedPanel, PackedQuads | None, str]:
    """The kernel of bytes for a pointwise layer, where the machine and the weights allow it and, unless it adds quads
    exactly, several blocks of outputs read what is made for them; else the kernel of words, and why.
    """
    traits = planner.target.traits
    if traits.quad_sums is not None:
        return _by_exact_bytes(planner, panel, step, w, signed=traits.quad_sums.signed)
    if panel.panels < 2 or not traits.words.quads:
        return panel, None, ""
    best, weights, least = None, None, _WORD_COST * panel.pairs
    for depth, (most, cost) in _BYTE_STEPS.items():
        quads = _make_quads(panel, step, most, depth)
        split = _pack_quads(planner, quads, step, w)
        if split is None:
            return panel, None, "words: integers that are no bytes"
        more = split.more
        total = cost * quads.pairs // depth + _MORE_COST * more / panel.panels
        if total < least:
            best, weights, least = replace(quads, split=more > 0), split, total
    if best is None or weights is None:
        return panel, None, "words: most sums of bytes would be beyond 16 bits"
    again = weights.more / (panel.panels * best.pairs)
    beyond = f", {again:.0%} of them twice for weights that together are beyond 16 bits" if best.split else ""
    return best, weights, f"bytes: sums of {2 * best.depth} products in 16 bits{beyond}"


def _by_exact_bytes(
    planner: Planner, panel: QuantisedPanel, step: Requantised, w: npt.NDArray[np.int16], *, signed: bool
) -> tuple[QuantisedPanel, PackedQuads | None, str]:
    """The same where the machine adds products of quads in 32 bits."""
    quads = replace(_make_quads(panel, step, _PANEL_ROWS, 1), exact=True, signed=signed)
    split = _pack_quads(planner, quads, step, w)
    if split is None:
        return panel, None, "words: integers that are no bytes"
    made = _BYTE_COST / panel.walk.lanes / (2 * panel.panels)
    if (_EXACT_COST + made) * quads.pairs >= _WORD_COST * panel.pairs:
        return panel, None, "words: too few channels to make bytes of them"
    return quads, split, f"bytes: sums of {QUAD} products in 32 bits"


def _by_byte_lane(
    planner: Planner, lane: QuantisedLane, step: Requantised, spec: Conv, w: npt.NDArray[np.int16]
) -> tuple[QuantisedLane, PackedBytes | None, str]:
    """The kernel of bytes for small groups, where the machine and the weights allow it; else that of words, and why."""
    units = planner.target.traits.words
    fills = lane.inputs % QUAD == 0 and lane.held * lane.inputs == lane.lanes
    if not (units.quads and units.narrow and fills):
        return lane, None, ""
    recipe = QuantisedByteLane(
        walk=lane.walk,
        groups=lane.groups,
        inputs=lane.inputs,
        outputs=lane.outputs,
        tail=lane.tail,
        least=step.x_levels.low,
    )
    packed = planner.of_array(
        step.w, recipe.packing(step.x_levels), lambda: recipe.pack_bytes(_straighten(spec, w), step.x_levels)
    )
    if packed is None:
        return lane, None, "words: some sums of four products of bytes would not fit 16 bits"
    return recipe, packed, "bytes: sums of 4 products in 16 bits"


def _make_quads(panel: QuantisedPanel, step: Requantised, most: int, depth: int) -> QuantisedQuads:
    """The kernel of bytes of a layer, with tiles of so many rows at most and steps of so many quads."""
    count = panel.walk.axes[2].result
    rows = _even_rows(count, most)
    return QuantisedQuads(
        walk=replace(panel.walk, tile=rows, block=_size_unit(count, rows, panel.inputs)),
        groups=1,
        inputs=panel.inputs,
        outputs=panel.outputs,
        tail=panel.tail,
        least=step.x_levels.low,
        depth=depth,
    )


def _pack_quads(
    planner: Planner, quads: QuantisedQuads, step: Requantised, w: npt.NDArray[np.int16]
) -> PackedQuads | None:
    """The weights of such a kernel, packed once for all sizes; ``None`` where they or inputs are no bytes."""
    return planner.of_array(step.w, quads.packing(step.x_levels), partial(quads.pack_split, w, step.x_levels))


def _filters(
    spec: Conv, axes: Sequence[TapAxis], batch: int, step: Requantised, w: npt.NDArray[np.int16]
) -> tuple[bool, str]:
    """Whether a layer is filtered, and why or why not: a function of the layer alone."""
    depth, height, width = axes
    if spec.groups > 1 or depth != TapAxis(1, 1, 1, 1, 1, 0):
        return False, ""
    if any((axis.kernel, axis.stride, axis.dilation) != (3, 1, 1) for axis in (height, width)):
        return False, ""
    largest = _bound_products(w, step.x_levels)
    if largest >= MOST:
        return False, f"not filtered: sums of products up to {largest}, which filtering knows below {MOST}"
    inputs, outputs = spec.in_channels, spec.out_channels
    blocks = batch * ceil_div(height.result, OUTPUTS) * ceil_div(width.result, OUTPUTS)
    rows = ceil_div(blocks, ROWS) * ROWS
    direct = batch * height.result * width.result * 9 * inputs * outputs
    cost = POINTS * (rows * inputs * outputs + blocks * (_SPREAD * inputs + _GATHER * outputs))
    share = f"{cost / direct:.2f} of the direct sum's time expected"
    if cost > _MARGIN * direct:
        return False, f"not filtered: {share}"
    return True, f"F(4x4, 3x3), exact in integers modulo 2**32; {share}"


def _bound_products(w: npt.NDArray[np.int16], levels: Levels) -> int:
    """How large the sum of products of an output can be: inputs keep to their levels, or are zeros beside them."""
    wide = w.astype(np.int64).reshape(len(w), -1)
    positive, negative = np.maximum(wide, 0).sum(1), np.maximum(-wide, 0).sum(1)
    low, high = min(levels.low, 0), max(levels.high, 0)
    return int(np.maximum(positive * high - negative * low, negative * high - positive * low).max(initial=0))


def _size_slab(planner: Planner, batch: int, axes: Sequence[TapAxis], inputs: int) -> tuple[int, int]:
    """Blocks of a slab: few slabs for each thread, without many blocks that do not exist, whose transformed inputs stay
    in the second-level cache. And how many there are at most, whatever the size of images.
    """
    count = batch * ceil_div(axes[1].result, OUTPUTS) * ceil_div(axes[2].result, OUTPUTS)
    fits = 3 * planner.target.cache_bytes // 4 // (2 * POINTS * inputs)
    sizes = range(ROWS, max(2 * ROWS, min(_MOST_BLOCKS, fits)) + 1, ROWS)
    slab = min(sizes, key=lambda size: ceil_div(ceil_div(count, size), planner.threads) * (size + _SLAB))
    return slab, sizes[-1]


def _size_unit(count: int, rows: int, channels: int | None) -> int:
    """Tiles of a unit: a whole row, or of pointwise layers so many that their inputs stay in the first-level cache."""
    tiles = ceil_div(count, rows)
    if channels is None:
        return tiles
    return min(tiles, max(_BLOCK_TILES, _BLOCK_BYTES // (2 * rows * channels)))


def _even_rows(count: int, most: int) -> int:
    """Rows of a tile, at most so many, of which whole tiles make up a row of positions, or nearly."""
    return ceil_div(count, ceil_div(count, most)) if count <= 4 * most else most


def _straighten(spec: Conv, w: npt.NDArray[np.int16]) -> npt.NDArray[np.int16]:
    """Weights of a kernel that is mirrored in the order of its taps."""
    return np.flip(w, tuple(range(2, w.ndim))) if spec.flip else w


def _constant(planner: Planner, array: npt.NDArray[np.generic], packed: Hashable) -> BufferRef:
    planner.buffers.append(Buffer("constant", array.nbytes, make=lambda: array, packed=packed))
    return BufferRef(len(planner.buffers) - 1)
