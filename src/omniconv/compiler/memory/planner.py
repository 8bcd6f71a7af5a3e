"""`Planner`: what lowerings work with: buffers, the places of values, and the kernel calls planned so far."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import field, replace
from functools import partial
from typing import Any, Protocol, TypeVar, cast

import numpy as np
import numpy.typing as npt

from omniconv.compiler.memory.layout import Layout, channels_last, plan_pitch, row_major
from omniconv.compiler.memory.storage import Buffer, BufferRef, Stored
from omniconv.compiler.problem.problem import USUAL, Facts, Problem
from omniconv.compiler.problem.tuning import Tuning
from omniconv.open_size import most
from omniconv.program.bfloat16 import narrow
from omniconv.program.element import BFLOAT16, Element
from omniconv.program.program import Program
from omniconv.records import dataclass
from omniconv.spec import Shape
from omniconv.target.model import Target

C = TypeVar("C")
"""A choice: what it is made of is of no interest here."""
T = TypeVar("T")


class Recipe(Protocol):
    """What a kernel is made from; its ``repr`` identifies the code."""

    @property
    def units(self) -> int:
        """Units of work, shared out over the threads."""

    def emit(self, name: str, target: Target) -> str:
        """The IR of the kernel."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What was decided for a convolution: the problem, the text of the choice, and whether a measurement made it; of a
    filtered one how many multiplications are left.
    """

    problem: Problem
    choice: str
    tuned: bool
    multiplications: int | None = None


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
        fixed: whether no size of the recipe follows from that of an image.
        moved: of a change of layout, size and distances in x and in y along each axis of the value, channels second.
    """

    recipe: Recipe
    args: tuple[BufferRef, ...]
    step: int
    what: str
    why: tuple[str, ...] = ()
    decision: Decision | None = None
    how: str = ""
    fixed: bool = False
    moved: tuple[tuple[int, int, int], ...] = ()

    @property
    def narrow(self) -> tuple[int, ...]:
        """Which of the arguments keep numbers as bfloat16, that the kernel computes with."""
        return tuple([index for index, ref in enumerate(self.args) if ref.element is BFLOAT16])

    def open(self, recipe: Recipe, sizes: BufferRef) -> Call:
        """The same call of a kernel that is given its sizes, behind all else."""
        args = (*self.args, sizes)
        return Call(recipe, args, self.step, self.what, self.why, self.decision, self.how, self.fixed, self.moved)


@dataclass(frozen=True, slots=True)
class Group:
    """Neighbouring calls that divide into strips: those of one strip run in order, strips in any order or at once.

    Attributes:
        first: index of the first call.
        counts: calls of each strip.
    """

    first: int
    counts: tuple[int, ...]


class LayerQuestions(Protocol):
    """The choices of a plan whose sizes are open."""

    def open(self, step: int, choice: Any, problem: Problem, facts: Facts) -> Any:
        """The choice for a layer and the sizes at hand, with its own sizes opened: those of the layer are open."""


class Choices(Protocol):
    """The choices of plans of the same network for images of other sizes."""

    def settle(self, step: int, choice: Any, target: Target) -> Any:
        """The choice for a step, or one like it that there is machine code for."""

    def of_array(self, array: npt.NDArray[Any], way: Hashable, make: Callable[[], T]) -> T:
        """What is made of an array in a way that says all else it depends on, once while the array lives."""


@dataclass(slots=True)
class Planner:
    """The state of planning; lowerings read and extend it."""

    program: Program
    target: Target
    exact: bool = False
    tuning: Tuning | None = None
    threads: int = 1
    shared: Choices | None = None
    accuracy: str = USUAL
    asked: LayerQuestions | None = None
    groups: list[Group] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    buffers: list[Buffer] = field(default_factory=list)
    stored: dict[str, Stored] = field(default_factory=dict)
    places: dict[str, tuple[int, int, Layout, Element | None]] = field(default_factory=dict)
    wanted: dict[str, Stored] = field(default_factory=dict)
    converted: dict[tuple[str, str], Stored] = field(default_factory=dict)
    known: dict[str, npt.NDArray[Any]] = field(default_factory=dict)
    chosen: dict[Hashable, Any] = field(default_factory=dict)
    step: int = -1
    zero: int = field(init=False)
    scratch: int = field(init=False)

    def __post_init__(self) -> None:
        self.zero = self.add_buffer("zero", 0)
        self.scratch = self.add_buffer("scratch", 0)

    # -- buffers

    def add_buffer(self, kind: str, elements: int, **details: Any) -> int:
        """A new buffer of elements."""
        self.buffers.append(Buffer(kind, self.target.element.bytes * elements, **details))
        return len(self.buffers) - 1

    def constant(
        self, elements: int, make: Callable[[], npt.NDArray[Any]], *, packed: Hashable | None = None
    ) -> BufferRef:
        """A constant of ``elements`` elements that ``make`` computes once memory is granted. ``packed`` is all that it
        depends on beside the step: plans for images of other sizes may have the same.
        """
        dtype = self.target.element.dtype
        return BufferRef(self.add_buffer("constant", elements, make=partial(_compute, make, dtype), packed=packed))

    def narrow_constant(
        self, elements: int, make: Callable[[], npt.NDArray[Any]], *, packed: Hashable | None = None
    ) -> BufferRef:
        """The same with its numbers rounded to bfloat16, and kept as such."""
        key = None if packed is None else (packed, BFLOAT16)
        self.buffers.append(Buffer("constant", BFLOAT16.bytes * elements, make=lambda: narrow(make()), packed=key))
        return BufferRef(len(self.buffers) - 1, 0, BFLOAT16)

    def table(self, values: Sequence[int] | npt.NDArray[np.int64]) -> BufferRef:
        """A constant table of 64-bit integers."""
        content = values if isinstance(values, np.ndarray) else tuple(values)
        return self.index(len(values), partial(np.asarray, content, np.int64))

    def index(self, size: int, make: Callable[[], npt.NDArray[np.int64]]) -> BufferRef:
        """A table of ``size`` integers that ``make`` computes once memory is granted."""
        self.buffers.append(Buffer("constant", 8 * size, make=make))
        return BufferRef(len(self.buffers) - 1)

    def of_array(self, array: npt.NDArray[Any], way: Hashable, make: Callable[[], T]) -> T:
        """What is made of an array in a way that says all else it depends on, once for all sizes of a network."""
        return make() if self.shared is None else self.shared.of_array(array, way, make)

    def zeros(self, elements: int) -> BufferRef:
        """A place with at least ``elements`` zeros behind it."""
        return self._reserve(self.zero, elements)

    def thread_memory(self, elements: int) -> BufferRef:
        """A place with ``elements`` elements for each thread, to use within a unit of work."""
        return self._reserve(self.scratch, elements)

    def _reserve(self, buffer: int, elements: int) -> BufferRef:
        size = most(self.buffers[buffer].size, self.target.element.bytes * elements)
        self.buffers[buffer].size = cast("int", size)
        return BufferRef(buffer)

    def fresh(self, shape: Shape, element: Element | None = None) -> Stored:
        """New room for a value that belongs to no name: channels last for rank 2 to 5, row major otherwise."""
        return self.room(self.default_layout(shape, element), element)

    def fresh_plain(self, shape: Shape, element: Element | None = None) -> Stored:
        """New room in row-major order without gaps."""
        return self.room(replace(row_major(shape), readable=True), element)

    def room(self, layout: Layout, element: Element | None = None) -> Stored:
        """New room for a value of this layout, of an element of its own where one is named."""
        if element is None:
            return Stored(self.add_buffer("arena", layout.extent + self.target.lanes), 0, layout)
        self.buffers.append(Buffer("arena", element.bytes * (layout.extent + self.target.of(element).lanes)))
        return Stored(len(self.buffers) - 1, 0, layout, element)

    def default_layout(self, shape: Shape, element: Element | None = None) -> Layout:
        """The layout of a value that nothing else is asked of: see :meth:`fresh`."""
        if 2 <= len(shape) <= 5:
            return channels_last(shape, plan_pitch(shape[1], self.target_of(element)), owned=True)
        return replace(row_major(shape), readable=True)

    def target_of(self, element: Element | None) -> Target:
        """The machine with vectors of an element, where one is named."""
        return self.target if element is None else self.target.of(element)

    def call(
        self,
        recipe: Recipe,
        args: Sequence[BufferRef],
        what: str,
        why: tuple[str, ...] = (),
        decision: Decision | None = None,
        how: str = "",
        *,
        fixed: bool = False,
        moved: tuple[tuple[int, int, int], ...] = (),
    ) -> None:
        """Append a kernel call."""
        self.calls.append(Call(recipe, tuple(args), self.step, what, why, decision, how, fixed, moved))

    def find_tuned(self, problem: Problem) -> str | None:
        """The measured choice for a problem, where there is one."""
        return None if self.tuning is None else self.tuning.find(problem)

    def settle(self, choice: C) -> C:
        """The choice for the current step that plans for other sizes agree with."""
        if self.shared is None:
            return choice
        found: C = self.shared.settle(self.step, choice, self.target)
        return found

    # -- values

    def shape(self, name: str) -> Shape:
        """Logical shape of a value."""
        return self.program.shapes[name]

    def get(self, name: str) -> Stored:
        """Where a value is, in whatever layout."""
        return self.stored[name]

    def element_of(self, name: str) -> Element | None:
        """The element of a value, where that is not the program's."""
        return self.program.elements.get(name)

    def produce(self, name: str, *, plain: bool = False) -> Stored:
        """Room for a value that the current step produces: in its place, where it has one, else new; ``plain`` insists
        on row-major order without gaps.
        """
        place = Stored(*self.places[name]) if name in self.places else None
        if place is not None and (not plain or place.layout.plain):
            found = place
        elif plain:
            found = self.fresh_plain(self.shape(name), self.element_of(name))
        else:
            found = self.fresh(self.shape(name), self.element_of(name))
        self.stored[name] = found
        return found

    def produce_over(self, name: str, old: str, found: Stored) -> Stored:
        """Room for a value of the shape of another one, in the layout of ``found``, which that was found in: its place,
        where nobody else reads it, as each element is read before one is written; else as in :meth:`produce`.
        """
        program = self.program
        if (
            name in self.places
            or found != self.stored[old]
            or old in self.places
            or old in program.outputs
            or self.element_of(name) is not found.element
            or self.buffers[found.buffer].kind != "arena"
            or sum(each.reads.count(old) for each in program.steps) > 1
            or sum(each.buffer == found.buffer for each in self.stored.values()) > 1
        ):
            return self.produce(name)
        self.stored[name] = found
        return found


def _compute(make: Callable[[], npt.NDArray[Any]], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    return np.asarray(make(), dtype)
