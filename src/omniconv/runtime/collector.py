"""`collecting_rarely`: plans are made of many small objects, and hardly any of them are garbage."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from omniconv.forks import own_locks

RARELY: Final = 200_000
"""New objects after which Python looks for cycles among them: about those of a few kernels while they are written."""


class _Collector:
    """How many are at it, and how often Python collects otherwise."""

    def __init__(self) -> None:
        self.busy = 0
        own_locks(self)

    def forget_locks(self) -> None:
        """Begin with a lock that nobody holds: at first, and in the child of a fork, where the others are gone."""
        self.lock = threading.Lock()
        if self.busy:
            self.busy = 0
            gc.set_threshold(*self.usual)

    def enter(self) -> None:
        """Collect rarely from now on."""
        with self.lock:
            self.busy += 1
            if self.busy == 1:
                self.usual = gc.get_threshold()
                if 0 < self.usual[0] < RARELY:  # 0 is never
                    gc.set_threshold(RARELY, *self.usual[1:])

    def leave(self) -> None:
        """Collect as before, once nobody is at it."""
        with self.lock:
            self.busy -= 1
            if not self.busy:
                gc.set_threshold(*self.usual)


_COLLECTOR: Final = _Collector()


@contextmanager
def collecting_rarely() -> Iterator[None]:
    """Meanwhile Python looks for cycles among its objects rarely: while a network is planned it would do so a hundred
    times, now and then through all objects of the process, which takes longer than to plan.
    """
    _COLLECTOR.enter()
    try:
        yield
    finally:
        _COLLECTOR.leave()
