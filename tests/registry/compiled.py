"""Compiled code as an implementation: the strictest way to call it.

Every call has its input in memory that ends at a page which may not be touched, its working memory filled with NaN
beforehand, and its result in memory that is filled with NaN and ends at such a page. So an element that is not
written, a value that was never computed and a read or write too far all show.
"""

from __future__ import annotations

import math
from collections import deque
from unittest import mock

import numpy as np
from tests.guard import guarded
from tests.machines import each_length

import omniconv as oc
from omniconv.runtime.results import Results

TARGETS = tuple(target.name for target in each_length())


HELD = deque(maxlen=32)
"""The last executables: while one lives, others with the same kernels share them, and nothing is linked anew."""


def guarded_empty(shape, dtype=np.float32):
    """Room for an array of ``shape`` that holds NaN, or ones where there is none, and ends at a guard page."""
    fill = np.nan if np.dtype(dtype).kind == "f" else 1
    return guarded(math.prod(shape), fill, dtype).reshape(shape)


def guarded_copy(x):
    """The same numbers in memory that ends at a guard page."""
    room = guarded_empty(x.shape, x.dtype)
    room[...] = x
    return room


def working_memory(item):
    """The blocks that the next call of an executable will compute in: its own, or that of the pool it borrows from."""
    if item._pool is None:
        return [frame.arena for frame in item._idle]
    arena = item._pool.take(item.arena_bytes)
    item._pool.give(arena)
    return [arena]


def strictly(f, inputs):
    """Run an executable on named arrays with everything around them poisoned; inputs must stay as they are."""
    given = {name: guarded_copy(x) if x.flags.c_contiguous else x for name, x in inputs.items()}
    for item in getattr(f, "executables", (f,)):
        for arena in working_memory(item):
            arena.view(0, (arena.size // f.dtype.itemsize,), f.dtype)[...] = np.nan
    with mock.patch.object(Results, "take", lambda results, index: guarded_empty(results.shapes[index], results.dtype)):
        results = f.run(given)
    for name, x in inputs.items():
        assert np.array_equal(given[name], x, equal_nan=True), f"input {name} was written to"
    return {name: np.array(y) for name, y in results.items()}


def channels_to(layout, x):
    """An array in channels-first order as the boundary ``layout`` wants it."""
    return np.ascontiguousarray(np.moveaxis(x, 1, -1)) if layout == "NHWC" else x


def channels_from(layout, y):
    """And back."""
    return np.moveaxis(y, -1, 1) if layout == "NHWC" else y


def run_compiled(spec, x, weights, *, target="native", threads=1, layout="NCHW", exact=True, dtype="float32"):
    """The result of a spec by machine code, channels first; numbers are converted to ``dtype``."""
    f = oc.compile(spec, x.shape, weights, target=target, threads=threads, layout=layout, exact=exact, dtype=dtype)
    HELD.append(f)
    x = x if x.dtype == f.dtype else x.astype(f.dtype)
    (y,) = strictly(f, {"x": channels_to(layout, x)}).values()
    return channels_from(layout, y)
