"""Running one recipe by itself: compile it, lay out its buffers, call it in shares."""

from __future__ import annotations

import ctypes
import math
from collections import deque

import numpy as np
from numpy.lib.stride_tricks import as_strided
from tests.guard import guarded
from tests.machines import each_length

from omniconv.compiler.code.build import Source, load
from omniconv.compiler.memory.layout import Layout

TARGETS = each_length()

HELD = deque(maxlen=64)
"""The last kernels: a recipe that comes again while its kernel lives is not compiled again."""

SIGNATURE = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64)


def build(recipe, target):
    """A callable ``run(buffers, begin=0, end=units)``; a buffer is an array or an address."""
    source = Source(repr((type(recipe).__name__, recipe)), lambda name: recipe.emit(name, target), "test")
    (kernel,) = load([source], target, cache=None)
    HELD.append(kernel)
    function = SIGNATURE(kernel.address)

    def run(buffers, begin=0, end=None):
        addresses = [b if isinstance(b, int) else b.ctypes.data for b in buffers]
        table = (ctypes.c_void_p * len(addresses))(*addresses)
        function(ctypes.addressof(table), begin, recipe.units if end is None else end, 0)

    run.kernel = kernel
    return run


def placed(shape, lanes, *, pitch=None, tail=False, readable=False, order="last"):
    """A channels-last (or row-major) layout with ``pitch`` elements a pixel and whole rows one element apart."""
    if order == "major":
        strides = [1] * len(shape)
        for axis in range(len(shape) - 2, -1, -1):
            strides[axis] = strides[axis + 1] * shape[axis + 1]
        return Layout(tuple(shape), tuple(strides))
    channels = shape[1]
    if pitch is None:
        pitch = -(channels // -lanes) * lanes if tail or readable else channels
    strides = [pitch] * len(shape)
    for axis in range(len(shape) - 2, 1, -1):
        strides[axis] = strides[axis + 1] * shape[axis + 1]
    strides[0] = pitch * math.prod(shape[2:])
    strides[1] = 1
    return Layout(tuple(shape), tuple(strides), tail=tail, readable=readable)


class Buffer:
    """The storage of one layout, ending at a guard page, filled with NaN."""

    def __init__(self, layout, lanes, values=None):
        self.layout = layout
        size = layout.extent
        if layout.tail or layout.readable:
            size += -(layout.shape[1] // -lanes) * lanes - layout.shape[1]
        self.storage = guarded(size)
        strides = tuple(4 * s for s in layout.strides)
        self.view = as_strided(self.storage, layout.shape, strides)
        if values is not None:
            self.view[...] = values

    def untouched(self):
        """Whether everything outside the value is still as it was; only meaningful without ``tail``."""
        mask = np.ones(self.storage.size, bool)
        as_strided(mask, self.layout.shape, self.layout.strides)[...] = False
        return bool(np.all(np.isnan(self.storage[mask])))


def check_shares(recipe, target, buffers, out):
    """Run the recipe whole and in uneven shares, backwards; returns the result of the first run.

    The results must be the same bits, and nothing but the value may be written where the layout forbids it.
    """
    run = build(recipe, target)
    pointers = [b.storage if isinstance(b, Buffer) else b for b in buffers]
    results = []
    for parts in (1, 2, 3, 7):
        out.storage[:] = np.nan
        units = recipe.units
        for t in reversed(range(parts)):
            begin, end = units * t // parts, units * (t + 1) // parts
            if begin < end:
                run(pointers, begin, end)
        if not out.layout.tail:
            assert out.untouched()
        results.append(out.view.copy())
    for other in results[1:]:
        assert np.array_equal(results[0].view(np.uint32), other.view(np.uint32))
    return results[0]
