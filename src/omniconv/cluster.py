"""A cluster of Dask: which workers it has, what each is sent once, and jobs whose results come as they are ready.

What jobs need is pickled once, carried to every worker, and opened there once a process, by its digest. A worker that
is lost has its jobs done by another; the results that matter are kept where the caller puts them.
"""

from __future__ import annotations

import hashlib
import itertools
import sys
import threading
import time
import warnings
from collections import Counter, OrderedDict
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any, Final, Protocol

import omniconv
from omniconv.errors import DataError, LimitError, OmniconvError, StorageError, UnsupportedError
from omniconv.limits import format_size
from omniconv.target.model import Target
from omniconv.target.select import detect_host, reject_host

EXTRA: Final = 'pip install "omniconv[tiles]"'
PATIENCE: Final = 60.0
"""How long a cluster may take to have a first worker [s]."""
LOOK: Final = 5.0
"""How often the number of workers is asked for, so that those that join are fed [s]."""
RETRIES: Final = 2
"""How often a job that fails is tried again."""
MOST_OPEN: Final = 2
"""Works that a process of a worker keeps open."""


class ClusterWork(Protocol):
    """What workers are sent: it is called with each job. To be pickled."""

    def begin(self, threads: int) -> None:
        """Make ready in a worker's process, where each job may use so many threads."""

    def __call__(self, job: Any) -> Any:
        """The result of a job; called by several threads at once."""


@dataclass(frozen=True, slots=True)
class Shipment:
    """A `ClusterWork` on its way.

    Attributes:
        version: of the Omniconv that sent it.
        target: machines that may compute it.
        threads: for the address of each worker, threads of a job.
        digest, data: the pickled work.
    """

    version: str
    target: Target
    threads: Mapping[str, int]
    digest: str
    data: bytes = field(repr=False)


@contextmanager
def open_client(cluster: Any) -> Iterator[Any]:
    """The client of a cluster, where there is one to use; otherwise ``None``.

    Args:
        cluster: ``None`` for the client that is open in this process, if any; a client; the address of a scheduler;
            ``False`` for none.

    Raises:
        DataError: something else.
        StorageError: no scheduler at the address.
        UnsupportedError: Dask's ``distributed`` is not installed, or an asynchronous client.
    """
    if cluster is False or (cluster is None and "distributed" not in sys.modules):
        yield None
        return
    if find_spec("distributed") is None:
        raise UnsupportedError("distributed is not installed", need=EXTRA)
    import distributed

    if isinstance(cluster, str):
        with _connect(cluster) as client:
            yield client
        return
    client = _find_current() if cluster is None else cluster
    if client is not None and not isinstance(client, distributed.Client):
        raise DataError(
            f"cluster is {type(cluster).__name__}",
            need="a dask.distributed.Client, the address of a scheduler, or False",
            fix='cluster="tcp://host:8786"',
        )
    if client is not None and client.asynchronous:
        raise UnsupportedError("an asynchronous client of Dask", need="a synchronous one", fix="Client(address)")
    yield client


def _find_current() -> Any:
    """The client of this process. A job of a worker has none: it is computed where it is."""
    import distributed

    try:
        distributed.get_worker()
    except ValueError:
        try:
            return distributed.default_client()
        except ValueError:
            return None
    return None


def _connect(address: str) -> Any:
    import distributed

    try:
        return distributed.Client(address, set_as_default=False, timeout=10)
    except (OSError, ValueError, TypeError, UnicodeError) as error:
        raise StorageError(
            f"no scheduler of Dask at {address!r}: {error}", need="the address that it says", fix="tcp://host:8786"
        ) from error


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


def _refuse_here(target: Target) -> str | None:
    return reject_host(target, detect_host())


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
        for address, answer in client.run(_refuse_here, target, on_error="return").items():
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
        import cloudpickle

        data = cloudpickle.dumps(work)
        digest = hashlib.blake2b(data, digest_size=16).hexdigest()
        shipment = Shipment(omniconv.__version__, self.target, self.threads, digest, data)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Sending large graph")
            # A job of its own rather than scattered data: should all who hold it be lost, it is sent again.
            carried = self.client.submit(_carry, shipment, key=f"omniconv-{digest}-{time.time_ns()}", pure=False)
        try:
            with _guard():
                carried.result()
                self.client.replicate([carried])
            yield carried
        finally:
            self.client.cancel([carried], force=True)

    def do(self, carried: Any, jobs: Iterable[Any]) -> Generator[Any, None, None]:
        """Results of jobs, as they are ready. Few jobs are taken ahead of those that are done.

        Args:
            carried: the work, see :meth:`send`.
            jobs: what it is called with.

        Raises:
            StorageError: jobs that were lost or failed more than once, in other ways than by errors of Omniconv.
        """
        from distributed import as_completed

        coming, left, held = as_completed(loop=self.client.loop), iter(jobs), set()

        def feed(count: int) -> None:
            for job in itertools.islice(left, count):
                future = self.client.submit(_do, carried, job, pure=False, retries=RETRIES)
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


@contextmanager
def _guard() -> Iterator[None]:
    """Say of what goes wrong on a cluster, but for errors of Omniconv, that it did."""
    try:
        yield
    except OmniconvError:
        raise
    except Exception as error:
        raise StorageError(
            f"a job of the cluster failed: {type(error).__name__}: {error}",
            need="workers that live, and enough memory for each",
            fix="the same call again, which goes on where it stopped",
        ) from error


def _carry(shipment: Shipment) -> Shipment:
    return shipment


_OPEN: Final[OrderedDict[str, ClusterWork]] = OrderedDict()
_LOCK: Final = threading.Lock()


def _do(shipment: Shipment, job: Any) -> Any:
    """Do a job in a worker."""
    return _open(shipment)(job)


def _open(shipment: Shipment) -> ClusterWork:
    """The work of a shipment, opened by the first job that needs it.

    Raises:
        UnsupportedError: it was sent by another version, or for another machine. Workers that were there when the run
            began have been asked; this one came later.
    """
    import cloudpickle
    from distributed import get_worker

    address = get_worker().address
    if shipment.version != omniconv.__version__:
        raise UnsupportedError(
            f"worker {address} has Omniconv {omniconv.__version__}, and the client {shipment.version}",
            need="one version everywhere",
            fix=f"pip install omniconv=={shipment.version} on all machines",
        )
    refusal = _refuse_here(shipment.target)
    if refusal is not None:
        raise UnsupportedError(f"worker {address} cannot compute: {refusal}", need="a target that all workers have")
    with _LOCK:
        found = _OPEN.get(shipment.digest)
        if found is None:
            work: ClusterWork = cloudpickle.loads(shipment.data)
            work.begin(shipment.threads.get(address) or min(shipment.threads.values()))
            found = _OPEN[shipment.digest] = work
            while len(_OPEN) > MOST_OPEN:
                _OPEN.popitem(last=False)
        else:
            _OPEN.move_to_end(shipment.digest)
        return found
