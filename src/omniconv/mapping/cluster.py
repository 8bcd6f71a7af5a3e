"""Images on a cluster: workers read, compute and write a few at a time; the journal stays here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from omniconv.cluster import Fleet, on_threads
from omniconv.errors import StorageError
from omniconv.mapping.pipeline import MapJob, MapSettings, Outcome, Pipeline
from omniconv.tiles.cluster import hash_head


class MapWork:
    """What workers are sent. See :class:`omniconv.cluster.ClusterWork`.

    Args:
        settings: what is done with each image.
        journal: its path here, and a digest of its first line, which tells whether a worker sees the same disk.
    """

    def __init__(self, settings: MapSettings, journal: tuple[Path, str] | None) -> None:
        self.settings, self.journal = settings, journal
        self.pipeline: Pipeline | None = None

    def begin(self, threads: int) -> None:
        """See that results are where this machine writes.

        Raises:
            StorageError: a disk that this machine does not see.
        """
        if self.journal is not None and hash_head(self.journal[0]) != self.journal[1]:
            raise StorageError(
                f"a worker does not see {str(self.journal[0])!r}, the journal of the results",
                need="a folder that all machines see",
                fix="no out=, which brings them here",
            )
        origin = self.settings.origin
        origin = replace(origin, options=on_threads(origin.options, threads))
        self.pipeline = Pipeline(replace(self.settings, origin=origin))

    def __call__(self, job: list[MapJob]) -> list[Outcome]:
        """What became of some images."""
        assert self.pipeline is not None
        found: list[Outcome] = []
        self.pipeline.do(job, found.append)
        return found


def map_on_cluster(
    client: Any,
    settings: MapSettings,
    jobs: Iterable[MapJob],
    journal: Path | None,
    threads: int | None,
    finish: Callable[[Outcome], None],
) -> None:
    """Do jobs on the workers of a client, and give what became of each to ``finish``."""
    fleet = Fleet(client, settings.origin.target, settings.memory, threads)
    work = MapWork(settings, None if journal is None else (journal, hash_head(journal)))
    with fleet.send(work) as carried, closing(fleet.do(carried, _chunk(jobs, max(settings.batch, 4)))) as results:
        for outcomes in results:
            for outcome in outcomes:
                finish(outcome)


def _chunk(jobs: Iterable[MapJob], size: int) -> Iterator[list[MapJob]]:
    left = iter(jobs)
    while chunk := list(islice(left, size)):
        yield chunk
