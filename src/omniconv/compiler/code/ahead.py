"""Compiling ahead: LLVM works on kernels that are written while Python writes the next ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Generic, TypeVar

from omniconv.forks import own_locks

T = TypeVar("T")


class Ahead(Generic[T]):
    """What threads make ahead, by key, until it is taken. Thread-safe, and empty in the child of a fork.

    Args:
        threads: how many, at most.
        enter: what each of them does first.
    """

    def __init__(self, threads: int = 1, enter: Callable[[], None] | None = None) -> None:
        self._threads, self._enter = threads, enter
        own_locks(self)

    def begin(self, key: str, make: Callable[[], T]) -> None:
        """Have something made, unless it is being made. At the end of the interpreter, where no thread starts any more,
        nothing is: whoever needs it makes it.
        """
        if key not in self._begun:
            with suppress(RuntimeError):
                self._begun[key] = self._pool.submit(make)

    def keep(self, key: str, made: T) -> None:
        """File what is made already."""
        future: Future[T] = Future()
        future.set_result(made)
        self._begun[key] = future

    def has(self, key: str) -> bool:
        """Whether something was begun that nobody has taken."""
        return key in self._begun

    def take(self, key: str) -> T | None:
        """What was begun, once it is there; ``None`` where nothing was. What its function raises is raised here."""
        begun = self._begun.pop(key, None)
        try:
            return None if begun is None else begun.result()
        except CancelledError:
            return None

    def forget(self, keys: Iterable[str] | None = None) -> None:
        """Drop what was begun for these keys, or for all; what waits is not made any more."""
        for key in [*self._begun] if keys is None else keys:
            begun = self._begun.pop(key, None)
            if begun is not None:
                begun.cancel()

    def forget_locks(self) -> None:
        """Begin with nothing: at first, and in the child of a fork, where the threads are gone."""
        self._begun: dict[str, Future[T]] = {}
        self._pool = ThreadPoolExecutor(self._threads, "omniconv-compile", self._enter)
