"""What the driver needs of the operating system: semaphores, giving up a time slice, a clock, the processor it runs on.

Each is the address of a C function that native code calls; a semaphore is a handle, a pointer-sized number.

=============  ========================  ===========================  ===================
..             Linux and other POSIX     macOS                        Windows
=============  ========================  ===========================  ===================
wait           sem_wait                  dispatch_semaphore_wait      WaitForSingleObject
post           sem_post                  dispatch_semaphore_signal    ReleaseSemaphore
yield          sched_yield               sched_yield                  SwitchToThread
clock          clock_gettime             clock_gettime                QueryPerformanceCounter
cpu            sched_getcpu, or none     none                         none
=============  ========================  ===========================  ===================
"""

from __future__ import annotations

import ctypes
import sys
from functools import lru_cache
from typing import Final

from omniconv.records import dataclass

SEMAPHORE_BYTES: Final = 64
"""Room for a POSIX semaphore; 16 to 32 bytes where it is known."""


@dataclass(frozen=True, slots=True)
class System:
    """Addresses of the functions in the table above (0: none), and how to read the clock."""

    wait: int
    post: int
    give: int
    clock: int
    cpu: int
    clock_kind: str
    tick_seconds: float


@lru_cache(maxsize=1)
def detect_system() -> System:
    """The functions of this operating system."""
    if sys.platform == "win32":
        names = ("WaitForSingleObject", "ReleaseSemaphore", "SwitchToThread", "QueryPerformanceCounter")
        library: ctypes.CDLL = ctypes.WinDLL("kernel32")
        frequency = ctypes.c_int64()
        library.QueryPerformanceFrequency(ctypes.byref(frequency))
        kind, tick = "windows", 1 / frequency.value
    elif sys.platform == "darwin":
        names = ("dispatch_semaphore_wait", "dispatch_semaphore_signal", "sched_yield", "clock_gettime")
        library, kind, tick = ctypes.CDLL(None), "mac", 1e-9
    else:
        names = ("sem_wait", "sem_post", "sched_yield", "clock_gettime")
        library, kind, tick = ctypes.CDLL(None), "posix", 1e-9
    wait, post, give, clock = (ctypes.cast(getattr(library, name), ctypes.c_void_p).value or 0 for name in names)
    get_cpu = _getcpu()
    cpu = 0 if get_cpu is None else ctypes.cast(get_cpu, ctypes.c_void_p).value or 0
    return System(wait, post, give, clock, cpu, kind, tick)


def make_semaphore(room: int) -> int:
    """A semaphore that counts from zero; returns its handle.

    Args:
        room: address of :data:`SEMAPHORE_BYTES` bytes that live as long as it; used on POSIX, where that is the handle.
    """
    if sys.platform == "win32":
        create = ctypes.WinDLL("kernel32").CreateSemaphoreW
        create.restype = ctypes.c_void_p
        handle = create(None, 0, 2**31 - 1, None)
        if not handle:
            raise OSError("the system has no more semaphores")
        return int(handle)
    library = ctypes.CDLL(None, use_errno=True)
    if sys.platform == "darwin":
        create = library.dispatch_semaphore_create
        create.restype = ctypes.c_void_p
        return int(create(ctypes.c_long(0)))
    if library.sem_init(ctypes.c_void_p(room), 0, 0):
        raise OSError(ctypes.get_errno(), "the system has no more semaphores")
    return room


def free_semaphore(handle: int) -> None:
    """Give back a semaphore that nobody waits for."""
    if sys.platform == "win32":
        ctypes.WinDLL("kernel32").CloseHandle(ctypes.c_void_p(handle))
    elif sys.platform == "darwin":
        ctypes.CDLL(None).dispatch_release(ctypes.c_void_p(handle))
    else:
        ctypes.CDLL(None).sem_destroy(ctypes.c_void_p(handle))


@lru_cache(maxsize=1)
def _getcpu() -> ctypes._NamedFuncPointer | None:
    return None if sys.platform in ("win32", "darwin") else getattr(ctypes.CDLL(None), "sched_getcpu", None)


def current_cpu() -> int:
    """The processor that this thread runs on just now; -1 where the system does not tell."""
    get = _getcpu()
    return -1 if get is None else int(get())
