"""Dask arrays: the result as a Dask array of tiles, each of which reads its own part of the image."""

from __future__ import annotations

import functools
import itertools
import operator
import uuid
from typing import Any, Final, TypeAlias

import numpy as np

from omniconv.errors import LimitError
from omniconv.tiles.compiled import Array, CompiledTiles
from omniconv.tiles.moves import inwards, outwards, slices
from omniconv.tiles.plan import ImageTile, TilePlan
from omniconv.tiles.sums import Partial
from omniconv.tiles.sweeping import finish_sweep, take_part

Statistics: TypeAlias = dict[str, Array] | None

MOST_BLOCKS: Final = 2**20
"""Tiles that a graph of Dask holds."""


def tile_lazily(plan: TilePlan, image: Any) -> Any:
    """A Dask array of the result; nothing is read or computed yet.

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
    # A value of its own: under a scheduler of several machines it is sent to each of them once, not with each tile.
    compiled = delayed(CompiledTiles(plan), name=f"omniconv-tiles-{uuid.uuid4()}", traverse=False)
    compute = delayed(_compute)
    blocks: Any = np.empty([len(_blocks(plan, name)) for name in plan.axes.result], object)
    planes = list(itertools.product(*map(range, plan.axes.planes(plan.shape))))
    letters = [name for name in plan.axes.names if plan.axes.is_plane(name)]
    for plane, tile in itertools.product(planes, list(plan)):
        if tile.index == (0,) * len(tile.index):
            statistics = _sweep_lazily(plan, compiled, plane, image)
        part = image[slices(plan.axes.names, plan, plane, tile.reads)]
        where = slices(plan.axes.result, plan, plane, tile.outputs)
        shape = tuple(len(range(*cut.indices(size))) for cut, size in zip(where, plan.output_shape, strict=True))
        place = dict(zip(letters, plane, strict=True)) | dict(zip(plan.axes.spatial, tile.index, strict=True))
        block = da.from_delayed(compute(compiled, tile, part, statistics), shape, plan.dtype)
        blocks[tuple(place.get(name, 0) for name in plan.axes.result)] = block
    return da.block(blocks.tolist())


def _blocks(plan: TilePlan, name: str) -> range:
    """Blocks of the result along an axis."""
    if name in plan.axes.spatial:
        return range(len(plan.lines[plan.axes.spatial.index(name)]))
    return range(plan.output_shape[plan.axes.result.index(name)] if plan.axes.is_plane(name) else 1)


def _sweep_lazily(plan: TilePlan, compiled: Any, plane: tuple[int, ...], image: Any) -> Any:
    """What the sweeps over a plane find: values that come when they are asked for."""
    from dask import delayed

    known = None
    for number, sweep in enumerate(plan.sweeps):
        parts = [
            delayed(_take_part)(compiled, number, tile, image[slices(plan.axes.names, plan, plane, tile.reads)], known)
            for tile in sweep.plan
        ]
        known = delayed(_finish)(compiled, number, parts, known)
    return known


def _take_part(compiled: CompiledTiles, sweep: int, tile: ImageTile, part: Array, known: Statistics) -> Partial:
    """What one tile of a sweep contributes."""
    tiles = compiled.sweeps[sweep]
    x = inwards(tiles.plan, np.asarray(part), tiles.plan.whole.program.element.dtype)
    return take_part(compiled.plan.sweeps[sweep], tiles(tile, x, known))


def _finish(compiled: CompiledTiles, sweep: int, parts: list[Partial], known: Statistics) -> dict[str, Array]:
    return finish_sweep(compiled.plan.sweeps[sweep], functools.reduce(operator.add, parts), known or {})


def _compute(compiled: CompiledTiles, tile: ImageTile, part: Array, known: Statistics) -> Array:
    """One tile of the result."""
    plan = compiled.plan
    x = inwards(plan, np.asarray(part), plan.whole.program.element.dtype)
    return outwards(plan, compiled(tile, x, known))
