"""`Arena`: one block of zeroed memory for everything a caller computes in; `ArenaPool`: blocks that callers share."""

from __future__ import annotations

import mmap
from collections import deque
from contextlib import suppress
from math import prod
from typing import Final

import numpy as np
import numpy.typing as npt

from omniconv.errors import LimitError, ShapeError, SpecError
from omniconv.integers import ceil_div
from omniconv.limits import check_memory, format_size

PAGE: Final = 4096
HUGE_PAGE: Final = 2 * 2**20
MOST_IDLE: Final = 8
"""Blocks that a pool keeps for the next callers; as many as an executable keeps."""


class Arena:
    """Anonymous memory of this process: zero at first, and a page that is never touched costs nothing.

    Blocks of several huge pages start on one, and the system is asked to use them.

    Args:
        size: at least so many bytes; 0 counts as 1.
        alignment: of the first byte, a power of two; at least a page.
        limit: see :func:`omniconv.limits.check_memory`.
        at: where it is for, for the message of an error.

    Raises:
        LimitError: the size is above the limit, or the system has no room for it.
    """

    def __init__(self, size: int, *, alignment: int = PAGE, limit: int | None = None, at: str = "") -> None:
        if size < 0 or alignment < 1 or alignment & (alignment - 1):
            raise SpecError(f"arena of {size} bytes aligned to {alignment}", need="a size and a power of two", at=at)
        check_memory(size, "working memory", limit=limit, at=at)
        alignment = max(alignment, HUGE_PAGE if size >= 2 * HUGE_PAGE else PAGE)
        self.size = max(ceil_div(size, PAGE), 1) * PAGE
        slack = alignment if alignment > mmap.PAGESIZE else 0
        try:
            self._map = _map_memory(self.size + slack)
        except (OSError, OverflowError) as error:
            what = f"the system has no room for {format_size(size)} of working memory ({error})"
            raise LimitError(what, need="a smaller problem or a larger machine", at=at) from error
        whole = np.frombuffer(self._map, np.uint8)
        self._skip = -whole.ctypes.data % alignment
        self.bytes = self.open()
        self.address: int = self.bytes.ctypes.data

    def view(self, offset: int, shape: tuple[int, ...], dtype: npt.DTypeLike = np.float32) -> npt.NDArray[np.generic]:
        """An array over part of the block, in C order; it keeps the memory alive.

        Args:
            offset: of its first element [bytes], a multiple of the element size.
            shape: of the array.
            dtype: of its elements.

        Raises:
            ShapeError: the array does not fit, or the offset is not a multiple of the element size.
        """
        kind = np.dtype(dtype)
        end = offset + prod(shape) * kind.itemsize
        if offset < 0 or offset % kind.itemsize or min(shape, default=0) < 0 or end > self.size:
            raise ShapeError(
                f"{kind} array of shape {shape} at byte {offset} is outside an arena of {self.size} bytes",
                need="offset % itemsize == 0 and offset + size <= arena",
            )
        return self.bytes[offset:end].view(kind).reshape(shape)

    def open(self) -> npt.NDArray[np.uint8]:
        """All of its bytes as a new array.

        It lies over memory that is no array, so that every view of it, and every view of those, holds this array.
        """
        return np.frombuffer(self._map, np.uint8, self.size, self._skip)

    def __len__(self) -> int:
        return self.size


class ArenaPool:
    """Working memory for callers that come one after another: as many blocks as run at once, each as large as the
    largest call that it has served. Of those that are idle it keeps the last :data:`MOST_IDLE`, the others go back to
    the system. Thread-safe; there is no lock that a fork could copy.
    """

    def __init__(self) -> None:
        self._idle: deque[Arena] = deque(maxlen=MOST_IDLE)

    def take(self, size: int, limit: int | None = None) -> Arena:
        """A block of at least so many bytes, with anything in it, until it is given back.

        Args:
            size: at least so many bytes.
            limit: see :func:`omniconv.limits.check_memory`.

        Raises:
            LimitError: the size is above the limit, or the system has no room for it.
        """
        try:
            found = self._idle.pop()
        except IndexError:
            return Arena(size, limit=limit)
        if found.size >= size:
            return found
        del found  # before more is taken
        return Arena(size, limit=limit)

    def give(self, arena: Arena) -> None:
        """Give a block back."""
        self._idle.append(arena)

    def clear(self) -> None:
        """Return all idle blocks to the system; those in use are kept when they come back."""
        self._idle.clear()

    @property
    def size(self) -> int:
        """All blocks that are idle [bytes]."""
        return sum(arena.size for arena in list(self._idle))


def _map_memory(size: int) -> mmap.mmap:
    """Anonymous memory that belongs to this process alone (a child of a fork gets a copy)."""
    if hasattr(mmap, "MAP_PRIVATE"):
        block = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    else:
        block = mmap.mmap(-1, size)
    advice = getattr(mmap, "MADV_HUGEPAGE", None)
    if advice is not None and size >= 2 * HUGE_PAGE:
        with suppress(OSError):  # a system without huge pages
            block.madvise(advice)
    return block
