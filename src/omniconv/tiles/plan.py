"""`plan_tiles`: which tiles fit into a given memory, what each reads, and what computing them costs."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from omniconv.analysis.record import Record
from omniconv.analysis.tiling import AxisTiling, tiling
from omniconv.compiler.planning.plan import plan as make_plan
from omniconv.errors import LimitError, ShapeError, UnsupportedError
from omniconv.integers import as_integer, as_integers, as_shape, ceil_div
from omniconv.limits import format_size, parse_size
from omniconv.program.cut import Box, Interval
from omniconv.program.part import ProgramPart
from omniconv.program.program import Program
from omniconv.spec import Shape
from omniconv.tiles.axes import Axes, read_axes
from omniconv.tiles.lines import Piece, Whole, cut_line
from omniconv.tiles.subject import TileSubject, find_output, open_subject

BUFFERS: Final = 3
"""Inputs, and outputs, that exist at once: of the tile that is computed, and of those before and after it."""
MOST_PIECES: Final = 2**16
"""Tiles along one axis, each of which is cut out of the program."""
MOST_KINDS: Final = 256
"""Programs that tiles may need. More means that no two tiles are alike."""


@dataclass(frozen=True, slots=True)
class ImageTile:
    """One tile of one image.

    Attributes:
        index: its place on each spatial axis.
        outputs, reads: what it computes and reads on each spatial axis.
        kind: tiles of one kind are computed by one program.
    """

    index: tuple[int, ...]
    outputs: Box
    reads: Box
    kind: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class TilePlan(Record):
    """How an image is computed in tiles; ``print(plan)`` is a table, ``plan.picture()`` a picture.

    Attributes:
        shape, output_shape: of the arrays, along ``axes.names`` and ``axes.result``.
        axes: which axis is what.
        tile: output positions of a tile on each spatial axis; the last may be smaller.
        tiling: for each spatial axis the halo, the grid of positions that tiles begin at, and the input positions for
            each output position.
        lines: for each spatial axis its pieces.
        memory, needed: what tiles may take, and take: working memory, weights, and the inputs and outputs of the tiles
            that are read, computed and written at once [bytes].
        macs, whole_macs: multiply-accumulates of all tiles, and of the whole, for each plane [MAC].
    """

    shape: Shape
    output_shape: Shape
    axes: Axes
    tile: tuple[int, ...]
    tiling: tuple[AxisTiling, ...]
    lines: tuple[tuple[Piece, ...], ...]
    memory: int
    needed: int
    macs: int
    whole_macs: int
    _whole: Whole = field(repr=False)
    _subject: TileSubject = field(repr=False)
    _truths: frozenset[str] = field(repr=False)

    @property
    def whole(self) -> Whole:
        """What is cut into tiles."""
        return self._whole

    @property
    def subject(self) -> TileSubject:
        """What is computed, and how it is compiled."""
        return self._subject

    @property
    def dtype(self) -> np.dtype[Any]:
        """NumPy's type of the result."""
        return np.dtype(bool) if self._whole.tensor in self._truths else self._whole.program.element.dtype

    @property
    def planes(self) -> int:
        """Images that are computed one by one."""
        return math.prod(self.axes.planes(self.shape))

    @property
    def tiles(self) -> int:
        """Tiles of one image."""
        return math.prod(map(len, self.lines))

    @property
    def kinds(self) -> int:
        """Programs that tiles need: of the interior, edges and corners."""
        return math.prod(len({piece.kind for piece in line}) for line in self.lines)

    @property
    def recompute(self) -> float:
        """Work of all tiles over that of the whole; input positions count where there is no work."""
        if self.whole_macs:
            return self.macs / self.whole_macs
        return self.read / math.prod(self.axes.inside(self.shape)[2:])

    @property
    def read(self) -> int:
        """Input positions that the tiles of one image read, together."""
        return math.prod(sum(piece.reads[1] - piece.reads[0] for piece in line) for line in self.lines)

    def __iter__(self) -> Iterator[ImageTile]:
        """The tiles of one image, the last axis first."""
        for index in itertools.product(*(range(len(line)) for line in self.lines)):
            yield self.tile_at(index)

    def tile_at(self, index: tuple[int, ...]) -> ImageTile:
        """The tile at a place on each spatial axis."""
        pieces = [line[n] for line, n in zip(self.lines, index, strict=True)]
        return ImageTile(
            index,
            tuple(piece.outputs for piece in pieces),
            tuple(piece.reads for piece in pieces),
            tuple(piece.kind for piece in pieces),
        )

    def measure_seconds(self) -> float:
        """Time for all tiles of all planes, judged by one of the commonest kind that is computed now [s]."""
        from omniconv.tiles.compiled import CompiledTiles

        return CompiledTiles(self).measure_seconds()

    def __str__(self) -> str:
        from omniconv.tiles.table import write_table

        return write_table(self)

    def picture(self, width: int = 64) -> str:
        """Tiles along each axis, drawn with letters: their kinds, where they begin, and how far they read."""
        from omniconv.tiles.table import draw_lines

        return draw_lines(self, width)


def plan_tiles(
    net: Any,
    shape: Sequence[int],
    memory: str | int = "2GB",
    *,
    tile: Sequence[int] | None = None,
    axes: str | None = None,
    output: str | None = None,
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
        weights: for a spec, as for :func:`omniconv.compile`; a plan needs none.
        threads, exact, dtype: as for :func:`omniconv.compile`, where ``net`` is not compiled yet.

    Raises:
        UnsupportedError: an operator that needs all positions; it is named, with its node.
        LimitError: not even the smallest tile fits; the message says the least.
        ShapeError, SpecError, DataError: arguments that do not fit one another.
    """
    subject = open_subject(net, weights, threads, dtype, exact=exact)
    return plan_aligned(subject, shape, memory, axes, output, tile=tile)


def plan_aligned(
    subject: TileSubject,
    shape: Sequence[int],
    memory: str | int,
    axes: str | None,
    output: str | None,
    align: Sequence[int] | None = None,
    *,
    tile: Sequence[int] | None = None,
) -> TilePlan:
    """See :func:`plan_tiles`.

    Args:
        subject, shape, memory, axes, output, tile: as there.
        align: for each axis of the result, tiles begin at multiples of it (the chunks of where the result goes).
    """
    allowed = parse_size(memory, "memory") if isinstance(memory, str) else as_integer("memory", memory, 1, None)
    given = as_shape(shape)
    known = read_axes(axes, given, subject.rank, subject.channels, 1)
    program, truths = subject.lower(known.inside(given))
    tensor = find_output(program, output, subject.at)
    found = tiling(program, tensor)
    if found.obstacles:
        raise UnsupportedError(
            f"{'; '.join(found.obstacles)}: output {tensor!r} cannot be computed in tiles",
            need="outputs that depend on positions nearby",
            at=subject.at,
        )
    known = read_axes(axes, given, subject.rank, subject.channels, program.shapes[tensor][1])
    whole = Whole(program, tensor)
    result = known.outside(given, program.shapes[tensor])
    steps = [axis.grid for axis in found.axes]
    if align is not None:
        if len(align) != len(known.result):
            raise ShapeError(f"an array of {len(align)} axes for the result", need=f"one of shape {result}")
        of_axis = dict(zip(known.result, align, strict=True))
        steps = [math.lcm(step, of_axis[name]) for step, name in zip(steps, known.spatial, strict=True)]
    # A period as long as the image is none: then every tile is a kind of its own, wherever it begins.
    steps = [step if 2 * step <= max(size, 2) else 1 for step, size in zip(steps, whole.sizes, strict=True)]
    if tile is not None:
        need = f"one size of at least 1 for each of {len(steps)} axes"
        sizes = as_integers("tile", tile, 1, need=need)
        if len(sizes) != len(steps):
            raise ShapeError(f"tile={sizes}", need=need, at=subject.at)
        sizes = tuple(min(size, total) for size, total in zip(sizes, whole.sizes, strict=True))
        steps = list(sizes)
    else:
        sizes = whole.sizes
    sizes, needed = _fit(whole, subject, steps, allowed, sizes)
    if max(map(ceil_div, whole.sizes, sizes)) > MOST_PIECES:
        raise LimitError(
            f"tiles of {'x'.join(map(str, sizes))} outputs for a result of {'x'.join(map(str, whole.sizes))}",
            need=f"at most {MOST_PIECES} along an axis",
            fix="larger tiles, or a part of the image",
            at=subject.at,
        )
    lines = tuple(cut_line(whole, axis, size) for axis, size in enumerate(sizes))
    kinds = math.prod(len({piece.kind for piece in line}) for line in lines)
    if kinds > MOST_KINDS:
        raise UnsupportedError(
            f"{kinds} tiles of different kinds: a resize with an uneven ratio, or a constant with one value a position",
            need=f"at most {MOST_KINDS} kinds, which begin alike on some grid",
            fix="more memory, or a resize by a whole ratio",
            at=subject.at,
        )
    macs = _count_macs(whole, lines)
    return TilePlan(
        given, result, known, sizes, found.axes, lines, allowed, needed, macs, _macs(program), whole, subject, truths
    )


def _fit(
    whole: Whole, subject: TileSubject, steps: Sequence[int], allowed: int, most: tuple[int, ...]
) -> tuple[tuple[int, ...], int]:
    """Output positions of a tile on each axis, as large as memory allows, and what it takes [bytes]."""
    counts = [ceil_div(total, size) for total, size in zip(whole.sizes, most, strict=True)]
    sizes, goal = most, allowed
    while True:
        part = whole.part(_inner(whole.sizes, sizes))
        estimate = _estimate(part)
        needed = estimate if estimate > goal else _measure(part, subject)
        if needed <= allowed and estimate <= goal:
            return sizes, needed
        if estimate <= goal:
            goal = min(int(estimate * allowed / needed), estimate - 1)
        splittable = [n for n, (size, step) in enumerate(zip(sizes, steps, strict=True)) if size > step]
        if not splittable:
            least = _measure(part, subject)
            raise LimitError(
                f"memory={format_size(allowed)} for tiles of {'x'.join(map(str, sizes))} outputs, the smallest",
                need=f"at least {format_size(least)}",
                fix=f'memory="{ceil_div(least, 2**10)}K"',
                at=subject.at,
            )
        axis = max(splittable, key=lambda n: sizes[n])
        smaller = sizes
        while smaller[axis] == sizes[axis]:
            counts[axis] += max(1, counts[axis] // 8)
            smaller = _sizes(whole.sizes, counts, steps)
        sizes = smaller


def _sizes(totals: Sequence[int], counts: Sequence[int], steps: Sequence[int]) -> tuple[int, ...]:
    """Equal tiles on the grid."""
    return tuple(
        min(ceil_div(ceil_div(total, count), step) * step, total)
        for total, count, step in zip(totals, counts, steps, strict=True)
    )


def _inner(totals: Sequence[int], sizes: Sequence[int]) -> list[Interval | None]:
    """A tile that has others around it, where there are some: the one that reads most."""
    found: list[Interval | None] = []
    for total, size in zip(totals, sizes, strict=True):
        first = (total // size // 2) * size
        found.append(None if size == total else (first, min(first + size, total)))
    return found


def _estimate(part: ProgramPart) -> int:
    """About what a tile takes: its values that live at once, and its buffers [bytes]."""
    program = part.program
    last: dict[str, int] = {}
    for index, step in enumerate(program.steps):
        last.update(dict.fromkeys((*step.reads, step.y), index))
    live, peak = 0, 0
    for index, step in enumerate(program.steps):
        live += math.prod(program.shapes[step.y])
        peak = max(peak, live)
        live -= sum(
            math.prod(program.shapes[name])
            for name in {*step.reads, step.y}
            if last[name] == index and name not in program.inputs
        )
    return program.element.bytes * peak + _count_buffers(program)


def _measure(part: ProgramPart, subject: TileSubject) -> int:
    """What a tile takes, as it will be compiled [bytes]."""
    found = make_plan(part.program, subject.target, subject.options)
    working = found.arena_bytes + subject.options.threads * found.scratch_bytes + found.zero_bytes
    return working + found.constant_bytes + _count_buffers(part.program)


def _count_buffers(program: Program) -> int:
    """Inputs and outputs of the tiles that are read, computed and written at once, and one of each as it is stored."""
    read = sum(math.prod(program.shapes[name]) for name in program.inputs)
    written = sum(math.prod(program.shapes[name]) for name in program.outputs)
    return program.element.bytes * (BUFFERS + 1) * (read + written)


def _count_macs(whole: Whole, lines: tuple[tuple[Piece, ...], ...]) -> int:
    """Multiply-accumulates of all tiles, counted once for each kind [MAC]."""
    total = 0
    for pieces in itertools.product(*(_first_of_kinds(line) for line in lines)):
        part = whole.part([piece.outputs for piece, _ in pieces])
        total += _macs(part.program) * math.prod(count for _, count in pieces)
    return total


def _first_of_kinds(line: tuple[Piece, ...]) -> list[tuple[Piece, int]]:
    counts = Counter(piece.kind for piece in line)
    first = {piece.kind: piece for piece in reversed(line)}
    return [(first[kind], count) for kind, count in counts.items()]


def _macs(program: Program) -> int:
    return sum(step.work(program.shapes).executed for step in program.steps)
