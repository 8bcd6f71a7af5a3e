"""The choice of the series kernel and of its tile: a pure function of the problem and the target.

As in :mod:`omniconv.compiler.schedule`, costs are in vector operations.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from omniconv.compiler.schedule import UNITS, Problem
from omniconv.compiler.series import SeriesTile, spans
from omniconv.compiler.target import Target
from omniconv.compiler.walk import AxisWalk

STRIDES = 4
"""Longest stride along the width."""
WINDOW_BYTES = 20 * 1024
"""Padded rows in a unit of work: they stay in a first-level cache, beside what the tiles write."""
COLUMNS = 2048
"""Output columns in a unit, at most."""


def reject_series(problem: Problem) -> str | None:
    """Why the series kernel does not serve a problem on arrays of neighbours along the width; ``None`` where it does."""
    if problem.inputs > 1:
        return f"{problem.inputs} input channels a group: an output needs more than one"
    if any(not axis.static or axis.out_step > 1 or axis.ostep < 0 for axis in problem.axes):
        return "transposed"
    if problem.axes[2].in_step > STRIDES:
        return f"stride {problem.axes[2].in_step} along the width is longer than {STRIDES}"
    return None


def plan_series(problem: Problem, target: Target) -> tuple[SeriesTile, int]:
    """The cheapest tile that fits the registers, and the lanes of its vectors."""
    options = [_plan(problem, target, lanes) for lanes in sorted({target.lanes, min(target.lanes, 8)}, reverse=True)]
    _, tile, lanes = min(options, key=lambda option: option[0])
    return tile, lanes


def _plan(problem: Problem, target: Target, lanes: int) -> tuple[float, SeriesTile, int]:
    _, height, width = problem.axes
    spread = min(height.ostep, height.output) if height.in_step == 1 and height.ostep > 1 else 1
    columns = width.output if width.output <= COLUMNS else -(-(width.output // -(-(width.output // -COLUMNS))) // -lanes) * lanes
    columns = min(columns, width.output)
    vectors = -(columns // -lanes)
    # An unaligned load that crosses the end of a cache line counts twice.
    load = 1 + lanes / 16
    room = target.registers - 2
    best, cheapest = SeriesTile(1, 1, 1, 1, 1, 1, (1, columns)), math.inf
    for across, step in _across(width, lanes):
        parts = spans(width.kernel, across, step)
        for down in _down(height):
            rounds = height.kernel / down
            for rows in range(1, min(8, height.output // spread) + 1):
                lines = rows + down - 1 if spread > 1 or height.in_step == height.ostep == 1 else rows * down
                if height.kernel == 1:
                    lines = rows
                groups, rest = divmod(height.output, rows * spread)
                tiles = groups * spread + min(rest, spread)
                for wide in range(1, min(vectors, max(1, (room - down * across) // rows)) + 1):
                    if rows * wide + down * across > room:
                        break
                    cost = 0.0
                    for span in parts:
                        taps = down * span.taps
                        inputs = lines * (wide + span.taps - 1 if step > 1 else wide * span.taps)
                        each = max(rows * wide * taps, inputs * load + taps, (4 if target.fma else 8) * taps * 2.0)
                        cost += (each + 4) * span.outer * span.inner
                    cost = cost * rounds + 2.0 * rows * wide + 12 + (0 if down == height.kernel else 12 + 4 * rounds)
                    cost *= tiles * -(vectors // -wide)
                    if cost < cheapest - 1e-9:
                        cheapest = cost
                        best = SeriesTile(rows, wide, down, across, step, spread, (1, columns))
    tile = _block(problem, best, lanes)
    narrow = 0.5 if lanes < target.lanes else 1.0
    return cheapest * narrow, tile, lanes


def _across(width: AxisWalk, lanes: int) -> Iterator[tuple[int, int]]:
    """Taps of the width that may be unrolled together, and the distance between them."""
    kernel, stride = width.kernel, width.in_step
    for taps in range(1, min(kernel, 9) + 1):
        if taps == kernel or taps * width.ostep % stride == 0:
            yield taps, 1
    if stride == 1 and width.ostep and lanes % width.ostep == 0 and kernel > lanes // width.ostep > 1:
        for taps in range(2, min(-(kernel // -(lanes // width.ostep)), 6) + 1):
            yield taps, lanes // width.ostep


def _down(height: AxisWalk) -> list[int]:
    """Taps of the height that may be unrolled together."""
    return [taps for taps in range(1, min(height.kernel, 7) + 1) if taps <= 4 or taps == height.kernel]


def _block(problem: Problem, tile: SeriesTile, lanes: int) -> SeriesTile:
    """Rows of a unit: whole tiles, as many as the cache holds and as few as share the work out."""
    depth, height, width = problem.axes
    extent = tile.rows * tile.spread
    columns = max(tile.block[1], lanes) * width.in_step + width.kernel * width.ostep
    line = 4 * columns * (depth.size if depth.kernel > 1 else 1)
    halo = (height.kernel - 1) * height.ostep
    wanted = max(WINDOW_BYTES // line - halo, halo, height.in_step * extent) // height.in_step
    lines = problem.batch * problem.groups * -(width.output // -tile.block[1])
    # The last block takes what is left over: up to twice as much.
    rows = min(max(1, wanted // extent), max(1, height.output * lines // UNITS // extent)) * extent
    rows = height.output if height.output < 2 * rows else rows
    return SeriesTile(
        tile.rows, tile.vectors, tile.down, tile.across, tile.step, tile.spread, (rows, tile.block[1])
    )
