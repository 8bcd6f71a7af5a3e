from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import omniconv as oc
from omniconv.runtime.results import LARGE, MOST_KEPT, Results

SHAPE = (1, 4, 2, LARGE // 32)
"""Of a result of exactly the size from which on it is kept."""

HOLDERS: dict[str, Callable[[Any], Any]] = {
    "itself": lambda y: y,
    "a row": lambda y: y[0, 1:3],
    "a view of a view": lambda y: y[0][1:][:, ::-1],
    "flat": lambda y: y.ravel(),
    "other axes": lambda y: y.transpose(3, 2, 1, 0),
    "other bits": lambda y: y.view(np.int32),
    "a broadcast": lambda y: np.broadcast_to(y, (3, *y.shape)),
    "what it is a view of": lambda y: y.base,
    "a buffer": memoryview,
    "an array of a buffer": lambda y: np.frombuffer(y, np.uint8),
    "an array over its base": lambda y: np.ndarray((3,), np.float32, buffer=y.base),
    "a capsule": lambda y: y.__dlpack__(),
    "an exchanged array": np.from_dlpack,
    "an iterator": lambda y: y.flat,
    "another class": lambda y: np.ma.array(y, copy=False),
}


def shift(by: float) -> oc.Executable:
    """A layer that adds a number."""
    weights = np.ones((4, 1, 1, 1), np.float32), np.full(4, by, np.float32)
    return oc.compile(oc.depthwise(in_channels=4, kernel_size=1), SHAPE, weights)


@pytest.mark.parametrize("holder", HOLDERS)
def test_what_is_held_is_never_written(holder: str) -> None:
    results = Results([SHAPE], np.dtype(np.float32))
    result = results.take(0)
    where = result.ctypes.data
    held = HOLDERS[holder](result)
    del result
    others = [results.take(0) for _ in range(2 * MOST_KEPT)]
    assert where not in [other.ctypes.data for other in others]
    del held, others
    gc.collect()
    assert where in [results.take(0).ctypes.data for _ in range(MOST_KEPT)]


def test_tensors_hold_results() -> None:
    torch = pytest.importorskip("torch")
    f, x = shift(1.0), np.zeros(SHAPE, np.float32)
    tensors = [torch.from_numpy(f(x + n))[0, n:].T for n in range(3)] + [
        torch.from_dlpack(f(x + n)[:, 1]) for n in range(3)
    ]
    for n, tensor in enumerate(tensors):
        assert bool((tensor == n % 3 + 1).all())


def test_parts_of_results_outlive_many_calls() -> None:
    f, x = shift(1.0), np.zeros(SHAPE, np.float32)
    rows = [row for n in range(6) for row in f(x + n)[0]]
    for index, row in enumerate(rows):
        assert np.all(row == index // 4 + 1)
    y = f(f(f(x)))  # results of which the last holder is the call that reads them
    assert np.all(y == 3)


def test_threads_that_keep_parts() -> None:
    f, x, wrong = shift(1.0), np.zeros(SHAPE, np.float32), []

    def work(number: int) -> None:
        kept: list[tuple[int, Any]] = []
        for turn in range(12):
            value = 100 * number + turn
            kept.append((value, f(x + value)[0, turn % 4]))
            kept = kept[-3:]
            wrong.extend(value for value, part in kept if not np.all(part == value + 1))

    team = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in team:
        thread.start()
    for thread in team:
        thread.join()
    assert not wrong
