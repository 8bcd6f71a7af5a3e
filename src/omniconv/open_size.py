"""Sizes that stay open while something is made for exact ones, so that what was made serves other sizes too.

Code that computes with sizes can be run with some of them *opened*: an :class:`OpenSize` stands in the place of the
integer and takes part in arithmetic as that would. What the code decides by asking an open size (is the row longer than
a tile? does a tap leave the input?) is written down as a :data:`Guard`, an equation or inequality between expressions
of the open sizes. What came out is right for all sizes for which every guard has the answer that it had, and for no
others is it ever used: so nothing has to be assumed of the code.

An open size where only an integer will do (a number of unrolled rows, a lane) is pinned: the guard is that it equals
what it is.

Machine code is made so, which reads the open sizes when it runs (:mod:`omniconv.compiler.code.opened`), and programs of
networks (:mod:`omniconv.graph.open_program`).
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Sequence
from dataclasses import field
from functools import lru_cache, wraps
from typing import Any, Final, TypeAlias, TypeVar, cast

from omniconv.records import dataclass

F = TypeVar("F", bound=Callable[..., Any])
Expression: TypeAlias = int | tuple["str | Expression", ...]
"""An integer, ``("size", number)`` for an open size, or an operation: ``("+", a, b)``."""
Guard: TypeAlias = tuple[str, Expression, Expression, bool]
"""A relation, its sides, and the answer that the code was written for."""

Question: TypeAlias = tuple[Callable[..., bool], tuple[Any, ...], bool]
"""A function, what it is called with, and the answer that the code was written for."""

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


class KeyOfOpenSizeError(TypeError):
    """An open size is looked up in a set or a dictionary, where equality would go unnoticed."""


class LateOpenSizeError(TypeError):
    """An open size is computed with after what was made of it is in use for other sizes, or an array before its own
    sizes are known.
    """


@dataclass(slots=True, eq=False)
class Trace:
    """What is asked of open sizes while something is made.

    Attributes:
        at: of a kernel, the argument that holds the sizes, as 64-bit integers.
        keys: whether open sizes may be keys of sets and dictionaries. There each is itself and equal to nothing else:
            that suits caches of functions, and nothing that counts different sizes.
        guards: what was asked, in order, each once.
        questions: what was asked of more than relations can say: a function, what it was called with, open sizes among
            that, and the answer.
        over: whether nothing may be asked any more: what was made is in use for other sizes.
    """

    at: int = -1
    keys: bool = True
    guards: dict[Guard, None] = field(default_factory=dict)
    questions: list[Question] = field(default_factory=list)
    over: bool = False

    def ask(self, relation: str, a: Known, b: Known) -> bool:
        """The answer for the sizes at hand, on which all that follows depends."""
        self.check()
        answer = RELATIONS[relation](value_of(a), value_of(b))
        one, other = tree_of(a), tree_of(b)
        if one != other:  # else the answer is the same for all sizes
            self.guards.setdefault((relation, one, other, answer))
        return answer

    def note(self, question: Callable[..., bool], args: tuple[Any, ...], values: tuple[Any, ...]) -> bool:
        """The answer of a function of open sizes, ``args``, for those at hand, on which all that follows depends."""
        self.check()
        answer = question(*values)
        self.questions.append((question, args, answer))
        return answer

    def check(self) -> None:
        """Refuse what comes too late.

        Raises:
            LateOpenSizeError: nothing may be asked any more.
        """
        if self.over:
            raise LateOpenSizeError("an open size is asked for when others are in use")


class OpenSize:
    """A size that stays open.

    It is no `int`: code that only takes integers asks it for one (``__index__``), which pins it.

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

    def __str__(self) -> str:
        return str(int(self))

    def __hash__(self) -> int:
        self.trace.check()
        if not self.trace.keys:
            raise KeyOfOpenSizeError(f"a size, {self.value} here, is a key")
        return id(self)

    # -- arithmetic

    def join(self, operation: str, a: object, b: object) -> Known:
        """An operation of which one side is this size."""
        if not (isinstance(a, int | OpenSize) and isinstance(b, int | OpenSize)):
            return cast("Known", NotImplemented)
        self.trace.check()
        for side in (a, b):
            if isinstance(side, OpenSize) and side.trace is not self.trace:
                raise TypeError("two sizes that were opened for different things meet")
        tree = _join(operation, tree_of(a), tree_of(b))
        value = OPERATIONS[operation](value_of(a), value_of(b))
        return tree if isinstance(tree, int) else OpenSize(self.trace, tree, value)

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
        return cast("int", OpenSize(self.trace, ("size", len(self.values) - 1), value_of(size)))

    def strides(self, strides: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
        """Strides of images, planes and rows, opened; that of pixels does not depend on the size of an image."""
        n, d, h, w = strides
        return self(n), self(d), self(h), w

    def all(self, strides: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
        """Strides of images, planes, rows and pixels, opened."""
        n, d, h, w = strides
        return self(n), self(d), self(h), self(w)


def remember(maxsize: int) -> Callable[[F], F]:
    """Have a function keep its last results, as `functools.lru_cache` does, but for open sizes."""

    def decorate(function: F) -> F:
        known = lru_cache(maxsize)(function)

        @wraps(function)
        def call(*args: Any) -> Any:
            try:
                return known(*args)
            except KeyOfOpenSizeError:
                return function(*args)

        return cast("F", call)

    return decorate


def ask(question: Callable[..., bool], *sizes: Known) -> bool:
    """The answer of a function of sizes; of open ones for those at hand, on which all that follows depends."""
    for size in sizes:
        if isinstance(size, OpenSize):
            return size.trace.note(question, sizes, tuple(map(value_of, sizes)))
    return question(*sizes)


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


def substitute(tree: Expression, trees: Sequence[Expression]) -> Expression:
    """An expression with others in the place of its sizes."""
    if isinstance(tree, int):
        return tree
    operation, a, *rest = tree
    if operation == "size":
        return trees[cast("int", a)]
    return _join(
        cast("str", operation), substitute(cast("Expression", a), trees), substitute(cast("Expression", rest[0]), trees)
    )


def is_of(tree: Expression, count: int) -> bool:
    """Whether an expression follows from the first so many sizes alone."""
    if isinstance(tree, int):
        return True
    operation, a, *rest = tree
    if operation == "size":
        return cast("int", a) < count
    return is_of(cast("Expression", a), count) and is_of(cast("Expression", rest[0]), count)


def holds(guards: Sequence[Guard], sizes: Sequence[int]) -> bool:
    """Whether what was made under these guards is right for given sizes."""
    return all(
        RELATIONS[relation](evaluate(a, sizes), evaluate(b, sizes)) == answer for relation, a, b, answer in guards
    )


class Formulas:
    """Many expressions of the same sizes, to be evaluated together: what they have in common is computed once."""

    def __init__(self) -> None:
        self._numbers: dict[Expression, int] = {}
        self._entries: list[tuple[Callable[[int, int], int] | None, int, int]] = []

    def add(self, tree: Expression) -> int:
        """The place of an expression in what :meth:`evaluate` returns."""
        found = self._numbers.get(tree)
        if found is not None:
            return found
        entry: tuple[Callable[[int, int], int] | None, int, int]
        if isinstance(tree, int):
            entry = None, -1, tree
        elif tree[0] == "size":
            entry = None, cast("int", tree[1]), 0
        else:
            a, b = (self.add(cast("Expression", part)) for part in tree[1:])
            entry = OPERATIONS[cast("str", tree[0])], a, b
        self._entries.append(entry)
        self._numbers[tree] = len(self._entries) - 1
        return self._numbers[tree]

    def evaluate(self, sizes: Sequence[int]) -> list[int]:
        """The value of each expression.

        Raises:
            ZeroDivisionError: a divisor is zero, as it was not when its guard was written down.
        """
        values: list[int] = []
        for function, a, b in self._entries:
            if function is not None:
                values.append(function(values[a], values[b]))
            else:
                values.append(b if a < 0 else sizes[a])
        return values

    def is_of(self, count: int) -> bool:
        """Whether all expressions follow from the first so many sizes alone."""
        return all(function is not None or a < count for function, a, _ in self._entries)

    def open(self, trace: Trace, sizes: Sequence[int]) -> list[Known]:
        """The expressions themselves, for others to ask of what they are for these sizes."""
        pairs = zip(self._numbers, self.evaluate(sizes), strict=True)
        return [tree if isinstance(tree, int) else OpenSize(trace, tree, value) for tree, value in pairs]


def as_sizes(shape: Iterable[int]) -> tuple[int, ...]:
    """A shape as a tuple of `int`; open sizes stay open."""
    return tuple(size if is_open(size) else int(size) for size in shape)


def _join(operation: str, a: Expression, b: Expression) -> Expression:
    """An operation as an expression. Integers that are added come last and together, so that a size that grows by as
    much as it shrinks is the same expression as before.
    """
    if operation == "-" and isinstance(b, int):
        operation, b = "+", -b
    if operation == "-" and a == b:
        return 0
    if operation == "+" and isinstance(a, int):
        a, b = b, a
    if operation == "+" and isinstance(b, int) and isinstance(a, tuple) and a[0] == "+":
        _, inner, added = a
        if isinstance(added, int):
            a, b = cast("Expression", inner), added + b
    return a if operation == "+" and b == 0 else (operation, a, b)


def tree_of(size: Known) -> Expression:
    """How a size follows from those that were opened."""
    return size.tree if isinstance(size, OpenSize) else size


def _is(size: Known, value: int) -> bool:
    return isinstance(size, int) and size == value
