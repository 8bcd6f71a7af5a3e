"""`Pipeline`: images are read and grouped by shape, computed, and written, each while the others go on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from omniconv.errors import DataError, OmniconvError, SpecError, StorageError
from omniconv.mapping.memory import SHARES
from omniconv.mapping.network import Array, MapNetwork, Outputs
from omniconv.mapping.read import ImageReader
from omniconv.mapping.results import digest_file, digest_image, write_result
from omniconv.overlap import overlap
from omniconv.records import dataclass
from omniconv.spec import Shape
from omniconv.tiles.subject import Origin


@dataclass(frozen=True, slots=True, eq=False)
class MapSettings:
    """What is done with each image; see :func:`omniconv.map`. ``folder`` is that of results, if any."""

    origin: Origin
    output: str | None
    axes: str | None
    preprocess: Callable[[Array], Any] | None
    postprocess: Callable[[Any], Any] | None
    batch: int
    memory: int
    folder: Path | None
    suffix: str


@dataclass(frozen=True, slots=True, eq=False)
class MapJob:
    """One image to compute.

    Attributes:
        index, name: of the image.
        content: a path, an array, or why there is neither.
        place: of its result below the folder, if there is one.
        known: digests of the image and the result that an earlier run left there.
    """

    index: int
    name: str
    content: Any
    place: str = ""
    known: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """What became of a job.

    Attributes:
        job: without its content.
        shape: of the image, where it was read.
        value: the result, where it was not written.
        read, written: digests of image and result.
        error: why there is no result.
        old: it was finished before.
    """

    job: MapJob
    shape: Shape | None = None
    value: Any = None
    read: str = ""
    written: str = ""
    error: OmniconvError | None = None
    old: bool = False


@dataclass(slots=True, eq=False)
class _Ready:
    """An image that waits to be computed, and then what was computed of it."""

    job: MapJob
    image: Array | None
    shape: Shape
    read: str
    found: Outputs | OmniconvError | None = None


class Pipeline:
    """Does jobs. Thread-safe.

    Args:
        settings: what is done with each.
    """

    def __init__(self, settings: MapSettings) -> None:
        self.settings = settings
        self.network = MapNetwork(settings.origin, settings.output, settings.memory)
        self._share = settings.memory // SHARES

    @cached_property
    def _read(self) -> ImageReader:
        image, settings = self.network.image, self.settings
        assert image.rank is not None
        return ImageReader(
            image.rank, image.channels, self.network.dtype, self._share, settings.axes, settings.preprocess
        )

    def do(self, jobs: Iterable[MapJob], finish: Callable[[Outcome], None]) -> None:
        """Do jobs, and give what became of each to ``finish``, from one thread.

        Raises:
            StorageError: a result could not be written, and so could no other.
        """
        overlap(self._batches(jobs), self._compute, lambda items: self._write(items, finish), "omniconv map")

    def _batches(self, jobs: Iterable[MapJob]) -> Iterator[list[_Ready] | Outcome]:
        """Images of one shape together; not more of them wait than memory is for."""
        waiting: dict[Shape, list[_Ready]] = {}
        held = 0
        for job in jobs:
            ready = self._prepare(job)
            if isinstance(ready, Outcome) or ready.image is None:
                assert isinstance(ready, Outcome)
                yield ready
                continue
            size = ready.image.nbytes
            if held + size > self._share:
                yield from waiting.values()
                waiting, held = {}, 0
            group = waiting.setdefault(ready.shape, [])
            group.append(ready)
            held += size
            most = max(1, min(self.settings.batch, self._share // size))
            if len(group) >= most:
                held -= len(group) * size
                yield waiting.pop(ready.shape)
            del ready, group
        yield from waiting.values()

    def _prepare(self, job: MapJob) -> _Ready | Outcome:
        bare = MapJob(job.index, job.name, None, job.place, job.known)
        try:
            image = self._read(job.content)
        except OmniconvError as error:
            return Outcome(bare, error=error)
        read, folder = "", self.settings.folder
        if folder is not None:
            read = digest_image(image)
            if job.known is not None and job.known[0] == read and digest_file(folder / job.place) == job.known[1]:
                return Outcome(bare, image.shape, None, *job.known, old=True)
        return _Ready(bare, image, image.shape, read)

    def _compute(self, items: list[_Ready] | Outcome) -> list[_Ready] | Outcome:
        if isinstance(items, Outcome):
            return items
        found = self.network.compute([item.image for item in items if item.image is not None])
        for item, outputs in zip(items, found, strict=True):
            item.image, item.found = None, outputs
        return items

    def _write(self, items: list[_Ready] | Outcome, finish: Callable[[Outcome], None]) -> None:
        if isinstance(items, Outcome):
            finish(items)
            return
        for item in items:
            finish(self._write_one(item))
            item.found = None

    def _write_one(self, item: _Ready) -> Outcome:
        folder = self.settings.folder
        assert item.found is not None
        if isinstance(item.found, OmniconvError):
            return Outcome(item.job, item.shape, read=item.read, error=item.found)
        value = self._choose(item.found)
        try:
            value = self._finish(value)
            if folder is None:
                return Outcome(item.job, item.shape, value)
            written = write_result(folder, item.job.place, value)
        except StorageError:
            raise
        except OmniconvError as error:
            return Outcome(item.job, item.shape, read=item.read, error=error)
        return Outcome(item.job, item.shape, None, item.read, written)

    def _choose(self, found: Outputs) -> Any:
        """The one output, or all of them for a file that holds several.

        Raises:
            SpecError: several for a file of one.
        """
        if len(found) == 1:
            return next(iter(found.values()))
        settings = self.settings
        if settings.folder is not None and settings.suffix != ".npz" and settings.postprocess is None:
            raise SpecError(
                f"outputs {list(found)} in a file {settings.suffix}",
                need="one of them",
                fix=f'output={next(iter(found))!r}, or suffix=".npz"',
            )
        return found

    def _finish(self, value: Any) -> Any:
        """What is kept: as ``postprocess`` has it, and of the sort that is written."""
        if self.settings.postprocess is not None:
            try:
                value = self.settings.postprocess(value)
            except Exception as error:
                raise DataError(
                    f"postprocess: {type(error).__name__}: {error}", need="a function of one result that returns one"
                ) from error
        if self.settings.folder is None:
            return value
        if self.settings.suffix != ".npz":
            return np.asarray(value)
        named = value if isinstance(value, dict) else {"y": value}
        return {str(name): np.asarray(array) for name, array in named.items()}
