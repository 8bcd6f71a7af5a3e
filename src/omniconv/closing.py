"""Open sizes inside of records: numbers put in their place, and what has to hold of them.

What was made once with its sizes open (:mod:`omniconv.open_size`) is made for other sizes by putting their values into
it: a :data:`Close` does that for one record, and shares the record itself where no size is in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields, is_dataclass, replace
from functools import partial
from typing import Any, TypeAlias, TypeVar

from omniconv.open_size import (
    RELATIONS,
    Expression,
    Formulas,
    Guard,
    Known,
    LateOpenSizeError,
    OpenSize,
    Question,
    value_of,
)

T = TypeVar("T")
Close: TypeAlias = Callable[[Sequence[Known]], Any]
"""Puts the values of formulas in the place of open sizes."""


class Later:
    """What a function makes of open sizes, once these are known. It stands where something else is expected, and says
    so to the type checker.

    Args:
        shape: of the array that the function returns.
        make: the function.
        args: what it is called with.
    """

    __slots__ = ("args", "make", "shape")

    def __init__(self, shape: tuple[int, ...], make: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self.shape, self.make, self.args = shape, make, args

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        raise LateOpenSizeError(f"{name!r} is asked of an array before its sizes are known")

    def __array__(self, *_: object, **__: object) -> Any:
        raise LateOpenSizeError("an array is asked for before its sizes are known")

    def then(self, change: Callable[[Any], Any]) -> Later:
        """The same with a function of the result in its place."""
        make = self.make
        return Later(self.shape, lambda *args: change(make(*args)), self.args)

    def ask(self, question: Callable[[Any], bool]) -> bool:
        """The answer for the sizes at hand, on which all that follows depends."""
        make = self.make
        trace = next(iter(list_open(self.args))).trace
        return trace.note(lambda *args: question(make(*args)), self.args, close(self.args))


def find_close(item: Any, formulas: Formulas) -> Close | None:
    """What puts values in the place of the open sizes inside of something; ``None`` where it has none."""
    if isinstance(item, OpenSize):
        place = formulas.add(item.tree)
        return lambda values: values[place]
    if isinstance(item, Later):
        given = find_close((item.args, item.shape), formulas)
        return partial(_make_later, item.make, given, (item.args, item.shape))
    if isinstance(item, partial):
        given = find_close(item.args, formulas)
        return None if given is None else lambda values: partial(item.func, *given(values))
    if isinstance(item, tuple):
        parts = [(each, find_close(each, formulas)) for each in item]
        if all(inner is None for _, inner in parts):
            return None
        build: Callable[[Any], Any] = getattr(type(item), "_make", tuple)
        return lambda values: build(each if inner is None else inner(values) for each, inner in parts)
    if is_dataclass(item) and not isinstance(item, type):
        found = {each.name: find_close(getattr(item, each.name), formulas) for each in fields(item) if each.init}
        changed = {name: inner for name, inner in found.items() if inner is not None}
        if changed:
            return _find_rebuild(item, changed)
    return None


def _find_rebuild(item: Any, changed: dict[str, Close]) -> Close:
    """What makes a record again with some fields changed. `replace` would look all of them up each time."""
    names = [each.name for each in fields(item) if each.init]
    known = {name: getattr(item, name) for name in names if name not in changed}
    parts, build = list(changed.items()), type(item)
    return lambda values: build(**known, **{name: inner(values) for name, inner in parts})


def _make_later(make: Callable[..., Any], given: Close | None, item: Any, values: Sequence[Known]) -> Any:
    """What a function makes; where its sizes are open still, what it will make of them."""
    args, shape = item if given is None else given(values)
    return Later(shape, make, args) if any(True for _ in list_open(args)) else make(*args)


def list_open(item: Any) -> list[OpenSize]:
    """The open sizes inside of something."""
    if isinstance(item, OpenSize):
        return [item]
    if isinstance(item, Later | partial):
        return list_open(item.args)
    if isinstance(item, tuple):
        return [size for each in item for size in list_open(each)]
    if is_dataclass(item) and not isinstance(item, type):
        return [size for each in fields(item) if each.init for size in list_open(getattr(item, each.name))]
    return []


def close(item: T) -> T:
    """Something for the sizes at hand, without making anything depend on them."""
    closed: T = _map(item, value_of)
    return closed


def pin(item: T) -> T:
    """Something for the sizes at hand, and for no others."""
    pinned: T = _map(item, int)
    return pinned


def describe(item: Any) -> tuple[Any, tuple[Expression, ...]]:
    """What is equal for two things that are equal whatever the sizes are."""
    return close(item), tuple(size.tree for size in list_open(item))


def _map(item: Any, change: Callable[[Any], int]) -> Any:
    if isinstance(item, OpenSize):
        return change(item)
    if isinstance(item, tuple):
        parts = [_map(each, change) for each in item]
        if all(new is old for new, old in zip(parts, item, strict=True)):
            return item
        build: Callable[[Any], Any] = getattr(type(item), "_make", tuple)
        return build(parts)
    if is_dataclass(item) and not isinstance(item, type):
        found = {each.name: getattr(item, each.name) for each in fields(item) if each.init}
        changed = {name: new for name, old in found.items() if (new := _map(old, change)) is not old}
        return replace(item, **changed) if changed else item
    return item


class Conditions:
    """What was asked of open sizes while something was made: it is right for all sizes with the same answers.

    Args:
        guards, questions: of a :class:`omniconv.open_size.Trace`.
        formulas: what the sizes are put into.
    """

    def __init__(self, guards: Iterable[Guard], questions: Iterable[Question], formulas: Formulas) -> None:
        self._guards = [_place(guard, formulas) for guard in guards]
        self._questions = [(ask, args, find_close(args, formulas), answer) for ask, args, answer in questions]

    def hold(self, values: Sequence[int]) -> bool:
        """Whether the answers are the same for these values of the formulas."""
        return all(relation(values[a], values[b]) == answer for relation, a, b, answer in self._guards) and all(
            ask(*(args if inner is None else inner(values))) == answer for ask, args, inner, answer in self._questions
        )


def _place(guard: Guard, formulas: Formulas) -> tuple[Callable[[int, int], bool], int, int, bool]:
    relation, a, b, answer = guard
    return RELATIONS[relation], formulas.add(a), formulas.add(b), answer
