"""`Results`: room for what calls return. The memory of large results that nobody holds any more is written again.

Fresh memory of the system costs a fault for each page, and the system clears it first: for a large result of little
work that takes longer than the work.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from typing import Any, Final
from weakref import ReferenceType, ref

import numpy as np

from omniconv.runtime.arena import Arena
from omniconv.runtime.inputs import Array
from omniconv.spec import Shape

LARGE: Final = 2**20
"""From here on the memory of a result is kept [bytes]; the C library itself keeps that of smaller ones."""
MOST_KEPT: Final = 2
"""So many results of each output: a caller may hold the last one while the next one is computed."""
MOST_BYTES: Final = 2**28
"""All that one executable keeps for results is at most so large [bytes]."""


class _Room:
    """Memory of one result, and who holds it.

    NumPy makes a view of a view refer to the array that both look at, past the one between them. So what is watched is
    an array that was opened on the memory for one result alone: the result is a view of it, and it lives as long as
    the result, any view of that, or a tensor or buffer made from one of them.
    """

    __slots__ = ("_arena", "_held")

    def __init__(self, size: int) -> None:
        self._arena = Arena(size)
        self._held: ReferenceType[Array] | None = None

    @property
    def free(self) -> bool:
        """Whether nobody holds it."""
        return self._held is None or self._held() is None

    def lend(self, shape: Shape, dtype: np.dtype[Any]) -> Array:
        """The memory as an array."""
        opened = self._arena.open()
        self._held = ref(opened)
        return opened[: math.prod(shape) * dtype.itemsize].view(dtype).reshape(shape)


class Results:
    """Arrays for the outputs of an executable. Thread-safe.

    Example:
        >>> room = Results([(512, 1024)], np.dtype("float32"))
        >>> first, second = room.take(0), room.take(0)
        >>> where = first.ctypes.data
        >>> second.ctypes.data == where
        False
        >>> row = first[0]
        >>> del first
        >>> room.take(0).ctypes.data == where  # a part of it is held
        False
        >>> del row
        >>> room.take(0).ctypes.data == where
        True

    Args:
        shapes: of the outputs.
        dtype: of all of them.
    """

    def __init__(self, shapes: Sequence[Shape], dtype: np.dtype[Any]) -> None:
        self.shapes, self.dtype = tuple(shapes), dtype
        self._kept: list[deque[_Room] | None] = []
        left = MOST_BYTES
        for shape in self.shapes:
            needed = MOST_KEPT * self._size(shape)
            keeps = MOST_KEPT * LARGE <= needed <= left
            left -= needed if keeps else 0
            self._kept.append(deque(maxlen=MOST_KEPT) if keeps else None)
        self._keeps = any(kept is not None for kept in self._kept)

    def _size(self, shape: Shape) -> int:
        return math.prod(shape) * self.dtype.itemsize

    def take(self, index: int) -> Array:
        """An array for the output of this number; its elements are anything."""
        shape, kept = self.shapes[index], self._kept[index]
        if kept is None:
            return np.empty(shape, self.dtype)
        for _ in range(MOST_KEPT):
            try:
                room = kept.popleft()  # from here on nobody else finds it
            except IndexError:
                break
            found = room.lend(shape, self.dtype) if room.free else None
            kept.append(room)
            if found is not None:
                return found
        if len(kept) == MOST_KEPT:
            return np.empty(shape, self.dtype)
        room = _Room(self._size(shape))
        found = room.lend(shape, self.dtype)
        kept.append(room)
        return found

    def take_all(self) -> list[Array]:
        """An array for every output."""
        if self._keeps:
            return [self.take(index) for index in range(len(self.shapes))]
        return [np.empty(shape, self.dtype) for shape in self.shapes]
