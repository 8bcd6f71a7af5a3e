"""LLVM, entered by several threads at once.

llvmlite lets one thread into LLVM at a time. LLVM itself asks only that threads have nothing in common, and each kernel
is compiled in a context and by a machine of its own. So the calls that take nearly all of the time are opened to the
threads that compile: in there, such a thread holds a lock of its own in place of llvmlite's, and a fork takes all of
them, since its child must not inherit LLVM with somebody inside. All other threads, and all other libraries, queue as
before.
"""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager, suppress
from itertools import count
from typing import Any, Final

import llvmlite.binding as llvm

from omniconv.processors import count_cpus

MOST: Final = 4
"""Threads inside at once, at most: more would wait for Python, which writes what they compile."""
CALLS: Final = ("LLVMPY_ParseAssembly", "LLVMPY_RunNewModulePassManager", "LLVMPY_TargetMachineEmitToMemory")

LOCKS: Final = tuple(threading.Lock() for _ in range(MOST))
_number = count()
_own = threading.local()


class _Door:
    """Stands in the place of llvmlite's lock before one call."""

    def __init__(self, lock: AbstractContextManager[Any]) -> None:
        self._lock = lock

    def __enter__(self) -> None:
        self._find().__enter__()

    def __exit__(self, *_: object) -> None:
        self._find().__exit__(None, None, None)

    def _find(self) -> AbstractContextManager[Any]:
        return getattr(_own, "lock", self._lock)


def count_compilers() -> int:
    """Threads that compile: one for each processor that this process may use."""
    return min(MOST, count_cpus())


def enter() -> None:
    """Let this thread into LLVM beside others. It has to compile in contexts of its own."""
    _own.lock = LOCKS[next(_number) % MOST]


def find_inner() -> list[AbstractContextManager[Any]]:
    """llvmlite's own lock; none where llvmlite keeps it elsewhere."""
    with suppress(AttributeError):
        return [llvm.ffi.lib._lock]  # noqa: SLF001
    return []


def _open() -> None:
    """Put a door before each call; where llvmlite keeps its lock elsewhere, threads go on queuing."""
    for name in CALLS:
        with suppress(AttributeError):
            call = getattr(llvm.ffi.lib, name)
            call._lock = _Door(call._lock)  # noqa: SLF001


_open()
