r"""Whether a value can be computed in tiles, with which halo, and on which grid.

Tiles of outputs that begin and end at multiples of the *grid* g are alike: moving one by g moves all that it reads, in
every value, by whole positions. With r input positions for each output position, outputs :math:`a \le o < b` on the
grid read

.. math:: a r - h_{before} \;\le\; i \;<\; b r + h_{after}

away from the border; h is the *halo*. What stands in the way is what reads all positions, whatever the output.
"""

from __future__ import annotations

from fractions import Fraction

from omniconv.analysis.hull import MIXED
from omniconv.analysis.reach import Demand, find_phases
from omniconv.analysis.record import Record
from omniconv.analysis.subject import find_source, find_tensor
from omniconv.errors import UnsupportedError
from omniconv.program.keep_axes import keep_axes
from omniconv.program.part import cut_program
from omniconv.program.program import Program
from omniconv.records import dataclass


@dataclass(frozen=True, slots=True)
class AxisTiling(Record):
    """One spatial axis.

    Attributes:
        halo: input positions that a tile on the grid reads before its own and after them.
        grid: tiles begin at multiples of it [output positions].
        rate: input positions for each output position.
    """

    halo: tuple[int, int]
    grid: int
    rate: Fraction


@dataclass(frozen=True, eq=False)
class Tiling(Record):
    """How a value is computed in tiles.

    Attributes:
        tensor, source: the value, and the input that is read in tiles.
        axes: the spatial axes; none where something stands in the way.
        obstacles: what does, by operator and node.
    """

    tensor: str
    source: str
    axes: tuple[AxisTiling, ...]
    obstacles: tuple[str, ...]


def tiling(program: Program, tensor: str | None = None, source: str | None = None) -> Tiling:
    """How a value of a program is computed in tiles, or what stands in the way.

    Example:
        >>> from omniconv.analysis.subject import as_program
        >>> from omniconv.spec import Conv
        >>> found = tiling(as_program(Conv.of(1, 1, 5, dims=1, stride=2, padding=2), (1, 1, 64)))
        >>> found.axes[0].halo, found.axes[0].grid, found.obstacles
        ((2, 1), 1, ())

    Raises:
        SpecError: no such value or input.
    """
    tensor, source = find_tensor(program, tensor), find_source(program, source)
    program = keep_axes(program, (tensor,))
    shape, given = program.shapes[tensor], program.shapes[source]
    phases = find_phases(program, tensor)
    found = _find_obstacles(tensor, list(phases.demands.values()), source)
    if not found and (len(shape) < 3 or len(shape) != len(given)):
        found = [f"the result of shape {tuple(shape)} has other axes than the input of shape {tuple(given)}"]
    if not found:
        found = _try_part(program, tensor, source)
    if found:
        return Tiling(tensor, source, (), tuple(dict.fromkeys(found)))
    period = phases.period
    axes = []
    for axis in range(2, len(shape)):
        reaches = [item for item in phases.on_axis(source, axis) if item is not None]
        rates = [item.rate for item in reaches if item.rate]
        rate = rates[0] if rates else Fraction(given[axis], shape[axis])
        low, high = min(item.low for item in reaches), max(item.high for item in reaches)
        last = max(place[axis - 2] for place in phases.demands) + 1
        axes.append(AxisTiling((max(-low, 0), max(int(high + 1 - last * rate), 0)), period, rate))
    return Tiling(tensor, source, tuple(axes), ())


def _find_obstacles(tensor: str, demands: list[Demand], source: str) -> list[str]:
    """What reads all positions of the input, and where."""
    boxes = [box for demand in demands for box in demand.boxes.get(source, ())]
    # Where axes mix, the step itself says whether it can be cut: that is less than the analysis of fields asks.
    found = sorted({name for box in boxes for item in box[2:] for name in item.whole} - {MIXED})
    if boxes or source == tensor:
        return found
    return [*found, f"{tensor!r} does not depend on {source!r}"]


def _try_part(program: Program, tensor: str, source: str) -> list[str]:
    """What cannot be computed for one position, on each axis alone."""
    shape = program.shapes[tensor]
    found = []
    for axis in range(2, len(shape)):
        for first in dict.fromkeys((0, shape[axis] // 2, shape[axis] - 1)):
            box = tuple((first, first + 1) if n == axis else (0, size) for n, size in enumerate(shape))
            try:
                part = cut_program(program, {tensor: box})
            except UnsupportedError as error:
                found.append(f"{error.problem} {error.at!r}")
                break
            if any(
                span != (0, size) and n != axis
                for n, (span, size) in enumerate(zip(part.reads[source], program.shapes[source], strict=True))
            ):
                found.append(f"axis {axis} of the result is another axis of the input")
                break
    return found
