"""`while_planning`: how Python runs while a network is planned.

Plans are made of many small objects, hardly any of which are garbage: looking for cycles among them, now and then
through all objects of the process, takes longer than to plan. And while kernels are written, a thread has others
compiled by calls into LLVM, of some microseconds or of hundredths of a second, between which it waits for its turn.
"""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from omniconv.forks import own_locks

RARELY: Final = 200_000
"""New objects after which Python looks for cycles among them: about those of a few kernels while they are written."""
TURN: Final = 5e-4
"""Longest turn of a thread while others wait for theirs [s]."""


class _Pace:
    """How many are planning, and what is usual otherwise."""

    def __init__(self) -> None:
        self.busy = 0
        own_locks(self)

    def forget_locks(self) -> None:
        """Begin with a lock that nobody holds: at first, and in the child of a fork, where the others are gone."""
        self.lock = threading.Lock()
        if self.busy:
            self.busy = 0
            self._restore()

    def enter(self) -> None:
        """Collect rarely and take turns often from now on."""
        with self.lock:
            self.busy += 1
            if self.busy == 1:
                self.usual, self.turn = gc.get_threshold(), sys.getswitchinterval()
                if 0 < self.usual[0] < RARELY:  # 0 is never
                    gc.set_threshold(RARELY, *self.usual[1:])
                sys.setswitchinterval(min(self.turn, TURN))
                self.made = gc.get_threshold(), sys.getswitchinterval()

    def leave(self) -> None:
        """Go on as before, once nobody plans; what others have changed in the meantime stays so."""
        with self.lock:
            self.busy -= 1
            if not self.busy:
                self._restore()

    def _restore(self) -> None:
        rarely, turn = self.made
        if gc.get_threshold() == rarely:
            gc.set_threshold(*self.usual)
        if sys.getswitchinterval() == turn:
            sys.setswitchinterval(self.turn)


_PACE: Final = _Pace()


@contextmanager
def while_planning() -> Iterator[None]:
    """Meanwhile Python looks for cycles among its objects rarely, and threads take turns often."""
    _PACE.enter()
    try:
        yield
    finally:
        _PACE.leave()


def plan_beside(job: Callable[[], object]) -> bool:
    """Do something that nobody waits for, in a thread of its own, as while a network is planned.

    Returns:
        whether it will be done: not where no thread starts, as at the end of the interpreter.
    """

    def run() -> None:
        with while_planning():
            job()

    try:
        threading.Thread(target=run, name="omniconv-plan").start()
    except RuntimeError:
        return False
    return True
