"""`plan_tiles`: which tiles fit into a given memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any, Final

from omniconv.analysis.tiling import tiling
from omniconv.errors import LimitError, ShapeError, UnsupportedError
from omniconv.integers import as_flag, as_integer, as_integers, as_shape, ceil_div
from omniconv.limits import parse_size
from omniconv.program.keep_axes import keep_axes
from omniconv.program.program import Program
from omniconv.program.statistics import SweptProgram, find_sources, split_program
from omniconv.records import dataclass
from omniconv.spec import Shape
from omniconv.tiles.axes import Axes, read_axes
from omniconv.tiles.fit import Storage, count_macs, count_tiles_macs, fit_sizes, leave_room
from omniconv.tiles.lines import Whole, cut_line
from omniconv.tiles.plan import SweepPlan, TiledInput, TiledOutput, TilePlan
from omniconv.tiles.subject import TileSubject, find_outputs, open_subject
from omniconv.tiles.together import Together, find_step, find_together

MOST_PIECES: Final = 2**16
"""Tiles along one axis, each of which is cut out of the program."""
MOST_KINDS: Final = 256
"""Programs that tiles may need. More means that no two tiles are alike."""


def plan_tiles(
    net: Any,
    shape: Sequence[int] | Mapping[str, Sequence[int]],
    memory: str | int = "2GB",
    *,
    tile: Sequence[int] | None = None,
    axes: str | Mapping[str, str] | None = None,
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
        shape: of the image: ``(N, C, *spatial)``, or along ``axes``; by name where the network has several inputs.
            Inputs with open sizes in space are images, of the same size or of others that fit the network; all others,
            such as a vector of conditions or a step in time, are given to every tile as a whole.
        memory: what tiles may take [bytes]; a number or a text such as ``"2GB"``. It holds their working memory,
            weights, and inputs and outputs; not the interpreter, nor arrays of the caller.
        tile: positions of the first output in a tile on each spatial axis, any; default: the largest that fit, on the
            grid. Other outputs go along: a tile has their positions that belong to its own.
        axes: a letter for each axis, ``C`` for channels: ``"TCZYX"``. The positions that the network knows are Z, Y
            and X (for two axes Y and X), or else the last axes; each plane along the others is an image of its own.
            By name where images lie differently; those after the first may lack axes of planes.
        output: name of the only output that is wanted; default all.
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
    shapes = {name: as_shape(one) for name, one in subject.name_inputs(shape, "shape").items()}
    return plan_aligned(subject, shapes, memory, axes, output, tile=tile, two_pass=two_pass)


def plan_aligned(
    subject: TileSubject,
    shapes: Mapping[str, Shape],
    memory: str | int,
    axes: str | Mapping[str, str] | None,
    output: str | None,
    store: Callable[[Sequence[str]], Storage] | None = None,
    *,
    tile: Sequence[int] | None = None,
    two_pass: bool = False,
) -> TilePlan:
    """See :func:`plan_tiles`.

    Args:
        subject, memory, axes, output, tile, two_pass: as there.
        shapes: of all inputs.
        store: given the names of the outputs, says what is asked of tiles by where images and results are.
    """
    allowed = parse_size(memory, "memory") if isinstance(memory, str) else as_integer("memory", memory, 1, None)
    two_pass = as_flag("two_pass", two_pass)
    known = _read_all_axes(subject, shapes, axes)
    inside = {name: known[name].inside(shape) if name in known else shape for name, shape in shapes.items()}
    program, truths = subject.lower(inside)
    tensors = find_outputs(program, output, subject.at)
    storage = Storage() if store is None else store(tensors)
    planner = _Planner(subject, shapes, known, allowed, truths)
    program = keep_axes(program, tensors)
    split = split_program(program, list(known)) if two_pass else SweptProgram(program)
    _check_tiling(split, tensors, subject, program, list(known), two_pass=two_pass)
    sweeps = []
    for sweep in split.sweeps:
        plan = planner.plan(split.program, (sweep.tensor,), Storage(fixed=storage.fixed), tile)
        sweeps.append(SweepPlan(sweep.label, plan, tuple(sweep.statistics)))
    return planner.plan(split.program, tensors, storage, tile, tuple(sweeps))


def _read_all_axes(
    subject: TileSubject, shapes: Mapping[str, Shape], axes: str | Mapping[str, str] | None
) -> dict[str, Axes]:
    """Axes of each image.

    Raises:
        ShapeError: letters that do not fit, or images that do not fit one another.
    """
    names = [item.name for item in subject.images]
    if isinstance(axes, Mapping) and not set(axes) <= set(names):
        raise ShapeError(f"axes for {list(axes)}", need=f"letters for images, which are {names}", at=subject.at)
    found: dict[str, Axes] = {}
    for item in subject.images:
        letters = axes.get(item.name) if isinstance(axes, Mapping) else axes
        assert item.rank is not None
        one = found[item.name] = read_axes(letters, shapes[item.name], item.rank, item.channels)
        first = found[names[0]]
        planes, given = first.planes(shapes[names[0]]), one.planes(shapes[item.name])
        if one.spatial != first.spatial or not given.items() <= planes.items():
            raise ShapeError(
                f"input {item.name!r} of shape {tuple(shapes[item.name])} along {one.names} beside {names[0]!r} of "
                f"shape {tuple(shapes[names[0]])} along {first.names}",
                need="positions along the same axes, and as many planes",
                fix=f'axes={{"{item.name}": "..."}} without the planes that {item.name!r} does not have',
                at=subject.at,
            )
    return found


def _check_tiling(
    split: SweptProgram,
    tensors: Sequence[str],
    subject: TileSubject,
    program: Program,
    images: Sequence[str],
    *,
    two_pass: bool,
) -> None:
    """Refuse what needs all positions.

    Raises:
        UnsupportedError: it does; with ``two_pass`` as the way out where that is one.
    """
    for tensor in tensors:
        found = _find_obstacles(split, tensor, images)
        if not found:
            continue
        fix = "" if two_pass or _find_obstacles(split_program(program, images), tensor, images) else "two_pass=True"
        raise UnsupportedError(
            f"{'; '.join(found)}: output {tensor!r} cannot be computed in tiles",
            need="outputs that depend on positions nearby",
            fix=fix,
            at=subject.at,
        )


def _find_obstacles(split: SweptProgram, tensor: str, images: Sequence[str]) -> tuple[str, ...]:
    """What needs all positions, among the sweeps and a result."""
    found: dict[str, None] = {}
    for name in (*(sweep.tensor for sweep in split.sweeps), tensor):
        sources = find_sources(split.program, (name,))
        read = [image for image in images if image in sources]
        if not read:
            found[f"{name!r} does not depend on an image"] = None
        for image in read:
            found.update(dict.fromkeys(tiling(split.program, name, image).obstacles))
    return tuple(found)


@dataclass(frozen=True, slots=True, eq=False)
class _Planner:
    """Plans values of some images.

    Attributes:
        subject, shapes, allowed, truths: see :func:`plan_aligned`.
        axes: of each image.
    """

    subject: TileSubject
    shapes: Mapping[str, Shape]
    axes: Mapping[str, Axes]
    allowed: int
    truths: frozenset[str]

    def plan(
        self,
        program: Program,
        tensors: tuple[str, ...],
        storage: Storage,
        tile: Sequence[int] | None,
        sweeps: tuple[SweepPlan, ...] = (),
    ) -> TilePlan:
        """The tiles of values that can be computed in tiles."""
        subject = self.subject
        together = find_together(program, tensors, list(self.axes))
        whole = Whole(keep_axes(program, tensors), tensors, list(self.axes), together.rates)
        steps, most = self._steps(together, whole, storage.aligned, tile)
        sizes, needed = fit_sizes(whole, subject, steps, leave_room(self.allowed), most, storage)
        if max(map(ceil_div, whole.sizes, sizes)) > MOST_PIECES:
            raise LimitError(
                f"tiles of {'x'.join(map(str, sizes))} outputs for a result of {'x'.join(map(str, whole.sizes))}",
                need=f"at most {MOST_PIECES} along an axis",
                fix="larger tiles, or a part of the image",
                at=subject.at,
            )
        lines = tuple(
            cut_line(whole, n, size, grid) for n, (size, grid) in enumerate(zip(sizes, together.grid, strict=True))
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
        return TilePlan(
            {name: TiledInput(self.shapes[name], self.axes[name], together.tiling[name]) for name in whole.images},
            {name: self._output(program.shapes[name], name, sizes, together.rates[name]) for name in tensors},
            {name: shape for name, shape in self.shapes.items() if name not in self.axes},
            sizes,
            lines,
            self.allowed,
            max([needed, *(sweep.plan.needed for sweep in sweeps)]),
            count_tiles_macs(whole, lines) + sum(sweep.plan.macs for sweep in sweeps),
            count_macs(whole.program),
            sweeps,
            whole,
            subject,
        )

    def _output(self, inside: Shape, name: str, sizes: Sequence[int], rates: Sequence[Fraction]) -> TiledOutput:
        first = next(iter(self.axes))
        axes = self.axes[first].of_result(inside[1])
        shape = axes.outside(self.axes[first].planes(self.shapes[first]), inside)
        rows = zip(sizes, rates, inside[2:], strict=True)
        tile = tuple(min(size * rate, Fraction(total)) for size, rate, total in rows)
        dtype = "bool" if name in self.truths else self.subject.target.element.name
        return TiledOutput(shape, axes, dtype, tile)

    def _steps(
        self,
        together: Together,
        whole: Whole,
        align: Mapping[str, Sequence[int]],
        tile: Sequence[int] | None,
    ) -> tuple[list[int], tuple[int, ...]]:
        """What tiles begin at multiples of, and their largest size, on each axis."""
        steps = list(together.grid)
        for name, chunks in align.items():
            inside = whole.program.shapes[name]
            output = self._output(inside, name, whole.sizes, together.rates[name])
            if len(chunks) != len(output.axes.names):
                raise ShapeError(
                    f"an array of {len(chunks)} axes for output {name!r}", need=f"one of shape {output.shape}"
                )
            of_axis = dict(zip(output.axes.names, chunks, strict=True))
            wanted = [of_axis[letter] for letter in output.axes.spatial]
            steps = [
                math.lcm(step, find_step(size, rate))
                for step, size, rate in zip(steps, wanted, together.rates[name], strict=True)
            ]
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
