"""Dask arrays: outputs as Dask arrays of tiles, each of which reads its own parts of the images."""

from __future__ import annotations

import functools
import operator
import uuid
from collections.abc import Mapping
from typing import Any, Final, TypeAlias

import numpy as np

from omniconv.errors import LimitError
from omniconv.tiles.compiled import Array, CompiledTiles
from omniconv.tiles.moves import Plane, slices
from omniconv.tiles.outputs import turn_outwards
from omniconv.tiles.plan import ImageTile, TiledOutput, TilePlan
from omniconv.tiles.sources import turn_inwards
from omniconv.tiles.storage import is_dask
from omniconv.tiles.sums import Partial
from omniconv.tiles.sweeping import finish_sweep, take_part

Known: TypeAlias = dict[str, Array]

MOST_BLOCKS: Final = 2**20
"""Tiles that a graph of Dask holds."""


def tile_lazily(plan: TilePlan, images: Mapping[str, Any], sides: Mapping[str, Array]) -> dict[str, Any]:
    """Dask arrays of the outputs; nothing is read or computed yet.

    Raises:
        LimitError: so many tiles that the graph of Dask would not fit into memory.
    """
    import dask.array as da
    from dask import delayed

    if plan.planes * plan.all_tiles > MOST_BLOCKS:
        raise LimitError(
            f"{plan.planes * plan.all_tiles} tiles as blocks of a Dask array",
            need=f"at most {MOST_BLOCKS}",
            fix="a part of the image, or more memory",
        )
    images = {name: image if is_dask(image) else da.from_array(image) for name, image in images.items()}
    # A value of its own: under a scheduler of several machines it is sent to each of them once, not with each tile.
    compiled = delayed(CompiledTiles(plan), name=f"omniconv-tiles-{uuid.uuid4()}", traverse=False)
    compute = delayed(_compute)
    blocks: dict[str, Any] = {
        name: np.empty([_count_blocks(plan, output, letter) for letter in output.axes.names], object)
        for name, output in plan.outputs.items()
    }
    for plane in plan.list_planes():
        known = _sweep_lazily(plan, compiled, plane, images, dict(sides))
        for tile in plan:
            made = compute(compiled, tile, _take_parts(plan, images, plane, tile), known)
            pieces = [line[n] for line, n in zip(plan.lines, tile.index, strict=True)]
            for n, (name, output) in enumerate(plan.outputs.items()):
                place = {**plane, **dict(zip(output.axes.spatial, tile.index, strict=True))}
                where = slices(output.axes, plane, tuple(piece.outputs[n] for piece in pieces))
                shape = tuple(len(range(*cut.indices(size))) for cut, size in zip(where, output.shape, strict=True))
                block = da.zeros(shape, output.dtype)
                if name in tile.outputs:
                    block = da.from_delayed(made[name], shape, np.dtype(output.dtype))
                blocks[name][tuple(place.get(letter, 0) for letter in output.axes.names)] = block
    return {name: da.block(found.tolist()) for name, found in blocks.items()}


def _count_blocks(plan: TilePlan, output: TiledOutput, letter: str) -> int:
    """Blocks of an output along an axis."""
    if letter in output.axes.spatial:
        return len(plan.lines[output.axes.spatial.index(letter)])
    return output.shape[output.axes.names.index(letter)] if output.axes.is_plane(letter) else 1


def _take_parts(plan: TilePlan, images: Mapping[str, Any], plane: Plane, tile: ImageTile) -> dict[str, Any]:
    return {name: images[name][slices(plan.inputs[name].axes, plane, box)] for name, box in tile.reads.items()}


def _sweep_lazily(
    plan: TilePlan, compiled: Any, plane: Plane, images: Mapping[str, Any], sides: dict[str, Array]
) -> Any:
    """What is known after the sweeps over a plane: values that come when they are asked for."""
    from dask import delayed

    known: Any = delayed(sides, traverse=False)
    for number, sweep in enumerate(plan.sweeps):
        parts = [
            delayed(_take_part)(compiled, number, tile, _take_parts(sweep.plan, images, plane, tile), known)
            for tile in sweep.plan
        ]
        known = delayed(_finish)(compiled, number, parts, known)
    return known


def _take_part(compiled: CompiledTiles, sweep: int, tile: ImageTile, parts: Mapping[str, Any], known: Known) -> Partial:
    """What one tile of a sweep contributes."""
    tiles = compiled.sweeps[sweep]
    ys = tiles(tile, turn_inwards(tiles.plan, _as_arrays(parts), compiled.rooms), known)
    return take_part(compiled.plan.sweeps[sweep], ys)


def _finish(compiled: CompiledTiles, sweep: int, parts: list[Partial], known: Known) -> Known:
    return finish_sweep(compiled.plan.sweeps[sweep], functools.reduce(operator.add, parts), known)


def _compute(compiled: CompiledTiles, tile: ImageTile, parts: Mapping[str, Any], known: Known) -> dict[str, Array]:
    """One tile of the outputs."""
    plan = compiled.plan
    return turn_outwards(plan, compiled(tile, turn_inwards(plan, _as_arrays(parts), compiled.rooms), known))


def _as_arrays(parts: Mapping[str, Any]) -> dict[str, Array]:
    return {name: np.asarray(part) for name, part in parts.items()}
