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
    first = plan.first
    sizes = first.axes.inside(first.shape)[2:]
    columns = zip(first.axes.spatial, sizes, plan.whole.sizes, plan.tile, plan.lines, plan.tiling, strict=True)
    for name, size, result, tile, line, axis in columns:
        most = max(piece.reads[0][1] - piece.reads[0][0] for piece in line)
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
    text[-3:-3] = _say_others(plan)
    text[-3:-3] = [_say_sweep(number, sweep) for number, sweep in enumerate(plan.sweeps, 1)]
    return "\n".join(text)


def _say_others(plan: TilePlan) -> list[str]:
    """Lines for the inputs and outputs after the first."""
    text = []
    for name, image in list(plan.inputs.items())[1:]:
        halo = ", ".join(f"{before} + {after}" for before, after in (axis.halo for axis in image.tiling))
        sizes = "x".join(map(str, image.axes.inside(image.shape)[2:]))
        text.append(f"input {name!r}: {sizes}, halo {halo}")
    text += [f"input {name!r}: all of {'x'.join(map(str, shape))} to every tile" for name, shape in plan.sides.items()]
    for name, output in list(plan.outputs.items())[1:]:
        sizes = "x".join(map(str, output.axes.inside(output.shape)[2:]))
        text.append(f"output {name!r}: {sizes}, tile {'x'.join(map(str, output.tile))}")
    return text


def _say_sweep(number: int, sweep: SweepPlan) -> str:
    """A pass before the result, with its share of the work."""
    ops = ", ".join(dict.fromkeys(statistic.op for statistic in sweep.statistics))
    share = f", work {sweep.plan.recompute:.3f} times that of its layers" if sweep.plan.whole_macs else ""
    return f"pass {number}: {ops} over all positions {sweep.label!r}, {sweep.plan.tiles} tiles{share}"


def draw_lines(plan: TilePlan, width: int) -> str:
    """Each spatial axis drawn to scale: tiles of one kind have one letter, ``|`` is where one begins."""
    image = plan.first
    sizes = image.axes.inside(image.shape)[2:]
    text = []
    for name, size, result, line, axis in zip(
        image.axes.spatial, sizes, plan.whole.sizes, plan.lines, plan.tiling, strict=True
    ):
        grid = f"{result} positions, tiles begin at multiples of {axis.grid}"
        text.append(f"{name}  {_draw(line, result, width)}  {grid}")
        piece = line[len(line) // 2]
        first, last = (round(width * end / size) for end in piece.reads[0])
        reach = " " * first + "<" + "-" * max(last - first - 2, 0) + ">"
        begin, end = piece.outputs[0]
        span = f"tile {begin}..{end} reads {piece.reads[0][0]}..{piece.reads[0][1]}"
        text.append(f"   {reach.ljust(width)}  {span}")
    return "\n".join(text)


def _draw(line: tuple[Piece, ...], total: int, width: int) -> str:
    cells = []
    begun = -1
    for n in range(width):
        at = (2 * n + 1) * total // (2 * width)
        number = next(k for k, piece in enumerate(line) if at < piece.outputs[0][1])
        letter = string.ascii_lowercase[line[number].kind % 26]
        cells.append("|" if number != begun else letter)
        begun = number
    return "".join(cells)
