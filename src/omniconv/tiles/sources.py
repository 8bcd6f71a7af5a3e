"""Parts of the images of a run: what tiles read, and as the network takes it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from omniconv.outside import storing
from omniconv.tiles.compiled import Array
from omniconv.tiles.moves import Plane, inwards, slices
from omniconv.tiles.plan import ImageTile, TilePlan
from omniconv.tiles.room import Rooms
from omniconv.tiles.storage import read_box


def read_parts(
    plan: TilePlan, images: Mapping[str, Any], plane: Plane, tile: ImageTile, rooms: Rooms
) -> dict[str, Array]:
    """What a tile reads of each image."""
    found = {}
    for name, box in tile.reads.items():
        where = slices(plan.inputs[name].axes, plane, box)
        with storing(f"reading {where}" + (f" of {name!r}" if len(plan.inputs) > 1 else "")):
            found[name] = read_box(images[name], where, rooms.named(f"part {name}"))
    return found


def turn_inwards(plan: TilePlan, parts: Mapping[str, Array], rooms: Rooms) -> dict[str, Array]:
    """Parts of images as the network takes them."""
    dtype = plan.whole.program.element.dtype
    return {
        name: inwards(plan.inputs[name].axes, part, dtype, rooms.named(f"input {name}")) for name, part in parts.items()
    }
