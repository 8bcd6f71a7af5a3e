"""`Planner`: what lowerings work with: buffers, the places of values, and the kernel calls planned so far."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from omniconv.compiler.copy import Copy
from omniconv.compiler.layout import Layout, channels_last, plan_pitch, row_major
from omniconv.compiler.problem import Problem
from omniconv.compiler.program import Program
from omniconv.compiler.storage import Buffer, Ref, Stored
from omniconv.compiler.target import Target
from omniconv.compiler.tuning import Tuning
from omniconv.spec import Shape

PAGE: Final = 4096
"""Addresses so far apart share a set of the first-level cache [bytes]."""
WAYS: Final = 8
"""Lines in such a set."""


class Recipe(Protocol):
    """What a kernel is made from; its ``repr`` identifies the code."""

    @property
    def units(self) -> int:
        """Units of work, shared out over the threads."""

    def emit(self, name: str, target: Target) -> str:
        """The IR of the kernel."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What was decided for a convolution: the problem, the text of the choice, and whether a measurement made it."""

    problem: Problem
    choice: str
    tuned: bool


@dataclass(frozen=True, slots=True)
class Call:
    """One kernel call.

    Attributes:
        recipe: what to run.
        args: what to run it on.
        step: index of the program's step that it belongs to (-1 for input and output conversion).
        what: a word for tables: ``conv``, ``copy``, ``pool`` ...
        why: the choice of the kernel in words, for `explain`.
        decision: for the kernels of a convolution, the choice that they come from.
        how: where a layer is worked off in parts, how, in words.
    """

    recipe: Recipe
    args: tuple[Ref, ...]
    step: int
    what: str
    why: tuple[str, ...] = ()
    decision: Decision | None = None
    how: str = ""


@dataclass(frozen=True, slots=True)
class Group:
    """Neighbouring calls that divide into strips: those of one strip run in order, strips in any order or at once.

    Attributes:
        first: index of the first call.
        counts: calls of each strip.
    """

    first: int
    counts: tuple[int, ...]


@dataclass(slots=True)
class Planner:
    """The state of planning; lowerings read and extend it."""

    program: Program
    target: Target
    layout: str
    exact: bool = False
    tuning: Tuning | None = None
    threads: int = 1
    groups: list[Group] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    buffers: list[Buffer] = field(default_factory=list)
    stored: dict[str, Stored] = field(default_factory=dict)
    places: dict[str, tuple[int, int, Layout]] = field(default_factory=dict)
    wanted: dict[str, Stored] = field(default_factory=dict)
    converted: dict[tuple[str, str], Stored] = field(default_factory=dict)
    step: int = -1
    zero: int = field(init=False)
    scratch: int = field(init=False)

    def __post_init__(self) -> None:
        self.zero = self.add_buffer("zero", 0)
        self.scratch = self.add_buffer("scratch", 0)

    # -- buffers

    def add_buffer(self, kind: str, elements: int, **details: Any) -> int:
        """A new buffer of floats."""
        self.buffers.append(Buffer(kind, 4 * elements, **details))
        return len(self.buffers) - 1

    def constant(self, elements: int, make: Callable[[], npt.NDArray[Any]]) -> Ref:
        """A constant of ``elements`` floats that ``make`` computes once memory is granted."""
        return Ref(self.add_buffer("constant", elements, make=make))

    def table(self, values: Sequence[int]) -> Ref:
        """A constant table of 64-bit integers."""
        return self.constant(2 * len(values), lambda: np.asarray(values, np.int64))

    def zeros(self, elements: int) -> Ref:
        """A place with at least ``elements`` zeros behind it."""
        return self._reserve(self.zero, elements)

    def thread_memory(self, elements: int) -> Ref:
        """A place with ``elements`` floats for each thread, to use within a unit of work."""
        return self._reserve(self.scratch, elements)

    def _reserve(self, buffer: int, elements: int) -> Ref:
        self.buffers[buffer].size = max(self.buffers[buffer].size, 4 * elements)
        return Ref(buffer)

    def fresh(self, shape: Shape) -> Stored:
        """New room for a value that belongs to no name: channels last for rank 2 to 5, row major otherwise."""
        layout = self._default(shape)
        return Stored(self.add_buffer("arena", layout.extent + self.target.lanes), 0, layout)

    def fresh_plain(self, shape: Shape) -> Stored:
        """New room in row-major order without gaps."""
        layout = replace(row_major(shape), readable=True)
        return Stored(self.add_buffer("arena", layout.extent + self.target.lanes), 0, layout)

    def _default(self, shape: Shape) -> Layout:
        if 2 <= len(shape) <= 5:
            return channels_last(shape, plan_pitch(shape[1], self.target.lanes), owned=True)
        return replace(row_major(shape), readable=True)

    def call(
        self, recipe: Recipe, args: Sequence[Ref], what: str, why: tuple[str, ...] = (),
        decision: Decision | None = None, how: str = "",
    ) -> None:  # fmt: skip
        """Append a kernel call."""
        for ref in args:
            self.buffers[ref.buffer].touch(len(self.calls))
        self.calls.append(Call(recipe, tuple(args), self.step, what, why, decision, how))

    def find_tuned(self, problem: Problem) -> str | None:
        """The measured choice for a problem, where there is one."""
        return None if self.tuning is None else self.tuning.find(problem)

    def decide(self, problem: Problem, choice: str, why: tuple[str, ...]) -> tuple[tuple[str, ...], Decision]:
        """What was decided, and why nothing else: that includes a measured choice that could not be used."""
        tuned = self.find_tuned(problem)
        unknown = () if tuned in (None, choice) else (f"tuned {tuned}: not a choice here",)
        return (*why, *unknown), Decision(problem, choice, tuned == choice)

    # -- values

    def shape(self, name: str) -> Shape:
        """Logical shape of a value."""
        return self.program.shapes[name]

    def get(self, name: str) -> Stored:
        """Where a value is, in whatever layout."""
        return self.stored[name]

    def produce(self, name: str, *, plain: bool = False) -> Stored:
        """Room for a value that the current step produces: in its place, where it has one, else new; ``plain`` insists on
        row-major order without gaps.
        """
        place = Stored(*self.places[name]) if name in self.places else None
        if place is not None and (not plain or _is_plain(place.layout)):
            found = place
        elif plain:
            found = self.fresh_plain(self.shape(name))
        else:
            found = self.fresh(self.shape(name))
        self.stored[name] = found
        return found

    def channels_last(self, name: str, rank: int = 0) -> Stored:
        """A value as channels last in natural order, by a copy where it is not; seen with ``rank`` axes, where it has
        fewer.
        """
        found = self.get(name)
        if rank <= len(found.layout.shape):
            return found if found.layout.channels_last and found.layout.channels is None else self.spread(name)
        found = self.channels_last(name) if found.layout.channels is not None else found
        found = replace(found, layout=found.layout.with_rank(rank))
        if found.layout.channels_last:
            return found
        return self._convert(name, f"last of {rank}", self._default(found.layout.shape), found)

    def spread(self, name: str) -> Stored:
        """A copy of a value as channels last, whose pixels fall into all sets of the first-level cache."""
        return self._convert(name, "last", self._default(self.shape(name)))

    def row_major(self, name: str) -> Stored:
        """A value in row-major order without gaps, by a copy where it is not."""
        found = self.get(name)
        if _is_plain(found.layout):
            return found
        return self._convert(name, "plain", replace(row_major(found.layout.shape), readable=True))

    def expanded(self, name: str, shape: Shape) -> Stored:
        """A value broadcast to ``shape``, in row-major order, by a copy."""
        found = self.row_major(name)
        layout = found.layout.with_rank(len(shape))
        strides = tuple(0 if size == 1 else step for size, step in zip(layout.shape, layout.strides, strict=True))
        found = replace(found, layout=Layout(shape, strides))
        return self._convert(name, f"expanded to {shape}", replace(row_major(shape), readable=True), found)

    def _convert(self, name: str, kind: str, layout: Layout, source: Stored | None = None) -> Stored:
        if (name, kind) not in self.converted:
            room = Stored(self.add_buffer("arena", layout.extent + self.target.lanes), 0, layout)
            self.copy(source or self.get(name), room)
            self.converted[name, kind] = room
        return self.converted[name, kind]

    def copy(self, x: Stored, y: Stored) -> None:
        """Copy a value into another place and layout, channels put in natural order."""
        dims = tuple(zip(x.layout.shape, x.layout.strides, y.layout.strides, strict=True))
        lanes, flags = self.target.lanes, {"readable": x.layout.readable, "tail": y.layout.tail}
        if x.layout.channels is None:
            self.call(Copy.of(dims, lanes, **flags), [x.ref, y.ref], "copy")
            return
        lattice = find_lattice(x.layout.channels)
        if lattice is not None:  # a shuffle of groups is a transpose
            (outer, so), (inner, si) = lattice
            sx, sy = x.layout.strides[1], y.layout.strides[1]
            split = ((outer, so * sx, inner * sy), (inner, si * sx, sy))
            first = Ref(x.buffer, 4 * (x.offset + x.layout.channels[0] * sx))
            self.call(Copy.of((dims[0], *split, *dims[2:]), lanes), [first, y.ref], "copy")
            return
        table = self.table([position * x.layout.strides[1] for position in x.layout.channels])
        self.call(Copy.of(dims, lanes, mapped=1, **flags), [x.ref, y.ref, table], "gather")

    def copy_axes(self, dims: Sequence[tuple[int, int, int]], x: Ref, y: Ref) -> None:
        """A copy over axes of (size, stride of x, stride of y)."""
        self.call(Copy.of(tuple(dims), self.target.lanes), [x, y], "copy")


def _is_plain(layout: Layout) -> bool:
    """Whether a value is in row-major order without gaps, its channels in order."""
    wanted = row_major(layout.shape).strides
    steps = zip(layout.shape, layout.strides, wanted, strict=True)
    return layout.channels is None and all(size == 1 or step == want for size, step, want in steps)


def crowded(layout: Layout, pixels: int) -> bool:
    """Whether so many pixels that are read together overflow the sets of the first-level cache that they share.

    Kernels that read more pixels side by side than these hold run at a third of their speed; a copy costs less. The
    arena keeps whole values apart; arrays of the caller whose pixels are a multiple of 1 KiB are crowded.
    """
    pitch = layout.grid.strides[2]
    held = WAYS * (PAGE // math.gcd(4 * pitch, PAGE))
    return pitch % 256 == 0 and pixels > held and layout.grid.sizes[2] >= 4


def find_lattice(positions: Sequence[int]) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """Sizes and steps of two nested loops that visit ``positions`` in order; ``None`` where there are none.

    Example:
        >>> find_lattice([0, 3, 6, 1, 4, 7, 2, 5, 8])
        ((3, 1), (3, 3))
        >>> find_lattice([0, 1, 3]) is None
        True
    """
    steps = [b - a for a, b in pairwise(positions)]
    inner = next((index for index, step in enumerate(steps) if step != steps[0]), len(steps)) + 1
    outer, rest = divmod(len(positions), inner)
    if rest or not steps:
        return None
    step = positions[inner] - positions[0] if outer > 1 else 0
    visited = [positions[0] + i * step + j * steps[0] for i in range(outer) for j in range(inner)]
    return ((outer, step), (inner, steps[0])) if visited == list(positions) else None
