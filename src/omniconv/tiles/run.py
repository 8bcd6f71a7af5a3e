"""`tiled`: a network over an image of any size, tile by tile."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from omniconv.cluster import open_client
from omniconv.errors import DataError, ShapeError
from omniconv.integers import as_flag
from omniconv.tiles.axes import CHANNEL
from omniconv.tiles.bar import show_bar
from omniconv.tiles.cluster import run_on_cluster
from omniconv.tiles.journal import Journal, describe
from omniconv.tiles.lazy import tile_lazily
from omniconv.tiles.pipeline import TileRun
from omniconv.tiles.plan import TilePlan
from omniconv.tiles.planner import plan_aligned
from omniconv.tiles.results import find_chunks, open_result
from omniconv.tiles.storage import check_apart, is_dask, open_image, storing
from omniconv.tiles.subject import open_subject


def tiled(
    net: Any,
    x: Any,
    out: Any = None,
    *,
    memory: str | int = "2GB",
    tile: Sequence[int] | None = None,
    axes: str | None = None,
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
    """Run a network over an image of any size: the same result as of the whole, whatever the tiles.

    Example:
        >>> import numpy as np, omniconv as oc
        >>> layer = oc.convolution(in_channels=1, out_channels=1, kernel_size=3, padding="same")
        >>> pairs = [(np.ones((1, 1, 3, 3), np.float32), None)]
        >>> x = np.arange(40000, dtype=np.float32).reshape(1, 1, 200, 200) % 7
        >>> y = tiled(layer, x, weights=pairs, memory="300K", exact=True, progress=False)
        >>> bool((y == oc.compile(layer, x.shape, pairs, exact=True)(x)).all())
        True

    Args:
        net, tile, axes, output, two_pass, weights, threads, exact, dtype: as for :func:`plan_tiles`.
        x: a NumPy array or memmap, a Zarr array (format 2 or 3), a Dask array, or a path: ``.npy``, ``.zarr`` (a group,
            as of OME-Zarr, for its first resolution), ``.tif``. Types that the network's type holds are converted.
        out: where the result goes: nothing for new memory, a NumPy array, a memmap, a Zarr array whose chunks tiles can
            keep to, or a path ``.npy`` or ``.zarr`` that appears when it is whole.
        memory: what tiles may take [bytes], see :func:`plan_tiles`.
        resume: go on with a result on disk that was not finished. A file ``.tiles`` beside it is the journal, which
            goes when the result is whole.
        progress: show a bar on standard error, where that is a terminal.
        cluster: a ``dask.distributed.Client``, or the address of a scheduler, whose workers compute the tiles;
            ``None`` for the client that is open in this process, if there is one, and ``False`` for this process. Each
            job of a worker takes ``memory``; without ``threads`` it takes the cores of a machine over its jobs.

    Returns:
        The result. Of a Dask array a Dask array, computed when it is asked for; ``out`` has no meaning then.

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
    image = open_image(x)
    _check_type(image.dtype, subject.target.element.dtype)
    chunks = find_chunks(out)
    plan = plan_aligned(subject, tuple(image.shape), memory, axes, output, chunks, tile=tile, two_pass=two_pass)
    if is_dask(image):
        if out is not None:
            raise DataError("out= with a Dask array", need="no out: the result is a Dask array", fix="y.to_zarr(path)")
        return tile_lazily(plan, image)
    check_apart(x, image, out)
    if chunks is not None:
        _check_chunks(plan, chunks)
    result = open_result(out, plan.output_shape, plan.dtype, _tile_shape(plan))
    journal = None
    if result.journal is not None:
        with storing(f"opening {str(result.journal)!r}"):
            journal = Journal(result.journal, describe(plan, str(image.dtype)), resume=resume)
    try:
        result.begin(old=journal is not None and bool(journal.done))
        with open_client(cluster) as client, show_bar(plan.planes * plan.all_tiles, "tiles", shown=progress) as advance:
            if client is None:
                TileRun(plan, image, result, journal).go(advance)
            else:
                run_on_cluster(client, plan, x, image, result, journal, threads, advance)
        with storing("finishing the result"):
            found = result.finish()
            if journal is not None:
                journal.finish()
    finally:
        if journal is not None:
            journal.close()
    return found


def _check_type(given: np.dtype[Any], wanted: np.dtype[Any]) -> None:
    if not np.can_cast(given, wanted, "safe"):
        raise DataError(
            f"an image of {given} for a network of {wanted}",
            need=f"a type that {wanted} holds",
            fix='dtype="float64", or x.astype',
        )


def _tile_shape(plan: TilePlan) -> tuple[int, ...]:
    """The shape of a tile in the array of the result."""
    sizes = dict(zip(plan.axes.spatial, plan.tile, strict=True))
    sizes[CHANNEL] = dict(zip(plan.axes.result, plan.output_shape, strict=True)).get(CHANNEL, 1)
    return tuple(sizes.get(name, 1) for name in plan.axes.result)


def _check_chunks(plan: TilePlan, chunks: Sequence[int]) -> None:
    """No chunk may belong to two tiles: it would be written twice, and neither whole in between."""
    tile = _tile_shape(plan)
    rows = zip(plan.axes.result, plan.output_shape, tile, chunks, strict=True)
    if any(size > part and part % chunk for _, size, part, chunk in rows):
        raise ShapeError(
            f"chunks {tuple(chunks)} of the result along {plan.axes.result} straddle tiles {tile}",
            need="tiles of whole chunks",
            fix=f"chunks={tile}, or more memory",
        )
