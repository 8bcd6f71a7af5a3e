"""Asking for memory before it is needed."""

from __future__ import annotations

from typing import Final

from omniconv.compiler.emit.builder import Kernel
from omniconv.compiler.emit.machine import Index, Pointer
from omniconv.integers import ceil_div

UNROLLED: Final = 16
"""Lines that are asked for without a loop, at most."""


def ask(k: Kernel, start: Pointer, size: int, part: Index, parts: int, line: int, *, write: bool = False) -> None:
    """Ask for one of so many parts of the ``size`` elements from ``start`` on, in lines of ``line`` elements: to be
    read, or written.
    """
    count = ceil_div(ceil_div(size, line), parts)
    start = k.shift(start, k.mul(part, count * line))
    if count <= UNROLLED:
        for index in range(count):
            k.prefetch(start, index * line, write=write)
        return
    with k.loop(count * line, step=line) as at:
        k.prefetch(start, at, write=write)
