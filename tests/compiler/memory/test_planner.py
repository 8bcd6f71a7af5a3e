"""Copies that the planner decides on: shuffles as transposes, and pixels that crowd the first-level cache."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.compiler.planning.test_plan import plan_spec, words

from omniconv.compiler.lowering.arrange import find_lattice
from omniconv.spec import Conv


@given(st.integers(-9, 9), st.integers(1, 5), st.integers(-7, 7), st.integers(1, 5), st.integers(-7, 7))
def test_nested_loops_are_found(first: int, outer: int, so: int, inner: int, si: int) -> None:
    positions = [first + i * so + j * si for i in range(outer) for j in range(inner)]
    found = find_lattice(positions)
    assert (found is None) == (len(positions) == 1)
    if found is None:
        return
    (rounds, far), (length, near) = found
    assert [first + i * far + j * near for i in range(rounds) for j in range(length)] == positions


def test_shuffles_are_found() -> None:
    assert find_lattice([0, 4, 1, 5, 2, 6, 3, 7]) == ((4, 1), (2, 4))
    assert find_lattice([7, 6, 5, 4]) == ((1, 0), (4, -1))
    assert find_lattice([5]) is None
    assert find_lattice([0, 2, 1, 3, 4, 6, 5, 7]) is None, "three loops"
    assert find_lattice([0, 1, 2, 3, 5]) is None


@pytest.mark.parametrize(
    ("channels", "kernel", "width", "copied"),
    [
        (256, 3, 20, False),  # 30 pixels under a tile, 32 fit
        (256, 5, 20, False),  # parts of the channels are staged
        (256, 5, 1000, True),  # a part overflows the second-level cache
        (512, 3, 20, True),
        (512, 1, 20, False),  # one pixel at a time
        (520, 5, 20, False),  # pixels in different sets
        (512, 3, 3, False),  # too few pixels
    ],
)
def test_crowded_pixels_are_spread(channels: int, kernel: int, width: int, copied: bool) -> None:
    spec = Conv.of(channels, channels, kernel, padding=kernel // 2, groups=channels)
    assert words(plan_spec(spec, (1, channels, 20, width))) == ["copy"] * copied + ["lane"]


def test_values_of_its_own_are_never_crowded() -> None:
    spec = Conv.of(512, 512, 3, padding=1, stride=3, groups=512)
    assert words(plan_spec(spec, (1, 512, 20, 20), layout="NCHW")) == ["copy", "lane", "copy"]
