"""`map`: a network over many images of mixed sizes."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import omniconv
from omniconv.choices import as_choice, check_instance
from omniconv.cluster import open_client
from omniconv.errors import DataError, OmniconvError
from omniconv.integers import as_flag, as_integer
from omniconv.limits import parse_size
from omniconv.mapping.cluster import map_on_cluster
from omniconv.mapping.pipeline import MapJob, MapSettings, Outcome, Pipeline
from omniconv.mapping.report import MapRecord, MapReport
from omniconv.mapping.results import ResultFolder, check_suffix
from omniconv.mapping.source import MapItem, MapSource, open_source
from omniconv.program.describe import describe_value
from omniconv.tiles.bar import show_bar
from omniconv.tiles.subject import find_origin


def map(  # noqa: A001 - the name of the public interface
    net: Any,
    source: Any,
    out: str | os.PathLike[str] | None = None,
    *,
    suffix: str = ".npy",
    pattern: str | None = None,
    axes: str | None = None,
    preprocess: Callable[[Any], Any] | None = None,
    postprocess: Callable[[Any], Any] | None = None,
    output: str | None = None,
    batch: int = 8,
    memory: str | int = "2GB",
    errors: str = "skip",
    resume: bool = True,
    progress: bool = True,
    weights: Sequence[Any] | None = None,
    threads: int | None = None,
    exact: bool | None = None,
    dtype: Any = None,
    cluster: Any = None,
) -> MapReport:
    """Run a network over many images of mixed sizes. Those that fail are skipped, and reported at the end.

    Images of one shape are computed together where the network is proved to compute each as it would alone. Reading,
    computing and writing overlap.

    Example:
        >>> import numpy as np, omniconv as oc
        >>> layer = oc.convolution(in_channels=1, out_channels=1, kernel_size=3, padding="same")
        >>> pairs = [(np.ones((1, 1, 3, 3), np.float32), None)]
        >>> images = [np.ones((1, 4, 5), np.float32), np.ones((2, 4, 5), np.float32), np.ones((1, 6, 6), np.float32)]
        >>> report = map(layer, images, weights=pairs, progress=False)
        >>> [None if y is None else y.shape for y in report.results]
        [(1, 4, 5), None, (1, 6, 6)]
        >>> print(report)
        2 of 3 images, 0 of them from an earlier run
          1: axes='CYX' of an array of shape (2, 4, 5) say 2 channels; need 1, e.g. axes= with C where the channels are

    Args:
        net, weights, threads, exact, dtype: as for :func:`omniconv.tiled`.
        source: a folder, with those in it; a path, or a pattern such as ``"images/**/*.png"``; a list or a generator of
            paths and arrays; a bag of Dask. Files are ``.png``, ``.jpg`` and what else Pillow reads, ``.tif``, ``.npy``
            and ``.zarr``.
        out: a folder for the results, made where only itself is missing; ``None`` for arrays in the report. Each result
            has the name of its image, in the same folders; of arrays their number.
        suffix: how results are written: ``.npy``, ``.npz`` (several outputs), ``.zarr``, ``.tif`` or ``.png`` (8 bits,
            or grey of 16).
        pattern: in a folder, files to take, such as ``"*.png"``; default: all images whose names do not begin with a
            dot.
        axes: a letter for each axis of an array, or of what ``preprocess`` returns, such as ``"YXC"``; default:
            ``(C, *spatial)`` for arrays and ``.npy``, and ``(Y, X, C)`` or ``(Y, X)`` for pictures.
        preprocess: is given each image as an array, and returns the one to use. Pictures of 8 bits have the channels of
            the network already.
        postprocess: is given each result ``(C, *spatial)``, without the batch, and returns what is kept; a dict of them
            where there are several outputs.
        output: name of the output that is wanted; default: all.
        batch: most images of one shape that are computed together.
        memory: what images, results, working memory and weights may take [bytes]; on a cluster, in each job.
        errors: ``"skip"`` images that fail, or ``"raise"`` the first such error.
        resume: leave out images whose results are in ``out`` already, from the same network, settings and image, by
            digests of each image as the network took it and of its result.
        progress: show a bar on standard error, where that is a terminal.
        cluster: as for :func:`omniconv.tiled`. Workers read paths, and write into ``out``, which all must see.

    Returns:
        A report: what became of each image, in the order of the source.

    Raises:
        SpecError, DataError, UnsupportedError: arguments that do not fit one another, or results of another run.
        StorageError: nothing can be written any more, or the cluster failed. What is finished is kept.
        OmniconvError: with ``errors="raise"`` why an image failed.

    Numerics:
        As for :func:`omniconv.compile`. With ``exact=True`` results do not depend on the batch where sums are exact;
        without it, layers of 3x3 may be filtered (Winograd), which is chosen by size and so by the batch.
    """
    resume, progress = as_flag("resume", resume), as_flag("progress", progress)
    errors = as_choice("errors", errors, ("skip", "raise"))
    allowed = parse_size(memory, "memory") if isinstance(memory, str) else as_integer("memory", memory, 1, None)
    batch = as_integer("batch", batch, 1, 2**16)
    for name, function in (("preprocess", preprocess), ("postprocess", postprocess)):
        if function is not None and not callable(function):
            raise DataError(f"{name} is {type(function).__name__}", need="a function of one array")
    for name, text in (("axes", axes), ("output", output)):
        if text is not None:
            check_instance(name, text, str, need="text")
    if out is not None:
        check_instance("out", out, (str, os.PathLike), need="the path of a folder")
    folder = None if out is None else _open_folder(out)
    origin = find_origin(net, weights, threads, dtype, exact=exact)
    if weights is None and hasattr(origin.source, "weight_shapes"):
        raise DataError("a spec without weights", need="weights=", at=origin.at)
    settings = MapSettings(origin, output, axes, preprocess, postprocess, batch, allowed, folder, check_suffix(suffix))
    pipeline = Pipeline(settings)
    _check_apart(source, folder)
    images = open_source(source, pattern, folder)
    with open_client(cluster) as client:
        results = None if folder is None else ResultFolder(folder, _describe(settings), resume=resume)
        try:
            run = _MapRun(settings, images, results, stop=errors == "raise")
            return run.go(pipeline, client, threads, progress=progress)
        finally:
            if results is not None:
                results.close()


def _open_folder(out: str | os.PathLike[str]) -> Path:
    """Where a path leads.

    Raises:
        DataError: one that no folder can have.
    """
    text = os.fspath(out)
    try:
        usable = bool(text) and b"\0" not in os.fsencode(text)
    except ValueError:
        usable = False
    if not usable:
        raise DataError(f"out={out!r}", need="the path of a folder")
    return Path(os.path.realpath(text))


def _check_apart(source: Any, folder: Path | None) -> None:
    """Refuse to write into the folder of the images: the next run would take results for images."""
    if folder is None or not isinstance(source, str | os.PathLike):
        return
    try:
        same = os.path.realpath(source) == str(folder)
    except (ValueError, TypeError):  # a path that no file can have; opening it says so
        return
    if same:
        raise DataError("results in the folder of the images", need="another folder", fix='out="results"')


def _describe(settings: MapSettings) -> dict[str, Any]:
    """What decides the bytes of results, beside the images as the network takes them."""
    origin = settings.origin
    parts = (origin.source, origin.weights) if origin.weights is not None else (origin.source,)
    return {
        "omniconv": omniconv.__version__,
        "network": [describe_value(part) for part in parts],
        "output": settings.output,
        "suffix": settings.suffix,
        "postprocess": None if settings.postprocess is None else describe_function(settings.postprocess),
        "exact": origin.options.exact,
        "target": str(origin.target),
    }


def describe_function(function: Any) -> str:
    """The name of a function and a hash of its code; what it takes from outside is not seen."""
    name = f"{getattr(function, '__module__', '')}.{getattr(function, '__qualname__', type(function).__qualname__)}"
    code = getattr(function, "__code__", None)
    return name if code is None else f"{name} {describe_value(_list_code(code))}"


def _list_code(code: Any) -> tuple[Any, ...]:
    inner = tuple(_list_code(item) if hasattr(item, "co_code") else repr(item) for item in code.co_consts)
    return code.co_code, code.co_names, code.co_varnames, inner


class _MapRun:
    """One run.

    Args:
        settings: what is done with each image.
        images: to do.
        results: their folder, if any.
        stop: at the first image that fails.
    """

    def __init__(self, settings: MapSettings, images: MapSource, results: ResultFolder | None, *, stop: bool) -> None:
        self.settings, self.images, self.results, self.stop = settings, images, results, stop
        self.records: list[MapRecord] = []
        self._names: dict[str, tuple[int, str]] = {}

    def go(self, pipeline: Pipeline, client: Any, threads: int | None, *, progress: bool) -> MapReport:
        """Do all images."""
        started = time.perf_counter()
        failures: list[Exception] = []
        jobs = _until_failure(self._list_jobs(), failures)
        with show_bar(self.images.total, "images", shown=progress) as advance:

            def finish(outcome: Outcome) -> None:
                self._finish(outcome)
                advance()

            if client is None:
                pipeline.do(jobs, finish)
            else:
                journal = None if self.results is None else self.results.journal
                map_on_cluster(client, self.settings, jobs, journal, threads, finish)
        if failures:
            raise failures[0]
        self.records.sort(key=lambda record: record.index)
        return MapReport(tuple(self.records), time.perf_counter() - started)

    def _list_jobs(self) -> Iterator[MapJob]:
        for item in self.images.items:
            place, known, content = "", None, item.content
            if self.results is not None and not isinstance(content, OmniconvError):
                place = item.place + self.settings.suffix
                try:
                    self._check_name(item, place)
                    known = self.results.claim(place)
                except DataError as error:
                    content = error
            yield MapJob(item.index, item.name, content, place, known)

    def _check_name(self, item: MapItem, place: str) -> None:
        """Refuse two results of one name, also where a disk does not tell capitals apart."""
        index, name = self._names.setdefault(place.casefold(), (item.index, item.name))
        if index != item.index:
            raise DataError(
                f"{item.name!r} and {name!r}, image {index}, would both be written to {place!r}",
                need="one image for each result",
            )

    def _finish(self, outcome: Outcome) -> None:
        job = outcome.job
        if outcome.error is not None and self.stop:
            raise outcome.error.but(at=outcome.error.at or job.name)
        result = outcome.value
        if self.results is not None and outcome.error is None:
            result = self.results.path / job.place
            if not outcome.old:
                self.results.finish(job.place, outcome.read, outcome.written)
        self.records.append(MapRecord(job.index, job.name, outcome.shape, result, outcome.error, outcome.old))


def _until_failure(jobs: Iterator[MapJob], failures: list[Exception]) -> Iterator[MapJob]:
    """Jobs up to the first that there is not, as a caller's generator raises; those before it are still done."""
    try:
        yield from jobs
    except Exception as error:  # noqa: BLE001 - raised when they are
        failures.append(error)
