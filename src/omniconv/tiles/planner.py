"""`plan_tiles`: which tiles fit into a given memory."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from omniconv.analysis.tiling import Tiling, tiling
from omniconv.errors import LimitError, ShapeError, UnsupportedError
from omniconv.integers import as_flag, as_integer, as_integers, as_shape, ceil_div
from omniconv.limits import parse_size
from omniconv.program.keep_axes import keep_axes
from omniconv.program.program import Program
from omniconv.program.statistics import SweptProgram, split_program
from omniconv.spec import Shape
from omniconv.tiles.axes import Axes, read_axes
from omniconv.tiles.fit import count_macs, count_tiles_macs, fit_sizes
from omniconv.tiles.lines import Whole, cut_line
from omniconv.tiles.plan import SweepPlan, TilePlan
from omniconv.tiles.subject import TileSubject, find_output, open_subject

MOST_PIECES: Final = 2**16
"""Tiles along one axis, each of which is cut out of the program."""
MOST_KINDS: Final = 256
"""Programs that tiles may need. More means that no two tiles are alike."""


def plan_tiles(
    net: Any,
    shape: Sequence[int],
    memory: str | int = "2GB",
    *,
    tile: Sequence[int] | None = None,
    axes: str | None = None,
    output: str | None = None,
    two_pass: bool = False,
    weights: Sequence[Any] | None = None,
    threads: int | None = None,
    exact: bool | None = None,
    dtype: Any = None,
) -> TilePlan:
    """The tiles in which an image is computed, with the same result as the whole.

    Formula:
        a tile reads what its outputs depend on, as far as it exists; each layer pads where the whole does, and nowhere
        else. Tiles begin at multiples of the grid, where moving one moves all that it reads by whole positions.

    Example:
        >>> import omniconv as oc
        >>> layer = oc.convolution(in_channels=1, out_channels=1, kernel_size=5, padding="same")
        >>> plan = plan_tiles(layer, (1, 1, 4000, 4000), "4MB")
        >>> plan.tiling[0].halo, plan.tiles > 1, plan.recompute  # one layer computes nothing twice
        ((2, 2), True, 1.0)

    Args:
        net: a model (path, bytes or ``ModelProto``), a spec, or what :func:`omniconv.compile` returned.
        shape: of the image: ``(N, C, *spatial)``, or along ``axes``.
        memory: what tiles may take [bytes]; a number or a text such as ``"2GB"``. It holds their working memory,
            weights, and inputs and outputs; not the interpreter, nor arrays of the caller.
        tile: output positions of a tile on each spatial axis, any; default: the largest that fit, on the grid.
        axes: a letter for each axis, ``C`` for channels: ``"TCZYX"``. The positions that the network knows are Z, Y
            and X (for two axes Y and X), or else the last axes; each plane along the others is an image of its own.
        output: name of the output, where there are several.
        two_pass: reductions over all positions (global pooling, squeezes, normalisation by the statistics of an image)
            are found by passes over the tiles of their own, before the result; one for each that another one depends
            on, so that n squeezes one after the other cost n + 1 passes. The plan says how much work that is.
        weights: for a spec, as for :func:`omniconv.compile`; a plan needs none.
        threads, exact, dtype: as for :func:`omniconv.compile`, where ``net`` is not compiled yet.

    Raises:
        UnsupportedError: an operator that needs all positions; it is named, with its node.
        LimitError: not even the smallest tile fits; the message says the least.
        ShapeError, SpecError, DataError: arguments that do not fit one another.
    """
    subject = open_subject(net, weights, threads, dtype, exact=exact)
    return plan_aligned(subject, shape, memory, axes, output, tile=tile, two_pass=two_pass)


def plan_aligned(
    subject: TileSubject,
    shape: Sequence[int],
    memory: str | int,
    axes: str | None,
    output: str | None,
    align: Sequence[int] | None = None,
    *,
    tile: Sequence[int] | None = None,
    two_pass: bool = False,
) -> TilePlan:
    """See :func:`plan_tiles`.

    Args:
        subject, shape, memory, axes, output, tile, two_pass: as there.
        align: for each axis of the result, tiles begin at multiples of it (the chunks of where the result goes).
    """
    allowed = parse_size(memory, "memory") if isinstance(memory, str) else as_integer("memory", memory, 1, None)
    two_pass = as_flag("two_pass", two_pass)
    given = as_shape(shape)
    known = read_axes(axes, given, subject.rank, subject.channels, 1)
    program, truths = subject.lower(known.inside(given))
    tensor = find_output(program, output, subject.at)
    planner = _Planner(subject, given, axes, allowed, truths)
    program = keep_axes(program, (tensor,))
    split = split_program(program) if two_pass else SweptProgram(program)
    _check_tiling(split, tensor, subject, program, two_pass=two_pass)
    sweeps = []
    for sweep in split.sweeps:
        plan = planner.plan(split.program, sweep.tensor, None, tile)
        sweeps.append(SweepPlan(sweep.label, plan, tuple(sweep.statistics)))
    return planner.plan(split.program, tensor, align, tile, tuple(sweeps))


def _check_tiling(split: SweptProgram, tensor: str, subject: TileSubject, program: Program, *, two_pass: bool) -> None:
    """Refuse what needs all positions.

    Raises:
        UnsupportedError: it does; with ``two_pass`` as the way out where that is one.
    """
    found = _find_obstacles(split, tensor)
    if not found:
        return
    fix = "" if two_pass or _find_obstacles(split_program(program), tensor) else "two_pass=True"
    raise UnsupportedError(
        f"{'; '.join(found)}: output {tensor!r} cannot be computed in tiles",
        need="outputs that depend on positions nearby",
        fix=fix,
        at=subject.at,
    )


def _find_obstacles(split: SweptProgram, tensor: str) -> tuple[str, ...]:
    """What needs all positions, among the sweeps and the result."""
    tensors = [*(sweep.tensor for sweep in split.sweeps), tensor]
    return tuple(dict.fromkeys(one for name in tensors for one in tiling(split.program, name).obstacles))


@dataclass(frozen=True, slots=True, eq=False)
class _Planner:
    """Plans values of one image.

    Attributes:
        subject, shape, axes, allowed, truths: see :func:`plan_aligned`.
    """

    subject: TileSubject
    shape: Shape
    axes: str | None
    allowed: int
    truths: frozenset[str]

    def plan(
        self,
        program: Program,
        tensor: str,
        align: Sequence[int] | None,
        tile: Sequence[int] | None,
        sweeps: tuple[SweepPlan, ...] = (),
    ) -> TilePlan:
        """The tiles of a value that can be computed in tiles."""
        subject, found = self.subject, tiling(program, tensor)
        known = read_axes(self.axes, self.shape, subject.rank, subject.channels, program.shapes[tensor][1])
        whole = Whole(keep_axes(program, (tensor,)), tensor)
        result = known.outside(self.shape, program.shapes[tensor])
        steps, most = self._steps(found, known, whole, result, align, tile)
        sizes, needed = fit_sizes(whole, subject, steps, self.allowed, most)
        if max(map(ceil_div, whole.sizes, sizes)) > MOST_PIECES:
            raise LimitError(
                f"tiles of {'x'.join(map(str, sizes))} outputs for a result of {'x'.join(map(str, whole.sizes))}",
                need=f"at most {MOST_PIECES} along an axis",
                fix="larger tiles, or a part of the image",
                at=subject.at,
            )
        lines = tuple(
            cut_line(whole, n, size, axis.grid) for n, (size, axis) in enumerate(zip(sizes, found.axes, strict=True))
        )
        kinds = math.prod(len({piece.kind for piece in line}) for line in lines)
        if kinds > MOST_KINDS:
            raise UnsupportedError(
                f"{kinds} tiles of different kinds: a resize with an uneven ratio, or a constant with one value a "
                "position",
                need=f"at most {MOST_KINDS} kinds, which begin alike on some grid",
                fix="more memory, or a resize by a whole ratio",
                at=subject.at,
            )
        macs = count_tiles_macs(whole, lines) + sum(sweep.plan.macs for sweep in sweeps)
        needed = max([needed, *(sweep.plan.needed for sweep in sweeps)])
        return TilePlan(
            self.shape,
            result,
            known,
            sizes,
            found.axes,
            lines,
            self.allowed,
            needed,
            macs,
            count_macs(whole.program),
            sweeps,
            whole,
            subject,
            self.truths,
        )

    def _steps(
        self,
        found: Tiling,
        known: Axes,
        whole: Whole,
        result: Shape,
        align: Sequence[int] | None,
        tile: Sequence[int] | None,
    ) -> tuple[list[int], tuple[int, ...]]:
        """What tiles begin at multiples of, and their largest size, on each axis."""
        steps = [axis.grid for axis in found.axes]
        if align is not None:
            if len(align) != len(known.result):
                raise ShapeError(f"an array of {len(align)} axes for the result", need=f"one of shape {result}")
            of_axis = dict(zip(known.result, align, strict=True))
            steps = [math.lcm(step, of_axis[name]) for step, name in zip(steps, known.spatial, strict=True)]
        if tile is None:
            # A period as long as the image is none: then every tile is a kind of its own, wherever it begins.
            return [
                step if 2 * step <= max(size, 2) else 1 for step, size in zip(steps, whole.sizes, strict=True)
            ], whole.sizes
        need = f"one size of at least 1 for each of {len(steps)} axes"
        sizes = as_integers("tile", tile, 1, need=need)
        if len(sizes) != len(steps):
            raise ShapeError(f"tile={sizes}", need=need, at=self.subject.at)
        sizes = tuple(min(size, total) for size, total in zip(sizes, whole.sizes, strict=True))
        return list(sizes), sizes
