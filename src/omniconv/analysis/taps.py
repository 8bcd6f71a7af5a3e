"""Moving arrays along the taps of one axis, forwards (`push_taps`) and backwards (`pull_taps`).

Both work on any dtype with an addition: numbers are summed, booleans are joined by *or*. A kernel whose taps all count
alike is the product of its axes, so N-D layers are done one axis after another.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from omniconv.spec import Phase

AnyArray: TypeAlias = npt.NDArray[Any]


def _tap(phase: Phase, offset: int, size: int) -> tuple[slice, slice] | None:
    """Input and output positions of one tap, where it lands inside."""
    low, high = phase.inside(offset, size)
    if low >= high:
        return None
    reads = slice(low * phase.in_step + offset, (high - 1) * phase.in_step + offset + 1, phase.in_step)
    writes = slice(phase.start + low * phase.step, phase.start + (high - 1) * phase.step + 1, phase.step)
    return reads, writes


def pull_taps(array: AnyArray, axis: int, phases: Sequence[Phase], size: int) -> AnyArray:
    """Carry what is held at outputs back to the ``size`` input positions that their taps read."""
    out = np.zeros((*array.shape[:axis], size, *array.shape[axis + 1 :]), array.dtype)
    before = (slice(None),) * axis
    for phase in phases:
        for _, offset in phase.taps:
            found = _tap(phase, offset, size)
            if found is not None:
                out[(*before, found[0])] += array[(*before, found[1])]
    return out


def push_taps(array: AnyArray, axis: int, phases: Sequence[Phase]) -> AnyArray:
    """Carry what is held at inputs to the outputs whose taps read them."""
    size = array.shape[axis]
    outputs = sum(phase.count for phase in phases)
    out = np.zeros((*array.shape[:axis], outputs, *array.shape[axis + 1 :]), array.dtype)
    before = (slice(None),) * axis
    for phase in phases:
        for _, offset in phase.taps:
            found = _tap(phase, offset, size)
            if found is not None:
                out[(*before, found[1])] += array[(*before, found[0])]
    return out


def outside(phases: Sequence[Phase], size: int) -> npt.NDArray[np.bool_]:
    """For each output position of an axis, whether some tap of it lands outside the input."""
    result = np.zeros(sum(phase.count for phase in phases), bool)
    for phase in phases:
        seen = result[phase.start :: phase.step]
        for _, offset in phase.taps:
            low, high = phase.inside(offset, size)
            seen[:low] = True
            seen[high:] = True
    return result


def count_inside(phases: Sequence[Phase], size: int) -> npt.NDArray[np.int64]:
    """For each output position of an axis, how many of its taps land inside the input."""
    return np.asarray(push_taps(np.ones(size, np.int64), 0, phases), np.int64)


def take(array: AnyArray, axis: int, index: npt.NDArray[np.int64]) -> AnyArray:
    """``array[index]`` along an axis; zero where the index is negative."""
    result = np.take(array, np.maximum(index, 0), axis)
    if (index < 0).any():
        result[(slice(None),) * axis + (index < 0,)] = 0
    return result


def give(array: AnyArray, axis: int, index: npt.NDArray[np.int64], size: int) -> AnyArray:
    """The adjoint of `take`: add what is held at each position to position ``index`` of an axis of ``size``."""
    kept = index >= 0
    moved = np.moveaxis(array, axis, 0)[kept]
    out = np.zeros((size, *moved.shape[1:]), array.dtype)
    places = index[kept]
    if np.unique(places).size == places.size:
        out[places] = moved
    else:
        np.add.at(out, places, moved)
    return np.moveaxis(out, 0, axis)
