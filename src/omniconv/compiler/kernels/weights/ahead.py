"""Asking for rows before they are needed, in the order of memory.

The kernels of weight gradients read the channels of a row a vector at a time, in steps of a pixel, which no processor
foresees: where values come from memory, they would wait for each line. So each row asks for parts of the next one.
"""

from __future__ import annotations

from typing import Final

from omniconv.compiler.emit.builder import Kernel
from omniconv.compiler.emit.machine import Index, Pointer
from omniconv.compiler.kernels.weights.sums import Sums
from omniconv.integers import ceil_div

UNROLLED: Final = 16
"""Lines that are asked for without a loop, at most."""


def ask(k: Kernel, start: Pointer, size: int, part: Index, parts: int, line: int) -> None:
    """Ask for one of so many parts of the ``size`` elements from ``start`` on, in lines of ``line`` elements."""
    count = ceil_div(ceil_div(size, line), parts)
    start = k.shift(start, k.mul(part, count * line))
    if count <= UNROLLED:
        for index in range(count):
            k.prefetch(start, index * line)
        return
    with k.loop(count * line, step=line) as at:
        k.prefetch(start, at)


def find_next(k: Kernel, sums: Sums, od: Index, oh: Index, strides: tuple[int, int]) -> Index:
    """Where in an image of wide the first row is that the row ``oh`` of narrow is the first to meet [elements].

    Args:
        k: the kernel.
        sums: what is summed.
        od, oh: the place of the row.
        strides: between planes and between rows of wide [elements].
    """
    depth, height, _ = sums.axes
    plane = k.sub(k.add(k.mul(od, depth.stride), (depth.kernel - 1) * depth.dilation), depth.before)
    row = k.sub(k.add(k.mul(oh, height.stride), (height.kernel - 1) * height.dilation), height.before)
    row = k.sub(row, height.stride - 1)
    return k.add(k.mul(plane, strides[0]), k.mul(row, strides[1]))
