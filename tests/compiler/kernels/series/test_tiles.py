"""The choice of series tiles, for machines that are not at hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniconv.compiler.kernels.series import tiles as series_schedule
from omniconv.compiler.kernels.series.kernel import Series
from omniconv.compiler.kernels.series.tiles import plan_series, spans
from omniconv.compiler.kernels.series.window import pieces
from omniconv.compiler.planning.choice import Problem
from omniconv.compiler.problem.walk import walks
from omniconv.spec import Conv
from omniconv.target.model import Target

MACHINES = [
    Target("native", 16, 32, True, "znver4", "", "x86_64-unknown-linux-gnu", 2**19),
    Target("x86-64-v3", 8, 16, True, "x86-64-v3", "", "x86_64-unknown-linux-gnu", 2**19),
    Target("x86-64-v2", 4, 16, False, "x86-64-v2", "", "x86_64-unknown-linux-gnu", 2**19),
]


def problem(channels, kernel, shape, multiplier=1, **options):
    spec = Conv.of(channels, channels * multiplier, kernel, groups=channels, **options)
    return Problem(shape[0], walks(spec, shape[2:]), channels, 1, multiplier)


LAYERS = [
    problem(256, 31, (1, 256, 1000), dims=1, padding=15),
    problem(8, 512, (1, 8, 16000), dims=1, padding="causal"),
    problem(64, 3, (1, 64, 112, 112), padding=1),
    problem(96, 3, (2, 96, 112, 112), padding=1, stride=2),
    problem(960, 3, (1, 960, 33, 33), padding=8, dilation=8),
    problem(96, 7, (1, 96, 56, 56), padding=3, multiplier=2),
    problem(54, 3, (1, 54, 16, 56, 56), dims=3, padding=1),
]


@pytest.mark.parametrize("target", MACHINES, ids=lambda t: t.name)
@pytest.mark.parametrize("layer", LAYERS, ids=range(len(LAYERS)))
def test_tiles_fit_the_registers_and_windows_the_cache(layer, target):
    found, why = plan_series(layer, target)
    assert found is not None, why
    tile = found.tile
    assert tile.rows * tile.vectors + tile.down * tile.across < target.registers
    assert tile.rows * tile.vectors * tile.down * tile.across <= series_schedule.CODE
    assert found.lanes in (target.lanes, 8)
    recipe = Series(layer.batch, layer.axes, layer.groups, layer.outputs, 3, (0,) * 4, (0,) * 4, (), tile, found.lanes)
    assert 4 * recipe.scratch <= 2**18
    assert recipe.units >= series_schedule.UNITS
    assert tile.rows * tile.spread <= tile.block[0]


@given(st.integers(1, 600), st.integers(1, 9), st.sampled_from((1, 2, 4, 8, 16)))
def test_spans_hold_every_tap_once(kernel, across, step):
    taps = [
        span.first + i * span.outer_step + j + span.step * t
        for span in spans(kernel, across, step)
        for i in range(span.outer)
        for j in range(span.inner)
        for t in range(span.taps)
    ]
    assert sorted(taps) == list(range(kernel))
    assert len(spans(kernel, across, step)) <= 3


@given(st.integers(0, 15))
def test_pieces_cover(count):
    assert {at + lane for at, lanes in pieces(count) for lane in range(lanes)} == set(range(count))
