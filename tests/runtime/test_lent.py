"""Runs on threads that another library lends, and on memory at addresses."""

from __future__ import annotations

import ctypes
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from tests.runtime.ring import Kernels, make_table

import omniconv as oc
from omniconv.gradients import compile_forward
from omniconv.runtime import threads
from omniconv.runtime.arena import ArenaPool
from omniconv.runtime.threads import Job, run_on_lent

MEMBER = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
PARALLEL = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint)


class Lender:
    """What lends threads: as many as asked for, or so many fewer."""

    def __init__(self, fewer: int = 0) -> None:
        self.fewer, self.asked = fewer, []
        self._function = PARALLEL(self._lend)  # lives as long as its address is used
        self.address = ctypes.cast(self._function, ctypes.c_void_p).value or 0

    def _lend(self, member: int, control: int, many: int, flags: int) -> None:
        self.asked.append((many, flags))
        with ThreadPoolExecutor(many) as pool:
            for _ in range(many - self.fewer):
                pool.submit(MEMBER(member), control)


@pytest.mark.parametrize(("many", "fewer"), [(2, 0), (3, 0), (3, 1), (4, 3)])
@pytest.mark.parametrize("units", [0, 1, 7, 100])
def test_lent_threads_do_every_unit_once(many: int, fewer: int, units: int, kernels: Kernels) -> None:
    counts = np.zeros(units + 1, np.int64)
    args = np.array([counts.ctypes.data], np.int64)
    table = make_table([(kernels.count.address, args.ctypes.data, units, 0)] * 3)
    job, times, lender = Job(), np.zeros(4, np.int64), Lender(fewer)
    for _ in range(5):
        job.set(table.ctypes.data, 3, times.ctypes.data)
        run_on_lent(lender.address, many, job)
    assert counts.tolist() == [15] * units + [0]
    assert lender.asked == [(many, 0)] * 5
    assert (np.diff(times) >= 0).all()
    assert times[0] > 0


def compiled(many: int) -> tuple[oc.Executable, list[np.ndarray], np.ndarray]:
    """A layer with enough work to be shared, its arrays, and what it gives by itself."""
    rng = np.random.default_rng(0)
    spec, shape = oc.depthwise(in_channels=32, kernel_size=3, padding=1), (1, 32, 48, 48)
    arrays = [rng.standard_normal(size).astype(np.float32) for size in (shape, spec.weight_shape, (32,))]
    net = compile_forward(spec, shape, threads=many)
    return net, arrays, net.run(dict(zip(net.inputs, arrays)))["y"]


@pytest.mark.parametrize("borrows", [False, True])
@pytest.mark.parametrize("many", [1, 2, 3])
def test_arrays_at_addresses(many: int, borrows: bool) -> None:
    net, arrays, want = compiled(many)
    lender = Lender()
    if borrows:
        net.borrow(ArenaPool(), lender.address)
    for _ in range(3):
        y = np.full_like(want, np.nan)
        net.run_at([array.ctypes.data for array in (*arrays, y)])
        assert np.array_equal(y, want)
        assert np.array_equal(net.run(dict(zip(net.inputs, arrays)))["y"], want), "the other way after it"
    assert len(lender.asked) == (6 if borrows and many > 1 else 0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_the_child_of_a_fork_borrows_no_threads() -> None:
    """Those of the parent are gone, and whoever lends them may wait for them for ever."""
    net, arrays, want = compiled(2)
    lender = Lender()
    net.borrow(ArenaPool(), lender.address)
    child = os.fork()
    if child == 0:
        y = np.full_like(want, np.nan)
        net.run_at([array.ctypes.data for array in (*arrays, y)])
        os._exit(0 if np.array_equal(y, want) and not lender.asked and threads._is_child else 1)
    assert os.waitpid(child, 0)[1] == 0
