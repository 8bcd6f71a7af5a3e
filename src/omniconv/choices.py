"""Arguments that are one of a few words or objects of a known kind, checked before anything is done with them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from omniconv.errors import DataError, SpecError
from omniconv.integers import read_sequence, state


def as_choice(name: str, value: object, choices: Iterable[str], *, at: str = "") -> str:
    """One of some words.

    Example:
        >>> as_choice("mode", "linear", ("nearest", "linear"))
        'linear'
        >>> as_choice("mode", 3, ("nearest", "linear"))
        Traceback (most recent call last):
            ...
        omniconv.errors.SpecError: mode=3 is unknown; need one of nearest, linear

    Raises:
        SpecError: another word, or no word at all.
    """
    known = tuple(choices)
    if not isinstance(value, str) or value not in known:
        raise SpecError(state(name, value, "is unknown"), need="one of " + ", ".join(known), at=at)
    return value


def check_instance(
    name: str, value: object, kinds: type | tuple[type, ...], *, need: str, fix: str = "", at: str = ""
) -> None:
    """Refuse an object of another kind than expected, by its type.

    Raises:
        DataError: it is of another kind.
    """
    if not isinstance(value, kinds):
        raise DataError(f"{name} is {type(value).__name__}", need=need, fix=fix, at=at)


def as_parts(name: str, value: Any, kinds: tuple[type, ...], *, need: str, fix: str) -> tuple[Any, ...]:
    """A sequence of objects of known kinds as a tuple.

    Raises:
        SpecError: no sequence, or something else in it.
    """
    parts = read_sequence(value)
    if parts is None:
        raise SpecError(f"{name} is {type(value).__name__}", need=f"a sequence of {need}", fix=fix)
    for index, part in enumerate(parts):
        if not isinstance(part, kinds):
            raise SpecError(f"{name}[{index}] is {type(part).__name__}", need=need, fix=fix)
    return parts
