"""The choice of series tiles, for machines that are not at hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests import machines

from omniconv.compiler.kernels.series import tiles as series_schedule
from omniconv.compiler.kernels.series.kernel import Series
from omniconv.compiler.kernels.series.tiles import PhasedTile, meetings, prefer_series, reject_series, spans
from omniconv.compiler.kernels.series.window import pieces
from omniconv.compiler.planning.choice import choose, list_choices
from omniconv.compiler.problem.problem import Facts, Problem
from omniconv.spec import Conv

ROWS = Facts(x_rows=True, y_rows=True)
"""Between channels-first values."""
MACHINES = [machines.MACHINES["zen4"], machines.V3, machines.V2]


def problem(channels, kernel, shape, multiplier=1, **options):
    spec = Conv.of(channels, channels * multiplier, kernel, groups=channels, **options)
    return Problem.of(spec, shape)


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
    assert reject_series(layer, target, ROWS) is None
    tile, why = prefer_series(layer, target)
    assert tile is not None, why
    assert tile.rows * tile.vectors + tile.down * tile.across < target.registers
    assert tile.rows * tile.vectors * tile.down * tile.across <= series_schedule.CODE
    assert tile.lanes in (target.lanes, 8)
    recipe = Series(
        batch=layer.batch,
        axes=layer.axes,
        channels=layer.groups,
        multiplier=layer.outputs,
        dims=3,
        x_strides=(0,) * 4,
        y_strides=(0,) * 4,
        posts=(),
        tile=tile,
    )
    assert 4 * recipe.scratch <= 2**18
    assert recipe.units >= series_schedule.UNITS
    assert tile.rows * tile.spread <= tile.block[0]


@pytest.mark.parametrize("target", MACHINES, ids=lambda t: t.name)
@pytest.mark.parametrize("layer", LAYERS, ids=range(len(LAYERS)))
def test_layers_between_channels_first_values_are_series(layer, target):
    choice = choose(layer, target, ROWS)
    assert choice.family.name == "series"
    assert choice.problem == replace(layer, rows=True)
    assert any(why.startswith("changes of layout: expected to take ") for why in choice.rejected)
    assert choice.decision.choice == choice.tile.text()
    costs = dict(list_choices(choice.problem, target)[0])
    assert costs[choice.tile.text()] == min(costs.values())


@pytest.mark.parametrize(
    ("layer", "facts", "reason"),
    [
        (LAYERS[2], Facts(y_rows=True), "the input is not channels first"),
        (LAYERS[2], Facts(x_rows=True), "the result is not wanted channels first"),
        (problem(64, 3, (1, 64, 112, 112), stride=3), ROWS, "stride 3 along the width is longer than 2"),
        (
            problem(64, 40, (1, 64, 12, 12), transposed=True, stride=40),
            ROWS,
            "transposed with stride 40 along the width",
        ),
        (
            Problem.of(Conv.of(64, 64, 3, groups=32), (1, 64, 12, 12)),
            ROWS,
            "2 input channels a group: an output needs more",
        ),
    ],
)
def test_other_layers_say_why_not(layer, facts, reason):
    for target in MACHINES:
        choice = choose(layer, target, facts)
        assert choice.family.name == "lane"
        assert choice.problem == layer, "it is the same problem as between channels-last values"
        assert any(why.startswith(f"series: {reason}") for why in choice.rejected)


@pytest.mark.parametrize("target", MACHINES, ids=lambda t: t.name)
def test_transposed_layers_are_phased(target):
    """Those of stride 2, and input gradients of such layers."""
    for kernel, size in ((4, 28), (3, 28), (3, 14)):
        layer = problem(128, kernel, (16, 128, size, size), padding=1, stride=2, transposed=True)
        tile, why = prefer_series(layer, target)
        assert isinstance(tile, PhasedTile), why
        assert 2 * tile.vectors < target.registers - 2
        assert tile.vectors * kernel <= series_schedule.CODE


def test_long_strides_change_their_layout():
    layer = problem(128, 12, (16, 128, 28, 28), stride=12, transposed=True)
    assert reject_series(layer, machines.V3, ROWS) is None
    tile, (why,) = prefer_series(layer, machines.V3)
    assert tile is None
    assert why.startswith("series: expected to take")


def test_inputs_of_a_place_are_met_in_the_order_of_taps():
    width = problem(1, (1, 7), (1, 1, 1, 9), stride=(1, 2), transposed=True).axes[2]
    met = [user for users in meetings(width).values() for user in users]
    assert [[tap for at, tap in met if at == phase] for phase in (0, 1)] == [[0, 2, 4, 6], [1, 3, 5]]
    assert list(meetings(width)) == [3, 2, 1, 0]


def test_narrow_maps_change_their_layout():
    choice = choose(problem(256, 5, (1, 256, 9, 9), padding=2), MACHINES[0], ROWS)
    assert choice.family.name == "lane"
    assert any(why.endswith("times as long as with changes of layout") for why in choice.rejected)
    assert {text.split()[0] for items in list_choices(choice.problem, MACHINES[0]) for text, _ in items} >= {
        "series",
        "lane",
    }


def test_a_measurement_is_for_the_layouts_it_was_made_between():
    layer, target = LAYERS[2], MACHINES[1]
    stencil = choose(layer, target).tile.text()
    told = {layer.text(): stencil}
    assert choose(layer, target, ROWS, lambda each: told.get(each.text())).family.name == "series"
    series = choose(layer, target, ROWS)
    other = next(text for text, _ in list_choices(series.problem, target)[0] if text != series.tile.text())
    told = {series.problem.text(): other}
    found = choose(layer, target, ROWS, lambda each: told.get(each.text()))
    assert (found.tile.text(), found.tuned) == (other, True)
    assert f"{series.tile.text()}: measured slower" in found.rejected
    told = {series.problem.text(): stencil}
    found = choose(layer, target, ROWS, lambda each: told.get(each.text()))
    assert (found.family.name, found.tile.text(), found.tuned) == ("lane", stencil, True)


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
