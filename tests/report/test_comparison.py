"""Every kind of the registry for one layer."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omniconv.analysis import Machine
from omniconv.analysis.record import to_plain
from omniconv.errors import SpecError
from omniconv.kinds import kinds
from omniconv.report.arrivals import measure_arrival, summarise_arrivals
from omniconv.report.comparison import STANDARD, LayerSizes, compare_kinds

COMMON = LayerSizes(64, 128, 3, 56)


def by_kind(found):
    return {item.kind: item for item in found.alternatives}


def test_every_kind_is_there_once_for_the_common_layer():
    found = compare_kinds(COMMON, measure=False)
    assert sorted(item.kind for item in (*found.alternatives, *found.refused)) == sorted(kinds())
    assert found.refused == ()
    assert found.standard.kind == STANDARD
    for item in found.alternatives:
        assert item.spec.output_shape(item.shape) == (1, 128, 56, 56)


def test_textbook_figures_of_the_common_layer():
    found = compare_kinds(COMMON, measure=False)
    items = by_kind(found)
    assert items[STANDARD].cost.macs == 56 * 56 * 9 * 64 * 128
    assert items["grouped"].cost.macs * 4 == items[STANDARD].cost.macs
    assert items["depthwise_separable"].cost.parameters == 9 * 64 + 64 * 128
    assert items["depthwise"].cost.parameters == 9 * 128
    assert items["pointwise"].cost.macs == 56 * 56 * 64 * 128
    assert found.savings(items["depthwise_separable"])["macs"] == pytest.approx(9 * 128 / (9 + 128))
    assert found.savings(items["depthwise"]) == {"parameters": 64, "macs": 64, "time": None}
    assert items["transposed"].shape == (1, 64, 28, 28)
    assert "each output sees one input channel" in items["depthwise"].notes
    assert "sees one position" in items["pointwise"].notes
    assert "taps 2 apart" in items["dilated"].notes
    assert "form=dense" in items["spatially_separable"].notes


@pytest.mark.parametrize(
    ("layer", "kind", "reason"),
    [
        (LayerSizes(64, 100), "depthwise", "100 output channels are no multiple of 64"),
        (LayerSizes(64, 100, groups=3), "grouped", "groups=3 does not divide in_channels=64"),
        (LayerSizes(8, 8, 3, 57), "transposed", "it enlarges by 2, and 57 positions are odd"),
        (LayerSizes(8, 8, dims=1), "factorised", "dims=1 has no spatial axis beside time"),
    ],
)
def test_kinds_that_cannot_express_a_layer_say_why(layer, kind, reason):
    found = compare_kinds(layer, measure=False)
    [item] = [item for item in found.refused if item.kind == kind]
    assert item.reason.startswith(reason)
    assert item.spec is None


@settings(max_examples=20, deadline=None)
@given(
    st.builds(
        LayerSizes,
        st.integers(1, 24),
        st.integers(1, 24),
        st.integers(1, 7),
        st.integers(1, 20),
        st.integers(1, 3),
        st.integers(1, 6),
        st.integers(1, 3),
    )
)
def test_any_layer(layer):
    found = compare_kinds(layer, measure=False, limits=Machine(100e9, 20e9))
    assert sorted(item.kind for item in (*found.alternatives, *found.refused)) == sorted(kinds())
    assert all(item.reason for item in found.refused)
    wanted = found.standard.spec.output_shape(layer.shape)
    for item in found.alternatives:
        assert item.spec.output_shape(item.shape) == wanted
        assert item.cost.executed_macs <= item.cost.macs
        assert item.bound_seconds > 0
    json.dumps(to_plain(found), allow_nan=False)


@pytest.mark.parametrize("wrong", [{"kernel_size": 0}, {"size": -1}, {"dims": 4}, {"groups": 0}])
def test_layers_that_are_none(wrong):
    with pytest.raises(SpecError, match="out of range"):
        LayerSizes(**{"in_channels": 8, "out_channels": 8, **wrong})


def test_measured_times_are_positive():
    found = compare_kinds(LayerSizes(8, 16, 3, 16), rounds=2, turn=0.0, limits=Machine(100e9, 20e9))
    assert all(item.seconds > 0 for item in found.alternatives)
    assert found.savings(found.standard)["time"] == 1


def test_the_summary_says_of_every_kind_what_arrives():
    """Times that follow from the multiplications in known parts, in place of measured ones."""
    found = compare_kinds(COMMON, measure=False)
    assert summarise_arrivals(found) == ""
    base = found.standard.cost.macs // 4
    shares = iter((1.0, 0.8, 0.6, 0.3))
    items = [replace(found.standard, multiplications=base, seconds=1.0)]
    for item in found.alternatives[1:]:
        done = item.cost.macs if item.kind in ("grouped", "pointwise", "depthwise", "mixed") else None
        if item.kind == "asymmetric":
            items.append(replace(item, multiplications=2 * base, seconds=2.0))
        elif done is None:
            items.append(replace(item, multiplications=base, seconds=1.0))
        elif item.kind == "grouped":  # 4 times fewer MACs, and as many multiplications as the standard layer filtered
            items.append(replace(item, multiplications=done // 2, seconds=0.5 / next(shares)))
        else:
            items.append(replace(item, multiplications=done, seconds=done / base / next(shares)))
    found = replace(found, alternatives=tuple(items))
    arrived = {item.kind: measure_arrival(found, item) for item in found.alternatives}
    named = {"grouped": 1.0, "pointwise": 0.8, "mixed": 0.6, "depthwise": 0.3}
    assert {kind: share for kind, share in arrived.items() if share is not None} == pytest.approx(named)
    assert summarise_arrivals(found) == (
        "The standard layer has 4 MACs for each multiplication that it does. "
        "Savings beside it (times as fast, of times fewer multiplications) "
        "arrive in full: grouped 2x of 2x; arrive for the most part: pointwise 1.8x of 2.25x; "
        "arrive by half or more: mixed 5.08x of 8.47x; arrive by less than half: depthwise 4.8x of 16x. "
        "More multiplications than the standard layer: asymmetric 2x."
    )
