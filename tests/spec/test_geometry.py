"""Sizes, taps, phases and intervals of one axis, against loops."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniconv.spec import Axis
from omniconv.spec.geometry import count_extent, plan_same_padding


@st.composite
def axes(draw):
    """An axis and an input size with at least one output."""
    transposed = draw(st.booleans())
    kernel, stride, dilation = draw(st.integers(1, 7)), draw(st.integers(1, 5)), draw(st.integers(1, 5))
    before, after = draw(st.integers(0, 12)), draw(st.integers(0, 12))
    extra = draw(st.integers(0, max(stride, dilation) - 1)) if transposed else 0
    axis = Axis(kernel, stride, dilation, (before, after), transposed, extra, draw(st.booleans()))
    size = draw(st.integers(1, 20))
    while axis.infer_output(size) < 1:
        size += 1
    return axis, size


def pairs(axis, size):
    """(output, kernel index, input) triples by the textbook formula, inside the input only."""
    found = set()
    outputs = axis.infer_output(size)
    for tap in range(axis.kernel):
        index = axis.kernel - 1 - tap if axis.flip else tap
        if axis.transposed:
            for i in range(size):
                o = i * axis.stride + tap * axis.dilation - axis.padding[0]
                if 0 <= o < outputs:
                    found.add((o, index, i))
        else:
            for o in range(outputs):
                i = o * axis.stride + tap * axis.dilation - axis.padding[0]
                if 0 <= i < size:
                    found.add((o, index, i))
    return found


@given(axes())
def test_phases_cover_every_output_once(problem):
    axis, size = problem
    covered = [o for phase in axis.phases(size) for o in phase.outputs()]
    assert sorted(covered) == list(range(axis.infer_output(size)))
    assert all(phase.count >= 1 for phase in axis.phases(size))


@given(axes())
def test_phases_hold_exactly_the_taps_of_the_formula(problem):
    axis, size = problem
    found = set()
    for phase in axis.phases(size):
        for index, offset in phase.taps:
            low, high = phase.inside(offset, size)
            assert 0 <= low <= high <= phase.count
            for q in range(phase.count):
                i = q * phase.in_step + offset
                assert (0 <= i < size) == (low <= q < high)
                if 0 <= i < size:
                    found.add((phase.outputs()[q], index, i))
    assert found == pairs(axis, size)


@given(axes())
def test_taps_are_arithmetic_progressions(problem):
    axis, size = problem
    for phase in axis.phases(size):
        for column in zip(*phase.taps, strict=True):
            assert len({b - a for a, b in pairwise(column)}) <= 1


@given(axes(), st.integers(0, 30), st.integers(0, 30))
def test_hull_holds_what_is_read_and_is_tight(problem, first, span):
    axis, size = problem
    outputs = axis.infer_output(size)
    first = min(first, outputs - 1)
    last = min(first + span, outputs - 1)
    low, high = axis.infer_input(first, last)
    read = {i for o, _, i in pairs(axis, size) if first <= o <= last}
    assert all(low <= i <= high for i in read)
    if not axis.transposed or axis.dilation == 1:
        assert {i for i in (low, high) if low <= high and 0 <= i < size} <= read


@given(axes())
def test_output_size_grows_with_the_input(problem):
    axis, size = problem
    assert axis.infer_output(size) <= axis.infer_output(size + 1)
    assert axis.infer_output(size + axis.stride) - axis.infer_output(size) == (axis.stride**2 if axis.transposed else 1)


@pytest.mark.parametrize(("kernel", "dilation", "extent"), [(1, 7, 1), (3, 1, 3), (3, 2, 5), (7, 3, 19)])
def test_extent(kernel, dilation, extent):
    assert count_extent(kernel, dilation) == Axis(kernel, dilation=dilation).extent == extent


@given(st.integers(1, 9), st.integers(1, 5), st.integers(1, 4), st.integers(1, 40), st.booleans())
def test_same_padding_makes_the_rounded_up_quotient(kernel, stride, dilation, size, lower):
    free = Axis(kernel, stride, dilation)
    pads = plan_same_padding(free, size, lower=lower)
    assert Axis(kernel, stride, dilation, pads).infer_output(size) == (size + stride - 1) // stride
    assert abs(pads[0] - pads[1]) <= 1
    assert (pads[0] >= pads[1]) if lower else (pads[0] <= pads[1])
