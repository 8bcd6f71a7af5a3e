"""Arrays that end at a page which may not be touched: one element too far is a crash, not a wrong number."""

from __future__ import annotations

import ctypes
import errno
import mmap
import sys

import numpy as np

_PAGE = mmap.PAGESIZE


def guarded(size, fill=np.nan, dtype=np.float32):
    """A 1-D array of ``size`` elements whose last byte is the last of a page, before a page without access.

    Where memory cannot be protected (no ``mprotect``, or a process that has as many pieces of memory as it may) it is
    an ordinary array.
    """
    nbytes = int(size) * np.dtype(dtype).itemsize
    if sys.platform == "win32":
        return np.full(size, fill, dtype)
    pages = -(nbytes // -_PAGE) + 2
    memory = mmap.mmap(-1, pages * _PAGE)
    base = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    for page in (0, pages - 1):
        if libc.mprotect(base + page * _PAGE, _PAGE, 0) != 0:
            if ctypes.get_errno() == errno.ENOMEM:
                return np.full(size, fill, dtype)
            raise OSError(ctypes.get_errno(), "mprotect")
    array = np.frombuffer(memory, dtype, count=int(size), offset=(pages - 1) * _PAGE - nbytes)
    array[:] = fill
    return array
