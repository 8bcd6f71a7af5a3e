"""The support of one output: which positions of an input it depends on, found by carrying masks back."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from omniconv.analysis.border import Mask
from omniconv.analysis.taps import AnyArray
from omniconv.analysis.trace import trace
from omniconv.errors import SpecError
from omniconv.integers import as_integers
from omniconv.program.program import Program
from omniconv.spec import Shape


def bounding_box(mask: Mask) -> tuple[tuple[int, int], ...]:
    """Half-open ranges around what is set; empty where nothing is."""
    if not mask.any():
        return ()
    found = []
    for axis in range(mask.ndim):
        others = tuple(n for n in range(mask.ndim) if n != axis)
        places = np.flatnonzero(mask.any(axis=others))
        found.append((int(places[0]), int(places[-1]) + 1))
    return tuple(found)


def check_position(shape: Shape, position: Sequence[int] | None) -> Shape:
    """A spatial position of a value of ``shape``; default the middle one."""
    sizes = shape[2:]
    if position is None:
        return tuple(size // 2 for size in sizes)
    place = as_integers("position", position, None, None, need="one integer an axis")
    if len(place) != len(sizes) or any(not 0 <= o < size for o, size in zip(place, sizes, strict=True)):
        raise SpecError(f"position={place} is outside a value of shape {shape}", need=f"a position within {sizes}")
    return place


def spatial(mask: Mask) -> Mask:
    """Join a mask over batch and channels."""
    return np.asarray(mask.any(axis=tuple(range(min(2, mask.ndim)))))


def fill(array: AnyArray, position: Shape, value: float) -> None:
    """Set what belongs to one spatial position, in all channels and all of the batch."""
    places: list[slice | int] = [slice(None), slice(None), *position]
    array[tuple(places[: array.ndim])] = value


def find_support(program: Program, tensor: str, source: str, position: Shape, *, gates: bool = True) -> Mask:
    """The exact support of one output position (all its channels, all of the batch) over the input's positions."""
    demand = np.zeros(program.shapes[tensor], bool)
    fill(demand, position, value=True)
    found = trace(program, tensor, demand, gates=gates).get(source)
    return np.zeros(program.shapes[source][2:], bool) if found is None else spatial(found)
