r"""`find_together`: how several results are computed in the same tiles, from several images.

Tiles are counted by positions of the first result. Another result has :math:`\rho = p / q` positions for each of
these, in lowest terms; positions :math:`a \le o < b` of the first go with
:math:`\lceil a \rho \rceil \le o' < \lceil b \rho \rceil` of the other. Tiles are alike where both begin on their own
grids: with g' the grid of the other, at multiples of :math:`q \, g' / \gcd(g', p)`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

from omniconv.analysis.tiling import AxisTiling, tiling
from omniconv.program.program import Program
from omniconv.program.statistics import find_sources
from omniconv.records import dataclass


@dataclass(frozen=True, slots=True)
class Together:
    """Several results in the same tiles.

    Attributes:
        grid: for each spatial axis, tiles that begin at multiples of it are alike [positions of the first result].
        rates: for each result and spatial axis, its positions for each of the first.
        tiling: for each image that is read, halo, grid and rate on each spatial axis.
    """

    grid: tuple[int, ...]
    rates: dict[str, tuple[Fraction, ...]]
    tiling: dict[str, tuple[AxisTiling, ...]]


def find_step(grid: int, rate: Fraction) -> int:
    """The least number of positions of the first result that are whole multiples of ``grid`` of another.

    Example:
        >>> find_step(2, Fraction(1, 2)), find_step(2, Fraction(2)), find_step(1, Fraction(3, 2))
        (4, 1, 2)
    """
    return rate.denominator * grid // math.gcd(grid, rate.numerator)


def find_together(program: Program, tensors: Sequence[str], images: Sequence[str]) -> Together:
    """How results that can be computed in tiles are computed in the same ones."""
    sources = {name: find_sources(program, (name,)) for name in tensors}
    found = {
        (name, image): tiling(program, name, image).axes
        for name in tensors
        for image in images
        if image in sources[name]
    }
    first, rates = tensors[0], {}
    for name in tensors:
        shared = next((image for image in images if (name, image) in found and (first, image) in found), None)
        if shared is None:
            sizes = zip(program.shapes[name][2:], program.shapes[first][2:], strict=True)
            rates[name] = tuple(Fraction(size, total) for size, total in sizes)
        else:
            pairs = zip(found[first, shared], found[name, shared], strict=True)
            rates[name] = tuple(one.rate / other.rate for one, other in pairs)
    dims = range(len(program.shapes[first]) - 2)
    grid = tuple(
        math.lcm(*(find_step(axes[n].grid, rates[name][n]) for (name, _), axes in found.items())) for n in dims
    )
    merged: dict[str, tuple[AxisTiling, ...]] = {}
    for image in images:
        reading = {name: axes for (name, read), axes in found.items() if read == image}
        if reading:
            merged[image] = tuple(
                AxisTiling(
                    (
                        max(axes[n].halo[0] for axes in reading.values()),
                        max(axes[n].halo[1] for axes in reading.values()),
                    ),
                    grid[n],
                    next(axes[n].rate * rates[name][n] for name, axes in reading.items()),
                )
                for n in dims
            )
    return Together(grid, rates, merged)
