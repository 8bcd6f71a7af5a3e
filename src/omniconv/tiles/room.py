"""Memory of tiles: blocks that go back to the system as soon as they are let go, and what storage holds meanwhile.

What comes from the allocator of C stays with it in pieces, for each thread by itself, so that a run would take half as
much again as its arrays. So tiles lie in blocks of their own, and what libraries have freed is given back after each.
The system clears what it gives, which takes as long as reading a tile does: so blocks of a run serve one tile after
another.
"""

from __future__ import annotations

import ctypes
import math
import sys
import weakref
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from omniconv.integers import ceil_div
from omniconv.runtime.arena import Arena, ArenaPool

PIECE: Final = 2**18
"""Chunks that are smaller are read and written together, up to so much [bytes]."""
COPIES: Final = 2
"""Times that a library holds what it packs or unpacks: as it is stored, and as an array."""
SHORT: Final = 8
"""Positions of a last axis up to which NumPy is asked to copy one after the other: it walks along the last axis."""
MakeRoom: TypeAlias = Callable[[Sequence[int], np.dtype[Any]], npt.NDArray[Any]]
"""What makes an array of a shape and a type, with anything in it."""


def make_room(shape: Sequence[int], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """An array in memory of its own, with anything in it."""
    found: npt.NDArray[Any] = Arena(math.prod(shape) * dtype.itemsize).view(0, tuple(shape), dtype)
    return found


class Rooms:
    """Memory of arrays that come one after another: what the last of a name took serves the next, as soon as nothing
    looks at it any more. Of each name there are as many blocks as arrays at once. Thread-safe.
    """

    def __init__(self) -> None:
        self._pools: dict[str, ArenaPool] = {}

    def named(self, name: str) -> MakeRoom:
        """What makes the arrays of a name."""
        pool = self._pools.setdefault(name, ArenaPool())

        def make(shape: Sequence[int], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
            size = math.prod(shape) * dtype.itemsize
            block = pool.take(size)
            room = block.open()  # every view of the array holds this one
            weakref.finalize(room, pool.give, block).atexit = False
            return room[:size].view(dtype).reshape(shape)

        return make


def as_stored(y: npt.NDArray[Any], make: MakeRoom) -> npt.NDArray[Any]:
    """An array in row-major order: itself, or a copy."""
    if y.flags.c_contiguous:
        return y
    room = make(y.shape, y.dtype)
    if y.ndim and y.shape[-1] <= SHORT:
        for n in range(y.shape[-1]):
            room[..., n] = y[..., n]
    else:
        room[...] = y
    return room


def give_back() -> None:
    """Return to the system what was freed."""
    trim = _find_trim()
    if trim is not None:
        trim(0)


@cache
def _find_trim() -> Any:
    """What makes the allocator return what is free; only that of GNU has it."""
    return getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None


def choose_piece(chunks: Sequence[int], sizes: Sequence[int], itemsize: int) -> tuple[int, ...]:
    """What is read or written at once, of so many positions: one chunk, or several small ones.

    Example:
        >>> choose_piece((64, 64, 3), (768, 768, 3), 1), choose_piece((1024, 1024, 3), (768, 768, 3), 1)
        ((64, 768, 3), (1024, 1024, 3))
    """
    piece = list(chunks)
    for axis in reversed(range(len(piece))):
        room = PIECE // max(1, math.prod(piece) * itemsize)
        piece[axis] *= max(1, min(room, ceil_div(sizes[axis], max(1, piece[axis]))))
    return tuple(piece)


def list_pieces(
    where: Sequence[slice], shape: Sequence[int], chunks: Sequence[int], itemsize: int
) -> Iterator[tuple[tuple[slice, ...], tuple[slice, ...]]]:
    """Pieces of a part of an array that keep to its chunks: where each lies in the part, and in the array.

    A library asked for a part of many chunks takes them all at once, as many as it has threads.
    """
    spans = [one.indices(size)[:2] for one, size in zip(where, shape, strict=True)]
    piece = choose_piece(chunks, [stop - first for first, stop in spans], itemsize)
    begins = [first // chunk * chunk for (first, _), chunk in zip(spans, chunks, strict=True)]
    counts = [ceil_div(max(stop - begin, 0), size) for begin, (_, stop), size in zip(begins, spans, piece, strict=True)]
    for place in np.ndindex(*counts):
        rows = zip(begins, place, piece, spans, strict=True)
        cut = [(max(at + n * size, first), min(at + (n + 1) * size, stop)) for at, n, size, (first, stop) in rows]
        inside = (slice(low - first, high - first) for (low, high), (first, _) in zip(cut, spans, strict=True))
        yield tuple(inside), tuple(slice(*span) for span in cut)


def count_packing(shape: Sequence[int], chunks: Sequence[int], itemsize: int) -> int:
    """What a library takes to pack or unpack the pieces of an array, one after the other [bytes]."""
    piece = math.prod(choose_piece(chunks, shape, itemsize)) * itemsize
    return COPIES * max(math.prod(chunks) * itemsize, min(piece, math.prod(shape) * itemsize))
