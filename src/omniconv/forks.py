"""Locks after a fork: in the child, the threads that held them are gone."""

from __future__ import annotations

import os
from typing import Final, Protocol
from weakref import WeakSet


class Lockable(Protocol):
    """What has locks of its own."""

    def forget_locks(self) -> None:
        """Begin with locks that nobody holds: at first, and in the child of a fork."""


_OWNERS: Final[WeakSet[Lockable]] = WeakSet()


def own_locks(owner: Lockable) -> None:
    """Make the locks of ``owner``, now and anew in every child of a fork for as long as it lives."""
    owner.forget_locks()
    _OWNERS.add(owner)


def _forget_after_fork() -> None:
    for owner in _OWNERS:
        owner.forget_locks()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_after_fork)
