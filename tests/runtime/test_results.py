"""Results: memory that somebody holds, in whatever way, is never written again."""

from __future__ import annotations

import gc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import omniconv as oc
from omniconv.runtime.results import LARGE, MOST_BYTES, MOST_KEPT, Results

FLOAT = np.dtype("float32")
SHAPE = (LARGE // 4,)


def address(array: np.ndarray) -> int:
    return array.ctypes.data


@pytest.mark.parametrize(
    "hold",
    [
        lambda array: array, lambda array: array[10:20], lambda array: array.reshape(2, -1).T, memoryview,
        lambda array: array.view(np.int32)[::2], lambda array: np.asarray(memoryview(array)), np.from_dlpack,
        lambda array: [array[None]],
    ],
    ids=["itself", "part", "transposed", "buffer", "other type", "array of a buffer", "dlpack", "in a list"],
)  # fmt: skip
def test_what_is_held_is_not_lent_again(hold):
    room = Results([SHAPE], FLOAT)
    first = room.take(0)
    place, held = address(first), hold(first)
    del first
    others = [room.take(0) for _ in range(2 * MOST_KEPT)]
    assert place not in map(address, others)
    del held
    gc.collect()
    assert place in [address(room.take(0)) for _ in range(1)]


def test_tensors_hold_it():
    torch = pytest.importorskip("torch")
    room = Results([SHAPE], FLOAT)
    first = room.take(0)
    place, tensor = address(first), torch.from_numpy(first)[5:]
    del first
    assert address(room.take(0)) != place
    del tensor
    assert address(room.take(0)) == place


def test_only_large_results_are_kept_and_not_too_many_bytes():
    half = MOST_BYTES // MOST_KEPT // 4
    room = Results([(LARGE // 4 - 1,), (half // 2,), (half,), (half // 2,)], FLOAT)
    assert [kept is not None for kept in room._kept] == [False, True, False, True]


def test_threads_never_share_a_result():
    spec = oc.pointwise(in_channels=2, out_channels=16)
    w = np.ones((16, 2, 1, 1), np.float32)
    f = oc.compile(spec, (1, 2, 160, 160), (w, None))

    def work(number: int) -> bool:
        right = True
        for turn in range(20):
            value = 100.0 * number + turn
            y = f(np.full((1, 2, 160, 160), value, np.float32))
            kept = y[:, 3]
            right = right and bool((kept == 2 * value).all()) and bool((y == 2 * value).all())
        return right

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(4)))


def test_results_outlive_what_made_them():
    room = Results([SHAPE], FLOAT)
    first = room.take(0)
    first[:] = 7
    del room
    gc.collect()
    assert (first == 7).all()
    assert first.flags.writeable
    assert first.flags.c_contiguous
