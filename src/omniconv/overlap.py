"""Reading, working and writing at once: a thread each, with one place between two of them."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable
from typing import Any, Final, TypeVar

PATIENCE: Final = 0.1
"""How long a thread waits before it looks whether another has failed [s]."""

A = TypeVar("A")
B = TypeVar("B")


def overlap(
    read: Iterable[A],
    work: Callable[[A], B],
    write: Callable[[B], object],
    name: str = "omniconv",
    relay: Relay | None = None,
) -> None:
    """Write what work makes of what is read, in order.

    ``read`` goes on in a thread and ``write`` is called in another, while the caller's thread works. The first failure,
    or an interrupt, ends all three and is raised; nothing of them goes on after that.

    Args:
        read, work, write: what is done.
        name: of the threads.
        relay: by which they wait for one another, should they do so by themselves, too.

    Example:
        >>> found = []
        >>> overlap(range(4), lambda n: n * n, found.append)
        >>> found
        [0, 1, 4, 9]
    """
    relay = relay or Relay()
    given: queue.Queue[Any] = queue.Queue(1)
    made: queue.Queue[Any] = queue.Queue(1)
    written = threading.Event()

    def go_read() -> None:
        for item in read:
            relay.put(given, (item,))
            del item  # not held while the next one is read
        relay.put(given, None)

    def go_work() -> None:
        while (item := relay.get(given)) is not None:
            relay.put(made, (work(item[0]),))
            del item
        relay.put(made, None)
        # An interrupt comes here rather than in a join, after which the thread would be left alone with what it writes.
        while not relay.failed.is_set() and not written.wait(PATIENCE):
            pass

    def go_write() -> None:
        while (item := relay.get(made)) is not None:
            write(item[0])
            del item
        written.set()

    threads = [
        threading.Thread(target=relay.guard, args=(part,), name=f"{name} {what}", daemon=True)
        for what, part in (("read", go_read), ("write", go_write))
    ]
    for thread in threads:
        thread.start()
    relay.guard(go_work)
    for thread in threads:
        thread.join()
    if relay.error is not None:
        raise relay.error


class Relay:
    """Hands items over until something fails."""

    def __init__(self) -> None:
        self.failed = threading.Event()
        self.error: BaseException | None = None

    def guard(self, part: Callable[[], None]) -> None:
        """Run a thread's part; the first failure ends all."""
        try:
            part()
        except _StoppedError:
            pass
        except BaseException as error:  # noqa: BLE001 - raised again by the thread that called
            if self.error is None:
                self.error = error
            self.failed.set()

    def put(self, place: queue.Queue[Any], item: object) -> None:
        """Wait until the place is free."""
        while not self.failed.is_set():
            try:
                place.put(item, timeout=PATIENCE)
            except queue.Full:
                continue
            return
        raise _StoppedError

    def get(self, place: queue.Queue[Any]) -> Any:
        """Wait until something is there."""
        while not self.failed.is_set():
            try:
                return place.get(timeout=PATIENCE)
            except queue.Empty:
                continue
        raise _StoppedError


class _StoppedError(Exception):
    """Another thread has failed."""
