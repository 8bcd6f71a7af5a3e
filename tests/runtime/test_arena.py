from __future__ import annotations

import gc
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import omniconv as oc
from omniconv.errors import LimitError, ShapeError, SpecError
from omniconv.runtime.arena import HUGE_PAGE, PAGE, Arena, ArenaPool

STATM = Path("/proc/self/statm")


@pytest.mark.parametrize("size", [0, 1, PAGE, PAGE + 1, 3 * 2**20 - 1, 4 * HUGE_PAGE + 5])
def test_zeroed_and_aligned(size: int) -> None:
    arena = Arena(size)
    assert arena.size >= max(size, 1)
    assert arena.size - size <= PAGE
    assert len(arena) == arena.size
    assert arena.address % (HUGE_PAGE if size >= 2 * HUGE_PAGE else PAGE) == 0
    assert not arena.view(0, (arena.size,), np.uint8).any()


@pytest.mark.parametrize("alignment", [1, 64, PAGE, 2**14, 2**20])
def test_alignment(alignment: int) -> None:
    arena = Arena(10_000, alignment=alignment)
    assert arena.address % max(alignment, PAGE) == 0
    arena.view(0, (arena.size,), np.uint8)[:] = 255


@pytest.mark.skipif(not STATM.exists(), reason="no /proc")
def test_untouched_pages_cost_nothing() -> None:
    before = int(STATM.read_text().split()[1])
    arena = Arena(2**30, limit=2**31)
    arena.view(0, (1,))[0] = 1
    assert (int(STATM.read_text().split()[1]) - before) * PAGE < 2**26


def test_views_are_windows_on_the_block() -> None:
    arena = Arena(PAGE)
    whole = arena.view(0, (PAGE // 4,))
    part = arena.view(64, (2, 3))
    assert part.ctypes.data == arena.address + 64
    assert part.dtype == np.float32
    part[1, 2] = 5
    assert whole[16 + 5] == 5
    assert arena.view(PAGE, (0,)).size == 0
    assert arena.view(8, (), np.int64).shape == ()


@pytest.mark.parametrize(
    ("offset", "shape", "dtype"),
    [
        (-4, (1,), "f4"),
        (2, (1,), "f4"),
        (0, (PAGE,), "f4"),
        (PAGE - 4, (2,), "f4"),
        (PAGE, (1,), "u1"),
        (0, (-1, -4), "f4"),
        (4, (1,), "f8"),
    ],
)
def test_views_stay_inside(offset: int, shape: tuple[int, ...], dtype: str) -> None:
    with pytest.raises(ShapeError, match="outside an arena of 4096 bytes"):
        Arena(PAGE).view(offset, shape, np.dtype(dtype))


def test_a_view_keeps_the_memory() -> None:
    view = Arena(PAGE).view(0, (PAGE // 4,))
    gc.collect()
    view[:] = 3
    assert view.sum() == 3 * PAGE // 4


def test_limits_come_before_the_allocation() -> None:
    with pytest.raises(LimitError, match=r"working memory needs 1\.0 TiB, .* 1\.0 MiB.* \| net 5"):
        Arena(2**40, limit=2**20, at="net 5")
    with pytest.raises(LimitError, match="no room"):
        Arena(2**62, limit=2**63)
    for size, alignment in ((-1, 64), (1, 0), (1, 48)):
        with pytest.raises(SpecError, match="power of two"):
            Arena(size, alignment=alignment)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_the_child_of_a_fork_has_a_copy() -> None:
    arena = Arena(PAGE)
    view = arena.view(0, (1,), np.int64)
    view[0] = 1
    child = os.fork()
    if child == 0:
        view[0] += 1
        os._exit(int(view[0]))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 2
    assert view[0] == 1


def test_a_pool_keeps_what_is_large_enough() -> None:
    pool = ArenaPool()
    first = pool.take(100)
    second = pool.take(3 * PAGE)
    assert first.address != second.address
    assert pool.size == 0
    pool.give(first)
    pool.give(second)
    assert pool.size == first.size + second.size
    assert pool.take(2 * PAGE) is second
    large = pool.take(10 * PAGE)
    assert large is not first
    assert pool.size == 0, "a block that is too small is given up"


def test_executables_that_share_their_memory() -> None:
    """Each in turn, in a profile, and at once on several threads: the results are those of memory of their own."""
    pool, rng = ArenaPool(), np.random.default_rng(0)
    made = []
    for spec in (oc.depthwise(20, 5, padding=2), oc.depthwise_separable(12, 9, 3, padding=1)):
        shape = (2, spec.in_channels, 19, 17)
        weights, x = oc.random_weights(spec, rng), rng.standard_normal(shape).astype(np.float32)
        net = oc.compile(spec, shape, weights)
        want = net(x)
        net.borrow(pool)
        made.append((net, x, want))
    assert all(np.array_equal(net(x), want) for net, x, want in made * 2)
    largest = max(net.arena_bytes for net, _, _ in made)
    assert largest <= pool.size < largest + 2 * PAGE, "one block serves both"
    for net, x, want in made:
        assert net.profile(x, 2)
        assert np.array_equal(next(iter(net.run({"x": x}).values())), want)
    with ThreadPoolExecutor(4) as threads:
        jobs = [threads.submit(net, x) for net, x, _ in made * 8]
        for job, (_, _, want) in zip(jobs, made * 8):
            assert np.array_equal(job.result(), want)
