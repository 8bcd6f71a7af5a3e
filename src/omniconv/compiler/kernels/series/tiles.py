"""The choice of the series kernel and of its tile: a pure function of the problem and the target.

Costs are in vector operations of the whole layer.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import chain
from typing import ClassVar, NamedTuple

from omniconv.compiler.problem.candidate import UNITS, Candidate, Sizes, find_cheapest
from omniconv.compiler.problem.problem import Facts, Problem
from omniconv.compiler.problem.walk import AxisWalk
from omniconv.integers import ceil_div
from omniconv.records import dataclass
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
COLUMNS = 2048
"""Output columns in a unit of work, at most."""


def reject_series(problem: Problem, target: Target, facts: Facts) -> str | None:
    """Why the series kernel does not serve a problem; ``None`` where it does."""
    if not facts.x_rows:
        return "the input is not channels first"
    if not facts.y_rows:
        return "the result is not wanted channels first"
    if problem.inputs > 1:
        return f"{problem.inputs} input channels a group: an output needs more than one"
    if _phased(problem):
        return _reject_phased(problem, target)
    if problem.axes[2].in_step > STRIDES:
        return f"stride {problem.axes[2].in_step} along the width is longer than {STRIDES}"
    return None


def _phased(problem: Problem) -> bool:
    """Whether a layer is computed phase by phase: transposed ones."""
    return any(not axis.static or axis.out_step > 1 or axis.ostep < 0 for axis in problem.axes)


def _reject_phased(problem: Problem, target: Target) -> str | None:
    width = problem.axes[2]
    most = _count_sums(target)
    if width.out_step > most:
        return f"transposed with stride {width.out_step} along the width, longer than {most}"
    if width.kernel > CODE:
        return f"transposed with {width.kernel} taps along the width, more than {CODE}"
    return None


def _count_sums(target: Target) -> int:
    """Sums that a tile of a phased kernel may have."""
    return min(target.registers - 3, SUMS)


def prefer_series(problem: Problem, target: Target) -> tuple[SeriesTile | PhasedTile | None, tuple[str, ...]]:
    """The cheapest tile, or ``None`` where two changes of layout and the lane kernel between them are expected to be
    faster. Both are estimated in vector operations.
    """
    (tiles,) = list_series(problem, target)
    best = find_cheapest(tiles)
    assert best is not None
    converted = _converted(problem, target)
    if best.cost > converted:
        longer = best.cost / converted
        return None, (f"series: expected to take {longer:.2f} times as long as with changes of layout",)
    return best.tile, (f"changes of layout: expected to take {converted / best.cost:.2f} times as long",)


def _converted(problem: Problem, target: Target) -> float:
    """Cost of the lane kernel between two changes of layout."""
    channels = problem.groups * problem.outputs
    outputs = problem.batch * math.prod(axis.output for axis in problem.axes)
    inputs = problem.batch * math.prod(axis.size for axis in problem.axes)
    taps = math.prod(_count_taps(axis) for axis in problem.axes)
    strided = 1.5 if problem.axes[2].in_step > 1 else 1.0
    lane = ceil_div(channels, target.lanes) * outputs * (1.5 * strided * taps * _work(target) + 12)
    return lane + (problem.groups * inputs + channels * outputs)


def _count_taps(axis: AxisWalk) -> float:
    """Taps of an output that land inside, on average."""
    taps = sum(taps * count for taps, count in zip(axis.taps, axis.counts, strict=True))
    return taps / axis.output * axis.share_inside


def _work(target: Target) -> float:
    """Operations of a multiply-add."""
    return 1.0 if target.fma else 2.0


def list_series(problem: Problem, target: Target) -> tuple[Iterator[Candidate[SeriesTile | PhasedTile]]]:
    """Every tile that fits the registers, in whole vectors and, where those are quicker, in halves."""
    widths = [target.lanes, *([target.lanes // 2] if target.traits.half_vector < 1 else [])]
    listed = _list_phased if _phased(problem) else _list_tiles
    return (chain.from_iterable(listed(problem, target, lanes) for lanes in widths),)


def _list_phased(problem: Problem, target: Target, lanes: int) -> Iterator[Candidate[PhasedTile]]:
    depth, height, width = problem.axes
    stride, places, parts, columns = width.out_step, width.counts[0], *_divide(width, lanes)
    vectors = ceil_div(columns, lanes)
    load = 1 + target.element.bytes * lanes / target.traits.line_bytes
    scale = 1.0 if lanes == target.lanes else target.traits.half_vector
    lines = _count_taps(depth) * sum(height.taps) * height.counts[0]
    fill = depth.size * height.size * (8 + 3 * ceil_div(width.size, lanes))
    block = _block(problem, target, 1, columns, lanes), columns
    taps, reads = sum(width.taps), len(meetings(width))
    ends = 0 if places % lanes == width.output % stride == 0 else 6
    rows = depth.output * height.output
    for wide in range(1, min(vectors, _count_sums(target) // stride, max(1, CODE // width.kernel)) + 1):
        line = max(wide * taps * _work(target), wide * reads * load + taps) + 8
        stored = stride * wide * (1 + 1.5 * (stride - 1)) + 12
        cost = ceil_div(vectors, wide) * parts * (depth.output * lines * line + rows * stored) + rows * ends
        total = problem.batch * problem.groups * (problem.outputs * scale * cost + fill)
        yield Candidate(total, PhasedTile(wide, block, lanes))


def _list_tiles(problem: Problem, target: Target, lanes: int) -> Iterator[Candidate[SeriesTile]]:
    depth, height, width = problem.axes
    parts, columns = _divide(width, lanes)
    spread = min(height.ostep, height.output) if height.in_step == 1 and height.ostep > 1 else 1
    vectors = ceil_div(columns, lanes)
    # An unaligned load that crosses the end of a cache line counts twice.
    load = 1 + target.element.bytes * lanes / target.traits.line_bytes
    work, planes = _work(target), depth.kernel * depth.share_inside
    room = target.registers - 2
    heights = range(1, min(8, height.output // spread) + 1)
    blocks = {rows: (_block(problem, target, rows * spread, columns, lanes), columns) for rows in heights}
    scale = (1.0 if lanes == target.lanes else target.traits.half_vector) * problem.outputs * depth.output * parts
    fill = depth.size * height.size * (8 + (2 + width.in_step) * ceil_div(width.size, lanes))
    for across, step in _across(width, lanes):
        rounds = [(span.taps, span.outer * span.inner) for span in spans(width.kernel, across, step)]
        for down in _down(height):
            repeats, trimmed = 1.0, 0.0
            if down < height.kernel:  # rounds without a row inside are left out
                repeats = height.kernel / down * min(1.0, height.share_inside + down / height.kernel)
                trimmed = 12 + 4 * repeats
            for rows in heights:
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
                        cost += (max(rows * wide * taps * work, loads, target.traits.series_sums * taps) + 4) * times
                    cost = cost * repeats * planes + trimmed + 2.0 * rows * wide + 12
                    cost *= tiles * ceil_div(vectors, wide)
                    tile = SeriesTile(rows, wide, down, across, step, spread, blocks[rows], lanes)
                    yield Candidate(problem.batch * problem.groups * (scale * cost + fill), tile)


def _divide(width: AxisWalk, lanes: int) -> tuple[int, int]:
    """Units along the width, and the columns of one."""
    places = width.counts[0]
    parts = ceil_div(places, COLUMNS)
    return parts, min(places, ceil_div(ceil_div(places, parts), lanes) * lanes)


def _across(width: AxisWalk, lanes: int) -> Iterator[tuple[int, int]]:
    """Taps of the width that may be unrolled together, and the distance between them."""
    kernel, stride = width.kernel, width.in_step
    for taps in range(1, min(kernel, 9) + 1):
        if taps == kernel or taps * width.ostep % stride == 0:
            yield taps, 1
    step = lanes // width.ostep if width.ostep and lanes % width.ostep == 0 else 1
    if stride == 1 and kernel > step > 1:
        for taps in range(2, min(ceil_div(kernel, step), 6) + 1):
            yield taps, step


def _down(height: AxisWalk) -> list[int]:
    """Taps of the height that may be unrolled together."""
    return [taps for taps in range(1, min(height.kernel, 7) + 1) if taps <= 4 or taps == height.kernel]


def _block(problem: Problem, target: Target, extent: int, columns: int, lanes: int) -> int:
    """Output rows of a unit of so many columns: whole tiles of ``extent`` rows, as many as the cache holds and as few
    as share the work out. The last unit takes what is left over, too, which may be nearly as much again.
    """
    depth, height, width = problem.axes
    read = max(columns, lanes) * width.in_step + width.span - 1 + abs(width.ostep)
    line = target.element.bytes * read * (depth.size if depth.kernel > 1 or not depth.static else 1)
    halo = height.span - 1
    small = line * (height.size + halo) <= WINDOW_BYTES
    wanted = height.counts[0] if small else max(BLOCK_BYTES // line - halo, halo) // height.in_step
    lines = problem.batch * problem.groups * ceil_div(width.counts[0], columns)
    rows = min(max(1, wanted // extent), max(1, height.counts[0] * lines // UNITS // extent)) * extent
    return height.counts[0] if height.counts[0] < 2 * rows else rows


@dataclass(frozen=True, slots=True)
class SeriesTile(Sizes):
    """The sizes that tiles of this kernel differ in.

    Attributes:
        rows: output rows of a tile, ``spread`` apart.
        vectors: vectors of outputs of a tile, along the width.
        down, across: taps of height and width that are unrolled together.
        step: distance between those of the width.
        spread: the dilation of the height where that lets rows share inputs, else 1.
        block: output rows and columns in one unit of work.
        lanes: of a vector.
    """

    word: ClassVar[str] = "series"

    rows: int
    vectors: int
    down: int
    across: int
    step: int
    spread: int
    block: tuple[int, int]
    lanes: int


@dataclass(frozen=True, slots=True)
class PhasedTile(Sizes):
    """The sizes that tiles of the phased kernel differ in.

    Attributes:
        vectors: vectors of each phase of a tile, along the width.
        block: rows and columns of outputs in one unit of work, all phases at one place taken as one.
        lanes: of a vector.
    """

    word: ClassVar[str] = "phased"

    vectors: int
    block: tuple[int, int]
    lanes: int


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
    taps = ceil_div(rest, step)
    full = rest - (taps - 1) * step if taps else 0
    if full:
        found.append(Span(first, 1, 0, full, taps, step))
    if taps > 1 and full < step:
        found.append(Span(first + full, 1, 0, step - full, taps - 1, step))
    return found


def meetings(width: AxisWalk) -> dict[int, list[tuple[int, int]]]:
    """Phases and taps that meet each input of one place, which is told from :attr:`AxisWalk.low` on. Inputs are in the
    order in which every phase goes through its taps.
    """
    found: dict[int, list[tuple[int, int]]] = {}
    for phase, (first, k0, taps) in enumerate(zip(width.first, width.k0, width.taps, strict=True)):
        for t in range(taps):
            found.setdefault(first + t * width.ostep - width.low, []).append((phase, k0 + t * width.kstep))
    return dict(sorted(found.items(), reverse=width.ostep < 0))
