"""`tiled`: a network over an image of any size, tile by tile."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import Any

import numpy as np

from omniconv.cluster import open_client
from omniconv.errors import DataError, ShapeError
from omniconv.integers import as_flag
from omniconv.tiles.bar import show_bar
from omniconv.tiles.cluster import run_on_cluster
from omniconv.tiles.fit import Storage
from omniconv.tiles.journal import describe
from omniconv.tiles.lazy import tile_lazily
from omniconv.tiles.opening import open_sources, settle_axes
from omniconv.tiles.outputs import TileResults
from omniconv.tiles.pipeline import TileRun
from omniconv.tiles.place import Location, OpenedImage, find_moves
from omniconv.tiles.plan import TiledOutput, TilePlan
from omniconv.tiles.planner import plan_aligned
from omniconv.tiles.results import has_chunks, open_result
from omniconv.tiles.storage import check_apart, check_distinct, count_fixed, find_chunks, is_dask
from omniconv.tiles.subject import open_subject


def tiled(
    net: Any,
    x: Any,
    out: Any = None,
    *,
    memory: str | int = "2GB",
    tile: Sequence[int] | None = None,
    axes: str | Mapping[str, str] | None = None,
    level: int | Mapping[str, int] = 0,
    output: str | None = None,
    two_pass: bool = False,
    resume: bool = True,
    progress: bool = True,
    weights: Sequence[Any] | None = None,
    threads: int | None = None,
    exact: bool | None = None,
    dtype: Any = None,
    cluster: Any = None,
) -> Any:
    """Run a network over images of any size: the same result as of the whole, whatever the tiles.

    Example:
        >>> import numpy as np, omniconv as oc
        >>> layer = oc.convolution(in_channels=1, out_channels=1, kernel_size=3, padding="same")
        >>> pairs = [(np.ones((1, 1, 3, 3), np.float32), None)]
        >>> x = np.arange(40000, dtype=np.float32).reshape(1, 1, 200, 200) % 7
        >>> y = tiled(layer, x, weights=pairs, memory="300K", exact=True, progress=False)
        >>> bool((y == oc.compile(layer, x.shape, pairs, exact=True)(x)).all())
        True

    Args:
        net, tile, axes, output, two_pass, weights, threads, exact, dtype: as for :func:`plan_tiles`. Where the
            description of an image says what its axes are, as OME-Zarr does, they need not be given.
        x: a NumPy array or memmap, a Zarr array (format 2 or 3) or group, a Dask array, or a path: ``.npy``, ``.zarr``
            (an array, or a group as of OME-Zarr), ``.tif`` (a GeoTIFF is bands, rows and columns). Types that the
            network's type holds are converted. By name where the network has several inputs.
        out: where the result goes: nothing for new memory, a NumPy array, a memmap, a Zarr array whose chunks tiles can
            keep to, or a path that appears when it is whole: ``.npy``, ``.zarr``, ``.ome.zarr`` (a group that says
            where positions lie) or ``.tif`` (a tiled GeoTIFF with the georeference of the image). By name where there
            are several outputs; those that are not named go to new memory.
        level: which resolution of an image that has several, the finest first; by name where there are several images.
        memory: what tiles may take [bytes], see :func:`plan_tiles`.
        resume: go on with a result on disk that was not finished. A file ``.tiles`` beside it is the journal, which
            goes when the result is whole.
        progress: show a bar on standard error, where that is a terminal.
        cluster: a ``dask.distributed.Client``, or the address of a scheduler, whose workers compute the tiles;
            ``None`` for the client that is open in this process, if there is one, and ``False`` for this process. Each
            job of a worker takes ``memory``; without ``threads`` it takes the cores of a machine over its jobs.

    Returns:
        The result; a dictionary by name where there are several outputs. Of a Dask array a Dask array, computed when it
        is asked for; ``out`` has no meaning then.

    Raises:
        UnsupportedError, LimitError, ShapeError, SpecError, DataError: as :func:`plan_tiles`; and a journal of another
            run, or chunks that tiles would straddle.
        StorageError: reading or writing failed, or a cluster did. What is finished is kept, and the same call goes on.

    Numerics:
        With ``exact=True`` the result is that of the whole to the last bit where sums are exact, as those of whole
        numbers are, and within the bound of direct sums otherwise. Without it, layers may be filtered (Winograd), in
        blocks that begin with the tile: the result is then within the bound of that form. With ``two_pass`` sums over
        all positions are exact, whatever the tiles, and rounded once; of the whole they are within the bound of its
        sums.
    """
    resume, progress = as_flag("resume", resume), as_flag("progress", progress)
    subject = open_subject(net, weights, threads, dtype, exact=exact)
    given = subject.name_inputs(x, "array")
    sources = open_sources(subject, subject.name_inputs(x, "array"), level)
    opened = {name: one.array for name, one in sources.items()}
    for name, one in opened.items():
        _check_type(name, one.dtype, subject.target.element.dtype)
    shapes = {name: tuple(one.shape) for name, one in opened.items()}
    letters = settle_axes(axes, {item.name: sources[item.name] for item in subject.images})

    def store(names: Sequence[str]) -> Storage:
        return _ask_storage(opened, _name_outputs(names, out))

    plan = plan_aligned(subject, shapes, memory, letters, output, store, tile=tile, two_pass=two_pass)
    images = {name: opened[name] for name in plan.inputs}
    element = subject.target.element.dtype
    sides = {name: np.ascontiguousarray(np.asarray(opened[name]), element) for name in plan.sides}
    if any(is_dask(image) for image in images.values()):
        if out is not None:
            raise DataError("out= with a Dask array", need="no out: the result is a Dask array", fix="y.to_zarr(path)")
        return _take_only(tile_lazily(plan, images, sides))
    given = {name: sources[name] for name in images}
    with closing(_open_results(plan, given, _name_outputs(list(plan.outputs), out), resume=resume)) as results:
        results.begin()
        with open_client(cluster) as client, show_bar(plan.planes * plan.all_tiles, "tiles", shown=progress) as advance:
            if client is None:
                TileRun(plan, images, sides, results).go(advance)
            else:
                run_on_cluster(client, plan, given, sides, results, threads, advance)
        return _take_only(results.finish())


def _ask_storage(images: Mapping[str, Any], outs: Mapping[str, Any]) -> Storage:
    """What is asked of tiles by where images and results are."""
    aligned = {name: chunks for name, one in outs.items() if (chunks := find_chunks(one)) is not None}
    packed = frozenset(name for name, one in outs.items() if name not in aligned and has_chunks(one))
    fixed = sum(map(count_fixed, (*images.values(), *outs.values())))
    return Storage(aligned, fixed, packed)


def _take_only(found: dict[str, Any]) -> Any:
    """The only output, or all by name."""
    return next(iter(found.values())) if len(found) == 1 else found


def _open_results(
    plan: TilePlan, sources: Mapping[str, OpenedImage], wanted: Mapping[str, Any], *, resume: bool
) -> TileResults:
    """Where each output goes, and which tiles are finished.

    Raises:
        DataError, ShapeError: places that do not fit, or meet one another or an image.
    """
    for out in wanted.values():
        for source in sources.values():
            check_apart(source.given, source.array, out)
    check_distinct(wanted)
    goals, lies = {}, {}
    for name, output in plan.outputs.items():
        out = wanted.get(name)
        if has_chunks(out):
            _check_chunks(name, output, find_chunks(out))
        lies[name] = _find_place(plan, sources, name) if isinstance(out, str | os.PathLike) else None
        goals[name] = open_result(out, output, lies[name])
    content = describe(plan, {name: str(source.array.dtype) for name, source in sources.items()})
    return TileResults(plan, goals, content, {name: repr(place) for name, place in lies.items()}, resume=resume)


def _find_place(plan: TilePlan, sources: Mapping[str, OpenedImage], output: str) -> Location | None:
    """Where the positions of an output lie: by the first image that says it and that the output depends on."""
    for name, source in sources.items():
        moves = find_moves(plan, output, name) if source.place is not None else {}
        if moves:
            assert source.place is not None
            moved: Location = source.place.move(moves)
            return moved
    return None


def _name_outputs(names: Sequence[str], out: Any) -> dict[str, Any]:
    """Where each output goes, by name.

    Raises:
        ShapeError: names that are not those of the outputs, or one place for several.
    """
    if out is None:
        return {}
    if isinstance(out, Mapping):
        if not set(out) <= set(names):
            raise ShapeError(f"out= for {list(out)}", need=f"places for outputs, which are {list(names)}")
        return dict(out)
    if len(names) > 1:
        fix = "out={" + ", ".join(f"{name!r}: ..." for name in names) + "}, or output="
        raise ShapeError(f"one out= for outputs {list(names)}", need="one for each, by name", fix=fix)
    return {names[0]: out}


def _check_type(name: str, given: np.dtype[Any], wanted: np.dtype[Any]) -> None:
    if not np.can_cast(given, wanted, "safe"):
        raise DataError(
            f"an image of {given} for a network of {wanted}",
            need=f"a type that {wanted} holds",
            fix='dtype="float64", or x.astype',
            at=name,
        )


def _check_chunks(name: str, output: TiledOutput, chunks: Sequence[int] | None) -> None:
    """No chunk may belong to two tiles: it would be written twice, and neither whole in between.

    Args:
        name, output: the output.
        chunks: of its array, if there is one.
    """
    tile = output.tile_shape()
    parts = [math.ceil(part) for part in tile] if chunks is None else chunks
    rows = zip(output.shape, tile, parts, strict=True)
    if any(size > part and (part.denominator > 1 or part % chunk) for size, part, chunk in rows):
        sizes = ", ".join(map(str, tile))
        raise ShapeError(
            f"chunks {tuple(parts)} of output {name!r} along {output.axes.names} straddle tiles ({sizes})",
            need="tiles of whole chunks",
            fix=f"chunks={tuple(map(math.ceil, tile))}, tile= with multiples of it, or more memory",
        )
