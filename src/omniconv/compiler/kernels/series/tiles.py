"""The choice of the series kernel and of its tile: a pure function of the problem and the target.

As in :mod:`omniconv.compiler.planning.choice`, costs are in vector operations.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

from omniconv.compiler.problem.candidate import UNITS
from omniconv.compiler.problem.problem import Problem
from omniconv.compiler.problem.walk import AxisWalk
from omniconv.target.model import Target

STRIDES = 2
"""Longest stride along the width: taking a longer one apart costs as much as a change of layout."""
WINDOW_BYTES = 12 * 1024
"""Padded rows in a unit of work, at most where a channel has no more: two windows stay in a first-level cache."""
BLOCK_BYTES = 6 * 1024
"""Padded rows in a unit of work where a channel has more."""
SUMS = 16
"""Sums of a tile, at most."""
CODE = 160
"""Multiply-adds unrolled together, at most."""
LATENCY = 8
"""Sums below which the processor waits for the one before."""
COLUMNS = 2048
"""Output columns in a unit of work, at most."""


@dataclass(frozen=True, slots=True)
class SeriesPlan:
    """A tile, the lanes of its vectors, and the expected cost of the layer."""

    tile: SeriesTile
    lanes: int
    cost: float


def plan_series(problem: Problem, target: Target) -> tuple[SeriesPlan | None, str]:
    """The cheapest tile that fits the registers, or ``None`` and why the series kernel does not serve a layer between
    channels-first arrays, or is expected to take longer than two changes of layout and the lane kernel between them.
    """
    reason = _reject(problem)
    if reason is not None:
        return None, reason
    options = [_plan(problem, target, lanes) for lanes in sorted({target.lanes, min(target.lanes, 8)}, reverse=True)]
    best = min(options, key=lambda option: option.cost)
    converted = _converted(problem, target)
    if best.cost > converted:
        return None, f"expected to take {best.cost / converted:.2f} times as long as with changes of layout"
    return best, f"changes of layout: expected to take {converted / best.cost:.2f} times as long"


def _reject(problem: Problem) -> str | None:
    if problem.inputs > 1:
        return f"{problem.inputs} input channels a group: an output needs more than one"
    if any(not axis.static or axis.out_step > 1 or axis.ostep < 0 for axis in problem.axes):
        return "transposed"
    if problem.axes[2].in_step > STRIDES:
        return f"stride {problem.axes[2].in_step} along the width is longer than {STRIDES}"
    return None


def _converted(problem: Problem, target: Target) -> float:
    """Cost of the lane kernel between two changes of layout."""
    channels = problem.groups * problem.outputs
    outputs = problem.batch * math.prod(axis.output for axis in problem.axes)
    inputs = problem.batch * math.prod(axis.size for axis in problem.axes)
    taps = math.prod(axis.kernel * axis.share_inside for axis in problem.axes)
    strided = 1.5 if problem.axes[2].in_step > 1 else 1.0
    lane = -(channels // -target.lanes) * outputs * (1.5 * strided * taps * _work(target) + 12)
    return lane + (problem.groups * inputs + channels * outputs)


def _work(target: Target) -> float:
    """Operations of a multiply-add."""
    return 1.0 if target.fma else 2.0


def _plan(problem: Problem, target: Target, lanes: int) -> SeriesPlan:
    depth, height, width = problem.axes
    parts = -(width.output // -COLUMNS)
    columns = min(width.output, -(-(width.output // -parts) // -lanes) * lanes)
    spread = min(height.ostep, height.output) if height.in_step == 1 and height.ostep > 1 else 1
    vectors = -(columns // -lanes)
    load = 1 + lanes / 16  # an unaligned load that crosses the end of a cache line counts twice
    work, planes = _work(target), depth.kernel * depth.share_inside
    room = target.registers - 2
    best, cheapest = SeriesTile(1, 1, 1, 1, 1, spread, (1, columns)), math.inf
    for across, step in _across(width, lanes):
        rounds = [(span.taps, span.outer * span.inner) for span in spans(width.kernel, across, step)]
        for down in _down(height):
            repeats, trimmed = 1.0, 0.0
            if down < height.kernel:  # rounds without a row inside are left out
                repeats = height.kernel / down * min(1.0, height.share_inside + down / height.kernel)
                trimmed = 12 + 4 * repeats
            for rows in range(1, min(8, height.output // spread) + 1):
                shared = spread > 1 or height.in_step == height.ostep == 1
                lines = rows + down - 1 if shared else rows * down
                groups, rest = divmod(height.output, rows * spread)
                tiles = groups * spread + min(rest, spread)
                held = min(room - down * across, SUMS, CODE // (down * across))
                for wide in range(1, min(vectors, held // rows) + 1):
                    cost = 0.0
                    for count, times in rounds:
                        taps = down * count
                        loads = lines * (wide + count - 1 if step > 1 else wide * count) * load + taps
                        cost += (max(rows * wide * taps * work, loads, LATENCY * taps) + 4) * times
                    cost = cost * repeats * planes + trimmed + 2.0 * rows * wide + 12
                    cost *= tiles * -(vectors // -wide)
                    if cost < cheapest - 1e-9:
                        cheapest, best = cost, SeriesTile(rows, wide, down, across, step, spread, (1, columns))
    # Half a vector costs half as much on some machines, and as much as a whole one on others.
    cheapest *= (1.0 if lanes == target.lanes else 0.65) * problem.outputs * depth.output * parts
    fill = depth.size * height.size * (8 + (2 + width.in_step) * -(width.size // -lanes))
    cost = problem.batch * problem.groups * (cheapest + fill)
    return SeriesPlan(replace(best, block=(_block(problem, target, best, lanes), columns)), lanes, cost)


def _across(width: AxisWalk, lanes: int) -> Iterator[tuple[int, int]]:
    """Taps of the width that may be unrolled together, and the distance between them."""
    kernel, stride = width.kernel, width.in_step
    for taps in range(1, min(kernel, 9) + 1):
        if taps == kernel or taps * width.ostep % stride == 0:
            yield taps, 1
    step = lanes // width.ostep if width.ostep and lanes % width.ostep == 0 else 1
    if stride == 1 and kernel > step > 1:
        for taps in range(2, min(-(kernel // -step), 6) + 1):
            yield taps, step


def _down(height: AxisWalk) -> list[int]:
    """Taps of the height that may be unrolled together."""
    return [taps for taps in range(1, min(height.kernel, 7) + 1) if taps <= 4 or taps == height.kernel]


def _block(problem: Problem, target: Target, tile: SeriesTile, lanes: int) -> int:
    """Output rows of a unit: whole tiles, as many as the cache holds and as few as share the work out. The last unit
    takes what is left over, too, which may be nearly as much again.
    """
    depth, height, width = problem.axes
    extent = tile.rows * tile.spread
    columns = max(tile.block[1], lanes) * width.in_step + width.kernel * width.ostep
    line = target.element.bytes * columns * (depth.size if depth.kernel > 1 else 1)
    halo = (height.kernel - 1) * height.ostep
    small = line * (height.size + halo) <= WINDOW_BYTES
    wanted = height.output if small else max(BLOCK_BYTES // line - halo, halo) // height.in_step
    lines = problem.batch * problem.groups * -(width.output // -tile.block[1])
    rows = min(max(1, wanted // extent), max(1, height.output * lines // UNITS // extent)) * extent
    return height.output if height.output < 2 * rows else rows


@dataclass(frozen=True, slots=True)
class SeriesTile:
    """Sizes chosen by the schedule.

    Attributes:
        rows: output rows of a tile, ``spread`` apart.
        vectors: vectors of outputs of a tile, along the width.
        down, across: taps of height and width that are unrolled together.
        step: distance between those of the width.
        spread: the dilation of the height where that lets rows share inputs, else 1.
        block: output rows and columns in one unit of work.
    """

    rows: int
    vectors: int
    down: int
    across: int
    step: int
    spread: int
    block: tuple[int, int]


class Span(NamedTuple):
    """Taps ``first + i * outer_step + j + step * t`` for i < outer, j < inner, t < taps."""

    first: int
    outer: int
    outer_step: int
    inner: int
    taps: int
    step: int


def spans(kernel: int, across: int, step: int) -> list[Span]:
    """All taps of an axis, ``across`` at a time as long as there are so many, ``step`` apart."""
    group = across * step
    whole = kernel // group
    found = [Span(0, whole, group, step, across, step)] if whole else []
    first, rest = whole * group, kernel % group
    taps = -(rest // -step)
    full = rest - (taps - 1) * step if taps else 0
    if full:
        found.append(Span(first, 1, 0, full, taps, step))
    if taps > 1 and full < step:
        found.append(Span(first + full, 1, 0, step - full, taps - 1, step))
    return found
