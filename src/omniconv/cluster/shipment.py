"""What the jobs of a run need, as it is sent to workers: pickled once, and opened once in each process.

A further run opens anew what it reads and writes: files may have changed behind their names.
"""

from __future__ import annotations

import threading
import uuid
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import field, replace
from typing import Any, Final, Protocol

import omniconv
from omniconv.compiler.planning.options import Options
from omniconv.errors import UnsupportedError
from omniconv.records import dataclass
from omniconv.target.model import Target
from omniconv.target.select import detect_host, reject_host

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
        key: of this shipment, and no other.
        data: the pickled work.
    """

    version: str
    target: Target
    threads: Mapping[str, int]
    key: str
    data: bytes = field(repr=False)


def on_threads(options: Options, threads: int) -> Options:
    """What was asked of plans, for a worker whose jobs may use so many threads."""
    why = "cores of a worker over its jobs" if options.threads_why else ""
    return replace(options, threads=threads, threads_why=f"{threads} {why}" if why else "")


def pack(work: ClusterWork, target: Target, threads: Mapping[str, int]) -> Shipment:
    """A work, ready to be sent."""
    import cloudpickle

    return Shipment(omniconv.__version__, target, threads, uuid.uuid4().hex, cloudpickle.dumps(work))


def refuse_here(target: Target) -> str | None:
    """Why this machine cannot compute, if it cannot."""
    return reject_host(target, detect_host())


def carry(shipment: Shipment) -> Shipment:
    """A job whose result every other job needs."""
    return shipment


_OPEN: Final[OrderedDict[str, ClusterWork]] = OrderedDict()
_LOCK: Final = threading.Lock()


def do_job(shipment: Shipment, job: Any) -> Any:
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
    refusal = refuse_here(shipment.target)
    if refusal is not None:
        raise UnsupportedError(f"worker {address} cannot compute: {refusal}", need="a target that all workers have")
    with _LOCK:
        found = _OPEN.get(shipment.key)
        if found is None:
            work: ClusterWork = cloudpickle.loads(shipment.data)
            work.begin(shipment.threads.get(address) or min(shipment.threads.values()))
            found = _OPEN[shipment.key] = work
            while len(_OPEN) > MOST_OPEN:
                _OPEN.popitem(last=False)
        else:
            _OPEN.move_to_end(shipment.key)
        return found
