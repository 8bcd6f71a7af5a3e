"""Sets of positions as runs, against sets of Python."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.analysis.dags import many

from omniconv.analysis.runs import add, clip, contains, count, divide, join, move, read, scale, wrap
from omniconv.errors import LimitError
from omniconv.limits import VARIABLE
from omniconv.spec import Axis

positions = st.sets(st.integers(-30, 30), max_size=12)
some = st.sets(st.integers(-30, 30), min_size=1, max_size=12)


def runs_of(found):
    return join((o, o) for o in found)


def expand(runs):
    for (_, last), (first, _) in itertools.pairwise(runs):
        assert last + 1 < first  # sorted, and no two touch
    assert all(first <= last for first, last in runs)
    return {o for first, last in runs for o in range(first, last + 1)}


@many
@given(positions, positions, st.integers(-5, 5), st.integers(1, 7))
def test_operations(a, b, shift, size):
    runs, other = runs_of(a), runs_of(b)
    assert expand(runs) == a
    assert count(runs) == len(a)
    assert expand(join(runs + other)) == a | b
    assert contains(runs, other) == (b <= a)
    assert expand(move(runs, shift)) == {o + shift for o in a}
    assert expand(clip(runs, size)) == {o for o in a if 0 <= o < size}
    assert expand(divide(runs, size)) == {o // size for o in a}
    assert expand(wrap(runs, size)) == {o % size for o in a}
    assert expand(scale(runs, shift or 3, size)) == {o * (shift or 3) + size for o in a}


@many
@given(some, some)
def test_sums(a, b):
    assert expand(add(runs_of(a), runs_of(b))) == {x + y for x in a for y in b}


@many
@given(
    positions,
    st.builds(
        Axis,
        st.integers(1, 5),
        st.integers(1, 5),
        st.integers(1, 4),
        st.tuples(st.integers(0, 6), st.just(0)),
        st.booleans(),
    ),
)
def test_taps(outputs, axis):
    """The definition: y[o] reads x[o s + t d - p]; transposed, y[i s + t d - p] reads x[i]."""
    s, d, p = axis.stride, axis.dilation, axis.padding[0]
    taps = range(axis.kernel)
    if axis.transposed:
        wanted = {i for i in range(-60, 61) if any(i * s + t * d - p in outputs for t in taps)}
    else:
        wanted = {o * s + t * d - p for o in outputs for t in taps}
    assert expand(read(runs_of(outputs), axis)) == wanted


def test_memory_is_bounded(monkeypatch):
    monkeypatch.setenv(VARIABLE, "1M")
    with pytest.raises(LimitError, match="a receptive field of 100001 pieces needs"):
        scale(((0, 100_000),), 2, 0)
