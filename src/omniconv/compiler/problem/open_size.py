"""Sizes that are read when a kernel runs, so that one piece of machine code serves images of many sizes.

A recipe is made for exact sizes. Some of them can be *opened* before its code is written: an :class:`OpenSize` stands
in the place of the integer, takes part in arithmetic as that would, and becomes a machine value where the code needs
it. What a lowering decides in Python by asking an open size (is the row longer than a tile? does a tap leave the
input?) is written down as a :data:`Guard`, an equation or inequality between expressions of the open sizes. The code is
right for all sizes for which every guard has the answer that it had while the code was written, and for no others is it
ever used: so nothing has to be assumed of a lowering.

An open size where only an integer will do (a number of unrolled rows, a lane) is pinned: the guard is that it equals
what it is.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol, TypeAlias, TypeVar, cast

Expression: TypeAlias = int | tuple["str | Expression", ...]
"""An integer, ``("size", number)`` for an open size, or an operation: ``("+", a, b)``."""
Guard: TypeAlias = tuple[str, Expression, Expression, bool]
"""A relation, its sides, and the answer that the code was written for."""

OPERATIONS: Final[dict[str, Callable[[int, int], int]]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "//": operator.floordiv,
    "min": min,
    "max": max,
}
RELATIONS: Final[dict[str, Callable[[int, int], bool]]] = {
    "==": operator.eq,
    "<": operator.lt,
    "<=": operator.le,
}


@dataclass(slots=True, eq=False)
class Trace:
    """What is asked of open sizes while code is written.

    Attributes:
        at: the argument of the kernel that holds the sizes, as 64-bit integers.
        guards: what was asked, in order, each once.
    """

    at: int
    guards: dict[Guard, None] = field(default_factory=dict)

    def ask(self, relation: str, a: Known, b: Known) -> bool:
        """The answer for the sizes at hand, which the code then depends on."""
        answer = RELATIONS[relation](value_of(a), value_of(b))
        if isinstance(a, OpenSize) or isinstance(b, OpenSize):
            self.guards.setdefault((relation, _tree(a), _tree(b), answer))
        return answer


class OpenSize:
    """A size that the machine code reads when it runs.

    It is no `int`: where code is written that only takes integers, it is asked for one (``__index__``), which pins it.

    Args:
        trace: where its answers are written down.
        tree: how it follows from the sizes.
        value: what it is for the sizes at hand.
    """

    __slots__ = ("trace", "tree", "value")

    def __init__(self, trace: Trace, tree: Expression, value: int) -> None:
        self.trace, self.tree, self.value = trace, tree, value

    def __repr__(self) -> str:
        return "?"

    __hash__ = object.__hash__

    # -- arithmetic

    def join(self, operation: str, a: object, b: object) -> Known:
        """An operation of which one side is this size."""
        if not (isinstance(a, int | OpenSize) and isinstance(b, int | OpenSize)):
            return cast("Known", NotImplemented)
        value = OPERATIONS[operation](value_of(a), value_of(b))
        return OpenSize(self.trace, (operation, _tree(a), _tree(b)), value)

    def __add__(self, other: Known) -> Known:
        return self if _is(other, 0) else self.join("+", self, other)

    def __radd__(self, other: Known) -> Known:
        return self if _is(other, 0) else self.join("+", other, self)

    def __sub__(self, other: Known) -> Known:
        return self if _is(other, 0) else self.join("-", self, other)

    def __rsub__(self, other: Known) -> Known:
        return self.join("-", other, self)

    def __mul__(self, other: Known) -> Known:
        if _is(other, 0):
            return 0
        return self if _is(other, 1) else self.join("*", self, other)

    def __rmul__(self, other: Known) -> Known:
        if _is(other, 0):
            return 0
        return self if _is(other, 1) else self.join("*", other, self)

    def __floordiv__(self, other: Known) -> Known:
        if isinstance(other, OpenSize):
            self.trace.ask("==", other, 0)
        if isinstance(other, int) and other < 0:
            return -self // -other
        return self if _is(other, 1) else self.join("//", self, other)

    def __rfloordiv__(self, other: Known) -> Known:
        self.trace.ask("==", self, 0)
        return self.join("//", other, self)

    def __mod__(self, other: Known) -> Known:
        return self - self // other * other

    def __divmod__(self, other: Known) -> tuple[Known, Known]:
        quotient = self // other
        return quotient, self - quotient * other

    def __rdivmod__(self, other: Known) -> tuple[Known, Known]:
        quotient = other // self
        return quotient, other - quotient * self

    def __neg__(self) -> Known:
        return 0 - self

    def __abs__(self) -> Known:
        return most(self, -self)

    # -- questions

    def __eq__(self, other: object) -> bool:
        return isinstance(other, int | OpenSize) and self.trace.ask("==", self, other)

    def __lt__(self, other: Known) -> bool:
        return self.trace.ask("<", self, other)

    def __le__(self, other: Known) -> bool:
        return self.trace.ask("<=", self, other)

    def __gt__(self, other: Known) -> bool:
        return self.trace.ask("<", other, self)

    def __ge__(self, other: Known) -> bool:
        return self.trace.ask("<=", other, self)

    def __bool__(self) -> bool:
        return not self.trace.ask("==", self, 0)

    def __index__(self) -> int:
        self.trace.ask("==", self, self.value)
        return self.value

    __int__ = __index__

    def __float__(self) -> float:
        return float(int(self))


Known: TypeAlias = int | OpenSize
"""A size that takes no work on the machine for each unit: an integer, or an expression of what the kernel is given."""


@dataclass(slots=True)
class Opener:
    """Opens sizes of one recipe, and collects what they are.

    A size of 0 or 1 stays what it is: an axis that is not there, a stride that is not taken, or a neighbour is code of
    another form.
    """

    trace: Trace
    values: list[int] = field(default_factory=list)

    def __call__(self, size: int) -> int:
        """The size, opened. It stands where recipes have an `int`, and says so to the type checker."""
        return size if size in (0, 1) else self.any(size)

    def any(self, size: int) -> int:
        """The same for any size."""
        self.values.append(size)
        return cast("int", OpenSize(self.trace, ("size", len(self.values) - 1), size))

    def strides(self, strides: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
        """Strides of images, planes and rows, opened; that of pixels does not depend on the size of an image."""
        n, d, h, w = strides
        return self(n), self(d), self(h), w


class _Opens(Protocol):
    def opened(self, opener: Opener) -> Any: ...


class OfImages(Protocol):
    """A recipe of images and their strides; see :func:`open_images`."""

    @property
    def batch(self) -> int:
        """Images."""

    @property
    def axes(self) -> Sequence[_Opens]:
        """Walks or windows along depth, height, width."""

    @property
    def x_strides(self) -> tuple[int, int, int, int]:
        """N, D, H, W strides of the input [elements]."""

    @property
    def y_strides(self) -> tuple[int, int, int, int]:
        """N, D, H, W strides of the result [elements]."""


R = TypeVar("R", bound=OfImages)


def open_images(recipe: R, opener: Opener, **more: Any) -> R:
    """A recipe with its number of images, its axes and its strides opened, and ``more`` of its fields replaced."""
    changed: Any = recipe
    opened: R = replace(
        changed,
        batch=opener(recipe.batch),
        axes=tuple(axis.opened(opener) for axis in recipe.axes),
        x_strides=opener.strides(recipe.x_strides),
        y_strides=opener.strides(recipe.y_strides),
        **more,
    )
    return opened


def may_exceed(size: Known, bound: int) -> bool:
    """Whether a size is larger than a bound, or may be so on the machine."""
    return isinstance(size, OpenSize) or size > bound


def value_of(size: Known) -> int:
    """What a size is for the sizes at hand, without making anything depend on it."""
    return size.value if isinstance(size, OpenSize) else size


def is_open(size: object) -> bool:
    """Whether a size is only known on the machine."""
    return isinstance(size, OpenSize)


def least(a: Known, b: Known) -> Known:
    """The smaller of two sizes, whichever that is."""
    return _extreme("min", a, b)


def most(a: Known, b: Known) -> Known:
    """The larger of two sizes, whichever that is."""
    return _extreme("max", a, b)


def _extreme(operation: str, a: Known, b: Known) -> Known:
    for one in (a, b):
        if isinstance(one, OpenSize):
            return one.join(operation, a, b)
    return OPERATIONS[operation](value_of(a), value_of(b))


def evaluate(tree: Expression, sizes: Sequence[int]) -> int:
    """An expression for given sizes."""
    if isinstance(tree, int):
        return tree
    operation, a, *rest = tree
    if operation == "size":
        return sizes[cast("int", a)]
    return OPERATIONS[cast("str", operation)](
        evaluate(cast("Expression", a), sizes), evaluate(cast("Expression", rest[0]), sizes)
    )


def holds(guards: Sequence[Guard], sizes: Sequence[int]) -> bool:
    """Whether code that was written under these guards is right for given sizes."""
    return all(
        RELATIONS[relation](evaluate(a, sizes), evaluate(b, sizes)) == answer for relation, a, b, answer in guards
    )


def _tree(size: Known) -> Expression:
    return size.tree if isinstance(size, OpenSize) else size


def _is(size: Known, value: int) -> bool:
    return isinstance(size, int) and size == value
