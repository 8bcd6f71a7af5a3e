"""`Remembered`: what is found out of an array, once while it lives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar
from weakref import ReferenceType, ref

from omniconv.program.steps import Array

_Found = TypeVar("_Found")


class Remembered(Generic[_Found]):
    """A function of arrays that never change, worked out once for each: programs of one network for images of different
    sizes have the same ones. Nothing keeps an array alive for it.
    """

    def __init__(self, find: Callable[[Array], _Found]) -> None:
        self.find = find
        self._found: dict[int, tuple[ReferenceType[Array], _Found]] = {}

    def of(self, array: Array) -> _Found:
        """What the function makes of an array."""
        number = id(array)
        known = self._found.get(number)
        if known is not None and known[0]() is array:
            return known[1]
        found = self.find(array)
        self._found[number] = ref(array, lambda _: self._found.pop(number, None)), found
        return found
