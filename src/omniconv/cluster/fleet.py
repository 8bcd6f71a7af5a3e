"""`Fleet`: the workers of a cluster, and the jobs that they do.

A worker that is lost has its jobs done by another; the results that matter are kept where the caller puts them.
"""

from __future__ import annotations

import itertools
import time
import warnings
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Final

import omniconv
from omniconv.cluster.shipment import ClusterWork, carry, do_job, pack, refuse_here
from omniconv.errors import LimitError, StorageError, UnsupportedError
from omniconv.limits import format_size
from omniconv.outside import storing
from omniconv.target.model import Target

PATIENCE: Final = 60.0
"""How long a cluster may take to have a first worker [s]."""
LOOK: Final = 5.0
"""How often the number of workers is asked for, so that those that join are fed [s]."""
RETRIES: Final = 2
"""How often a job that fails is tried again."""


def _make_greeting() -> Callable[..., dict[str, Any]]:
    """What each worker says of itself. A function of this kind travels by value: the worker may have no Omniconv."""

    def greet(dask_worker: Any) -> dict[str, Any]:
        import socket

        from dask.system import CPU_COUNT

        try:
            import omniconv

            version: str | None = omniconv.__version__
        except ImportError:
            version = None
        return {
            "version": version,
            "machine": socket.gethostname(),
            "cores": CPU_COUNT,
            "slots": dask_worker.state.nthreads,
            "memory": dask_worker.memory_manager.memory_limit,
        }

    return greet


class Fleet:
    """The workers of a cluster, which all have this version of Omniconv and run code for the target.

    Args:
        client: of Dask.
        target: machines that the code is for.
        needed: memory of a job [bytes].
        threads: of a job; ``None`` for the cores of a machine over the jobs that its workers do at once.

    Raises:
        UnsupportedError: a worker with another version, or whose machine cannot run the code.
        LimitError: a worker with less memory than its jobs take.
        StorageError: no worker comes.
    """

    def __init__(self, client: Any, target: Target, needed: int, threads: int | None) -> None:
        self.client, self.target = client, target
        if not client.nthreads():
            try:
                client.wait_for_workers(1, timeout=PATIENCE)
            except TimeoutError:
                raise StorageError(
                    f"the cluster of {client.scheduler.address} has no worker after {PATIENCE:.0f} s", need="workers"
                ) from None
        found = client.run(_make_greeting(), on_error="return")
        for address, answer in found.items():
            self._check(address, answer, needed)
        for address, answer in client.run(refuse_here, target, on_error="return").items():
            if answer is not None:
                raise UnsupportedError(
                    f"worker {address} cannot compute: {answer}",
                    need="a target that all workers have",
                    fix="OMNICONV_TARGET=x86-64-v3 where this runs",
                )
        slots = Counter[str]()
        for answer in found.values():
            slots[answer["machine"]] += answer["slots"]
        self.threads = {
            address: threads or max(1, answer["cores"] // slots[answer["machine"]]) for address, answer in found.items()
        }

    def _check(self, address: str, answer: Any, needed: int) -> None:
        own = omniconv.__version__
        if isinstance(answer, BaseException) or answer["version"] != own:
            has = answer if isinstance(answer, BaseException) else f"Omniconv {answer['version'] or '(none)'}"
            raise UnsupportedError(
                f"worker {address} has {has}, and this process {own}",
                need="one version everywhere",
                fix=f"pip install omniconv=={own} on all machines",
            )
        most = answer["memory"]
        if most and answer["slots"] * needed > most:
            raise LimitError(
                f"worker {address} may take {format_size(most)} for {answer['slots']} jobs of {format_size(needed)}",
                need="memory for all jobs that a worker does at once",
                fix=f'memory="{max(1, most // answer["slots"] // 2**20)}M", or fewer threads for each worker',
            )

    @contextmanager
    def send(self, work: ClusterWork) -> Iterator[Any]:
        """Carry a work to all workers; what it gives is for :meth:`do`."""
        shipment = pack(work, self.target, self.threads)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Sending large graph")
            # A job of its own rather than scattered data: should all who hold it be lost, it is sent again.
            carried = self.client.submit(carry, shipment, key=f"omniconv-{shipment.key}", pure=False)
        try:
            with _guard():
                carried.result()
                self.client.replicate([carried])
            yield carried
        finally:
            self.client.cancel([carried], force=True)

    def do(
        self, carried: Any, jobs: Iterable[Any], home: Callable[[Any], int | None] | None = None
    ) -> Generator[Any, None, None]:
        """Results of jobs, as they are ready. Few jobs are taken ahead of those that are done.

        Args:
            carried: the work, see :meth:`send`.
            jobs: what it is called with.
            home: the number of the worker that had better do a job, if any; another does it where that one is lost.

        Raises:
            StorageError: jobs that were lost or failed more than once, in other ways than by errors of Omniconv.
        """
        from distributed import as_completed

        coming, left, held = as_completed(loop=self.client.loop), iter(jobs), set()
        addresses = list(self.threads)

        def feed(count: int) -> None:
            for job in itertools.islice(left, count):
                number = home(job) if home is not None else None
                where = None if number is None else [addresses[number % len(addresses)]]
                future = self.client.submit(
                    do_job, carried, job, pure=False, retries=RETRIES, workers=where, allow_other_workers=bool(where)
                )
                held.add(future)
                coming.add(future)

        most, looked = self._count(), time.monotonic()
        try:
            feed(most)
            for future in coming:
                with _guard():
                    result = future.result()
                held.discard(future)
                future.release()
                yield result
                more = 1
                if time.monotonic() - looked > LOOK:
                    before, most, looked = most, self._count(), time.monotonic()
                    more += max(0, most - before)
                feed(more)
        finally:
            self.client.cancel(list(held), force=True)

    def _count(self) -> int:
        """Jobs that are given out at once: two for each that is computed."""
        slots: dict[str, int] = self.client.nthreads()
        return 2 * max(1, sum(slots.values()))


def _guard() -> AbstractContextManager[None]:
    """Say of what goes wrong on a cluster, but for errors of Omniconv, that it did."""
    return storing(
        "a job of the cluster failed",
        fix="the same call again, which goes on where it stopped",
        need="workers that live, and enough memory for each",
    )
