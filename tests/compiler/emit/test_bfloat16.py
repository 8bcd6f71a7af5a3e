"""Numbers kept as bfloat16: what a kernel reads and writes, against NumPy and against the rule itself."""

from __future__ import annotations

import numpy as np
import pytest
from tests.compiler.harness import TARGETS, build
from tests.program_oracle import rounded

from omniconv.compiler.lowering.copy import Copy
from omniconv.program.bfloat16 import narrow, round_to_bfloat16, widen

EDGES = np.array(
    [0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF, 0x10000, 0x18000, 0x18001, 0x7F7FFFFF, 0x7F7F7FFF, 0x7F7F8000, 0x7F800000,
     0x7F800001, 0x7FC00000, 0x7FFFFFFF, 0x3F808000, 0x3F818000, 0x00800000, 0x007FFFFF],
    np.uint32,
)  # fmt: skip
"""Bits of float32: halves between numbers and beside them, the largest, infinity, NaN, and those below the normal."""


def floats() -> np.ndarray:
    bits = np.concatenate([EDGES, EDGES | 2**31, np.random.default_rng(0).integers(0, 2**32, 977, np.uint32)])
    return bits.view(np.float32)


def test_numpy_rounds_by_the_rule() -> None:
    x = floats()
    np.testing.assert_array_equal(round_to_bfloat16(x).astype(np.float64), rounded(x))
    every = np.arange(2**16, dtype=np.uint16)
    finite = ~np.isnan(widen(every))
    np.testing.assert_array_equal(narrow(widen(every))[finite], every[finite])
    assert np.isnan(widen(narrow(widen(every)[~finite]))).all()


@pytest.mark.parametrize("target", TARGETS, ids=str)
def test_kernels_round_and_widen(target) -> None:
    """Vectors, single numbers and rests of vectors, in and out, at any distance."""
    x = floats()
    size = x.size  # no multiple of a vector
    halves, back = np.zeros(size + 32, np.uint16), np.zeros(size, np.float32)
    build(Copy.of(((size, 1, 1),), target.lanes), target.keeping((1,)))([x, halves])
    np.testing.assert_array_equal(halves[:size], narrow(x))
    assert not halves[size:].any()
    build(Copy.of(((size, 1, 1),), target.lanes), target.keeping((0,)))([halves, back])
    np.testing.assert_array_equal(back, widen(narrow(x)))
    # A transpose, and numbers one by one.
    for dims in (((7, 31, 1), (31, 1, 7)), ((31, 3, 2), (7, 93, 62))):
        wide = np.zeros(7 * 93 + 32, np.float32)
        build(Copy.of(dims, target.lanes), target.keeping((0,)))([halves, wide])
        got = np.zeros_like(wide)
        for i in range(dims[0][0]):
            for j in range(dims[1][0]):
                at = i * dims[0][2] + j * dims[1][2]
                got[at] = widen(halves)[i * dims[0][1] + j * dims[1][1]]
        np.testing.assert_array_equal(wide, got)
