"""`Kept`: what has been compiled for what, the last few of it."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Final, Generic, Protocol, TypeVar

from omniconv.forks import own_locks
from omniconv.limits import memory_limit as find_memory_limit

MOST_KEPT: Final = 8
"""Things of a sort that are kept, as far as the memory limit allows; at least the last one."""


class Sized(Protocol):
    """What takes memory as long as it is kept."""

    @property
    def arena_bytes(self) -> int:
        """Working memory of each concurrent caller [bytes]."""

    @property
    def constant_bytes(self) -> int:
        """Weights and tables [bytes]."""


T = TypeVar("T", bound=Sized)


class Kept(Generic[T]):
    """The last :data:`MOST_KEPT` things that were made, by key. Nothing is kept of an attempt that fails.

    Thread-safe: callers with other keys do not wait while one makes something.

    Args:
        limit: weights and working memory together stay below it [bytes]; ``None`` for the default.
    """

    def __init__(self, limit: int | None = None) -> None:
        self._limit = limit
        self._kept: OrderedDict[Hashable, T] = OrderedDict()
        own_locks(self)

    @property
    def last(self) -> T | None:
        """What was used last."""
        with self._lock:
            return next(reversed(self._kept.values())) if self._kept else None

    @property
    def all(self) -> list[T]:
        """Everything that is kept."""
        with self._lock:
            return list(self._kept.values())

    def find(self, key: Hashable, make: Callable[[], T]) -> T:
        """What is kept for a key; made now where there is nothing."""
        with self._lock:
            found = self._kept.get(key)
            if found is not None:
                self._kept.move_to_end(key)
                return found
            turn = self._turns.setdefault(key, threading.Lock())
        with turn:
            try:
                with self._lock:
                    found = self._kept.get(key)
                return self._keep(key, make()) if found is None else found
            finally:
                with self._lock:
                    self._turns.pop(key, None)

    def _keep(self, key: Hashable, made: T) -> T:
        limit = find_memory_limit(self._limit)
        with self._lock:
            self._kept[key] = made
            while len(self._kept) > 1 and (
                len(self._kept) > MOST_KEPT
                or sum(item.arena_bytes + item.constant_bytes for item in self._kept.values()) > limit
            ):
                self._kept.popitem(last=False)
        return made

    def forget_locks(self) -> None:
        """Begin with locks that nobody holds: at first, and in the child of a fork."""
        self._lock = threading.Lock()
        self._turns: dict[Hashable, threading.Lock] = {}
