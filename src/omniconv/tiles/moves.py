"""Parts of arrays with named axes: where a tile lies, and how it is turned for the network and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np

from omniconv.program.cut import Box
from omniconv.tiles.axes import CHANNEL, Axes
from omniconv.tiles.compiled import Array
from omniconv.tiles.room import MakeRoom

Plane: TypeAlias = Mapping[str, int]
"""Where an image lies on each axis of planes."""


def slices(axes: Axes, plane: Plane, box: Box) -> tuple[slice, ...]:
    """Where a tile of a plane lies in an array."""
    found = dict(zip(axes.spatial, (slice(*span) for span in box), strict=True))
    found.update((name, slice(at, at + 1)) for name, at in plane.items())
    return tuple(found.get(name, slice(None)) for name in axes.names)


def inwards(axes: Axes, part: Array, dtype: np.dtype[Any], make: MakeRoom) -> Array:
    """A part of an image as the network takes it: ``(1, C, *spatial)``."""
    order = [name for name in axes.names if axes.is_plane(name)]
    order += [CHANNEL] if CHANNEL in axes.names else []
    moved = part.transpose([axes.names.index(name) for name in (*order, *axes.spatial)])
    sizes = moved.shape[len(moved.shape) - len(axes.spatial) :]
    found = moved.reshape(1, -1, *sizes)
    if found.dtype == dtype and found.flags.c_contiguous:
        return found
    room = make(found.shape, dtype)
    room[...] = found
    return room


def outwards(axes: Axes, y: Array) -> Array:
    """A part of a result as it lies in its array."""
    inside = ("1", CHANNEL, *axes.spatial)
    kept = [name for name in inside if name in axes.names]
    moved = y.reshape([size for name, size in zip(inside, y.shape, strict=True) if name in kept])
    planes = [name for name in axes.names if axes.is_plane(name)]
    wide = moved.reshape((1,) * len(planes) + moved.shape)
    names = [*planes, *kept]
    return wide.transpose([names.index(name) for name in axes.names])
