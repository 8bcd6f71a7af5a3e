"""The rows that are asked for before they are needed, in the order of memory.

The kernels of weight gradients read the channels of a row a vector at a time, in steps of a pixel, which no processor
foresees: where values come from memory, they would wait for each line. So each row asks for parts of the next one.
"""

from __future__ import annotations

from omniconv.compiler.emit.builder import Kernel
from omniconv.compiler.emit.machine import Index
from omniconv.compiler.kernels.weights.sums import Sums


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
