"""Coverage against enumeration of all paths."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.analysis.dags import many, programs, responses, with_mean_weights

import omniconv as oc
from omniconv.analysis import coverage, dilated_stack, find_rule, receptive_field, suggest_rates
from omniconv.spec import Chain, Conv

layer = st.tuples(st.integers(1, 4), st.integers(1, 9), st.integers(1, 2))


def enumerate_paths(layers):
    """Positions that paths through the taps arrive at, one path after another."""
    places = Counter()
    for taps in itertools.product(*(range(kernel) for kernel, _, _ in layers)):
        place, stride = 0, 1
        for tap, (_, rate, step) in zip(taps, layers, strict=True):
            place += tap * rate * stride
            stride *= step
        places[place] += 1
    return places


@many
@given(st.lists(layer, min_size=1, max_size=5))
def test_paths_are_all_paths(layers):
    chain = Chain(tuple(Conv.of(1, 1, k, dilation=d, stride=s, dims=1) for k, d, s in layers))
    places = enumerate_paths(layers)
    found = coverage(chain)
    assert found.size == (max(places) + 1,)
    assert found.paths.tolist() == [places[i] for i in range(max(places) + 1)]
    assert found.fraction == len(places) / (max(places) + 1)
    assert found.axes[0].holes == tuple(i for i in range(max(places)) if not places[i])
    assert found.size == receptive_field(chain).size


@many
@given(st.lists(st.tuples(layer, layer), min_size=1, max_size=3))
def test_planes_are_products(layers):
    rows, columns = [a for a, _ in layers], [b for _, b in layers]
    chain = Chain(
        tuple(
            Conv.of(1, 1, (a[0], b[0]), dilation=(a[1], b[1]), stride=(a[2], b[2]))
            for a, b in zip(rows, columns, strict=True)
        )
    )
    down, across = enumerate_paths(rows), enumerate_paths(columns)
    found = coverage(chain)
    expected = [[down[i] * across[j] for j in range(max(across) + 1)] for i in range(max(down) + 1)]
    assert found.paths.tolist() == expected
    assert found.fraction == pytest.approx(found.axes[0].fraction * found.axes[1].fraction)


@many
@given(programs(ops=("conv", "conv", "pad", "concat", "add", "rearrange", "transposed"), linear=True))
def test_networks_by_their_responses(program):
    """The paths of the middle output: responses to a one at each position, with mean weights."""
    _, y = responses(with_mean_weights(program), np.zeros((1, *program.shapes["x"][1:])), 1.0)
    middle = tuple(size // 2 for size in y.shape[2:])
    places = y[(slice(None), slice(None), *middle)].mean(axis=1).reshape(program.shapes["x"][2:])
    found = coverage(program)
    assert found.paths.sum() == pytest.approx(places.sum())
    if places.any():
        box = tuple(slice(rows.min(), rows.max() + 1) for rows in np.nonzero(places))
        np.testing.assert_allclose(found.paths, places[box], rtol=1e-9, atol=1e-12)
        assert np.array_equal(found.support, places[box] > 0)


def test_published_stacks():
    grid = coverage(dilated_stack([2, 2, 2]))
    assert (grid.size, round(grid.fraction, 3)) == ((13,), 0.538)
    assert grid.axes[0].rule_holds
    assert not grid.full
    good = coverage(dilated_stack([1, 2, 5]))
    assert (good.size, good.full, good.axes[0].rule_holds) == ((17,), True, True)
    sparse = coverage(dilated_stack([1, 2, 9]))
    assert (sparse.size, sparse.fraction, sparse.axes[0].rule_holds) == ((25,), 0.84, False)
    assert coverage(dilated_stack([2, 2, 2], dims=2)).fraction == pytest.approx((7 / 13) ** 2)
    assert coverage(dilated_stack([1, 2, 4, 8])).full


@many
@given(st.lists(st.integers(1, 9), min_size=2, max_size=6))
def test_the_published_rule(rates):
    """Straight from its recursion."""
    after = rates[-1]
    for rate in rates[-2:0:-1]:
        after = max(after - 2 * rate, after - 2 * (after - rate), rate)
    assert find_rule(rates)[0] == after
    assert coverage(dilated_stack(rates)).axes[0].rule_holds == (after <= 3)


@many
@given(st.integers(1, 300), st.integers(2, 5), st.booleans())
def test_suggestions_cover_what_was_asked_for(size, kernel, rule):
    rates = suggest_rates(size, kernel, rule=rule)
    found = coverage(dilated_stack(rates, kernel))
    assert found.full
    assert found.size[0] >= size
    assert size > kernel ** (len(rates) - 1) or rule or len(rates) == 1
    if rule and len(rates) > 1:
        assert find_rule(rates)[0] <= kernel


def test_suggestions_for_a_number_of_layers():
    assert len(suggest_rates(31, 3, layers=5)) <= 5
    with pytest.raises(oc.SpecError, match="2 layers of kernel 3 cannot cover 50 positions without holes"):
        suggest_rates(50, 3, layers=2)


def test_stacks_with_holes_come_with_a_suggestion():
    found = coverage(dilated_stack([2, 2, 2]))
    again = coverage(dilated_stack(found.suggestion))
    assert again.full
    assert again.size >= found.size
    assert coverage(dilated_stack([1, 2, 5])).suggestion == ()


def test_many_layers_stay_exact():
    found = coverage(dilated_stack([1] * 60))
    assert sum(int(value) for value in found.paths) == 3**60
    assert found.paths.dtype == object
    two = coverage(dilated_stack([1] * 30, dims=2))
    assert sum(int(value) for value in two.paths.ravel()) == 9**30


def test_upsampling_goes_through_the_network():
    found = coverage(oc.resize_conv(1, 1, 3, factor=2, padding=1))
    assert found.axes == ()
    assert found.full
    assert math.prod(found.size) == 4


def test_bad_input():
    with pytest.raises(oc.SpecError, match="a stack without rates"):
        dilated_stack([])
    with pytest.raises(oc.SpecError, match="size=0 is out of range"):
        suggest_rates(0)
