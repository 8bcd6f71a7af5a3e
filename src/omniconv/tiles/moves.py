"""Parts of arrays with named axes: where a tile lies, and how it is turned for the network and back."""

from __future__ import annotations

from typing import Any

import numpy as np

from omniconv.program.cut import Box
from omniconv.tiles.axes import CHANNEL
from omniconv.tiles.compiled import Array
from omniconv.tiles.plan import TilePlan


def slices(names: str, plan: TilePlan, plane: tuple[int, ...], box: Box) -> tuple[slice, ...]:
    """Where a tile of a plane lies in an array."""
    found = dict(zip(plan.axes.spatial, (slice(*span) for span in box), strict=True))
    planes = (name for name in plan.axes.names if plan.axes.is_plane(name))
    found.update((name, slice(at, at + 1)) for name, at in zip(planes, plane, strict=True))
    return tuple(found.get(name, slice(None)) for name in names)


def inwards(plan: TilePlan, part: Array, dtype: np.dtype[Any]) -> Array:
    """A part of the image as the network takes it: ``(1, C, *spatial)``."""
    axes = plan.axes
    order = [name for name in axes.names if axes.is_plane(name)]
    order += [CHANNEL] if CHANNEL in axes.names else []
    moved = part.transpose([axes.names.index(name) for name in (*order, *axes.spatial)])
    sizes = moved.shape[len(moved.shape) - len(axes.spatial) :]
    return np.ascontiguousarray(moved.reshape(1, -1, *sizes), dtype)


def outwards(plan: TilePlan, y: Array) -> Array:
    """A part of the result as it lies in its array."""
    axes = plan.axes
    inside = ("1", CHANNEL, *axes.spatial)
    kept = [name for name in inside if name in axes.result]
    moved = y.reshape([size for name, size in zip(inside, y.shape, strict=True) if name in kept])
    planes = [name for name in axes.result if axes.is_plane(name)]
    wide = moved.reshape((1,) * len(planes) + moved.shape)
    names = [*planes, *kept]
    return wide.transpose([names.index(name) for name in axes.result])
