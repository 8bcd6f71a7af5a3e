"""A plan of tiles in words and in letters."""

from __future__ import annotations

import string
from typing import TYPE_CHECKING

from omniconv.limits import format_size

if TYPE_CHECKING:
    from omniconv.tiles.lines import Piece
    from omniconv.tiles.plan import SweepPlan, TilePlan


def write_table(plan: TilePlan) -> str:
    """One line for each spatial axis, and what all of it costs."""
    rows: list[tuple[object, ...]] = [("axis", "image", "result", "tile", "tiles", "grid", "halo", "reads at most")]
    sizes = plan.axes.inside(plan.shape)[2:]
    columns = zip(plan.axes.spatial, sizes, plan.whole.sizes, plan.tile, plan.lines, plan.tiling, strict=True)
    for name, size, result, tile, line, axis in columns:
        most = max(piece.reads[1] - piece.reads[0] for piece in line)
        before, after = axis.halo
        rows.append((name, size, result, tile, len(line), axis.grid, f"{before} + {after}", most))
    widths = [max(len(str(row[n])) for row in rows) for n in range(len(rows[0]))]
    text = ["  ".join(str(item).rjust(width) for item, width in zip(row, widths, strict=True)) for row in rows]
    planes = "" if plan.planes == 1 else f" in each of {plan.planes} planes"
    text += [
        f"{plan.tiles} tiles{planes}, of {plan.kinds} kinds",
        f"memory: {format_size(plan.needed)} of {format_size(plan.memory)}",
        f"work: {plan.recompute:.3f} times that of the whole",
    ]
    text[-3:-3] = [_say_sweep(number, sweep) for number, sweep in enumerate(plan.sweeps, 1)]
    return "\n".join(text)


def _say_sweep(number: int, sweep: SweepPlan) -> str:
    """A pass before the result, with its share of the work."""
    ops = ", ".join(dict.fromkeys(statistic.op for statistic in sweep.statistics))
    share = f", work {sweep.plan.recompute:.3f} times that of its layers" if sweep.plan.whole_macs else ""
    return f"pass {number}: {ops} over all positions {sweep.label!r}, {sweep.plan.tiles} tiles{share}"


def draw_lines(plan: TilePlan, width: int) -> str:
    """Each spatial axis drawn to scale: tiles of one kind have one letter, ``|`` is where one begins."""
    sizes = plan.axes.inside(plan.shape)[2:]
    text = []
    for name, size, result, line, axis in zip(
        plan.axes.spatial, sizes, plan.whole.sizes, plan.lines, plan.tiling, strict=True
    ):
        grid = f"{result} positions, tiles begin at multiples of {axis.grid}"
        text.append(f"{name}  {_draw(line, result, width)}  {grid}")
        piece = line[len(line) // 2]
        first, last = (round(width * end / size) for end in piece.reads)
        reach = " " * first + "<" + "-" * max(last - first - 2, 0) + ">"
        span = f"tile {piece.outputs[0]}..{piece.outputs[1]} reads {piece.reads[0]}..{piece.reads[1]}"
        text.append(f"   {reach.ljust(width)}  {span}")
    return "\n".join(text)


def _draw(line: tuple[Piece, ...], total: int, width: int) -> str:
    cells = []
    begun = -1
    for n in range(width):
        at = (2 * n + 1) * total // (2 * width)
        number = next(k for k, piece in enumerate(line) if at < piece.outputs[1])
        letter = string.ascii_lowercase[line[number].kind % 26]
        cells.append("|" if number != begun else letter)
        begun = number
    return "".join(cells)
