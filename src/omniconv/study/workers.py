"""`Workers`: jobs that do not depend on one another, in several processes; each result as it comes."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context, parent_process
from types import TracebackType
from typing import Any, Self, TypeAlias

StudyJob: TypeAlias = tuple[Callable[..., Any], tuple[Any, ...]]
"""A function and its arguments; a text that is the name of something shared stands for that."""

_shared: dict[str, Any] = {}


def _begin(shared: Mapping[str, Any]) -> None:
    """Take what all jobs share. The process leaves interrupts to the one that started it, and ends with it."""
    _shared.update(shared)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_follow, daemon=True).start()


def _follow() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _work(job: StudyJob, shared: Mapping[str, Any] | None = None) -> Any:
    held = _shared if shared is None else shared
    function, arguments = job
    return function(*(held[each] if isinstance(each, str) and each in held else each for each in arguments))


class Workers:
    """Processes that do jobs, started when there are some.

    Args:
        shared: large arguments by name, sent to each process once.
        processes: with one, everything is done here.
    """

    def __init__(self, shared: Mapping[str, Any], processes: int) -> None:
        self._held, self._processes = dict(shared), processes
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave what has not begun."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def work(self, jobs: Sequence[tuple[str, StudyJob]]) -> Iterator[tuple[str, Any]]:
        """The name and the result of each job, in the order in which they are done."""
        if self._processes == 1 or not jobs:
            for name, job in jobs:
                yield name, _work(job, self._held)
            return
        if self._pool is None:
            # New processes rather than forks, which would inherit threads and locks of libraries.
            self._pool = ProcessPoolExecutor(
                self._processes, get_context("spawn"), initializer=_begin, initargs=(self._held,)
            )
        names = {self._pool.submit(_work, job): name for name, job in jobs}
        for done in as_completed(names):
            yield names[done], done.result()
