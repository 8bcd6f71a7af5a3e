"""The rules on made-up numbers: what is held, what is not, and what stays undecided."""

from __future__ import annotations

import numpy as np
import pytest

from omniconv.study import claims, evidence
from omniconv.study.bootstrap import Spread
from omniconv.study.rules import RULES
from omniconv.study.study import DecoderResult, KernelResult, KindResult, MeasuredTime
from omniconv.study.variants import VARIANTS
from omniconv.study.words import write_paragraph

HELD, NOT, OPEN = claims.HELD, claims.NOT_HELD, claims.UNDECIDED


@pytest.mark.parametrize(
    ("found", "worse", "better", "no_worse"),
    [
        ((-0.03, -0.04, -0.02), HELD, NOT, NOT),
        ((-0.01, -0.015, -0.001), HELD, NOT, NOT),
        ((-0.009, -0.015, -0.001), OPEN, NOT, OPEN),  # certainly worse, but perhaps by less than matters
        ((-0.004, -0.009, -0.001), NOT, NOT, HELD),
        ((0.0, -0.009, 0.009), NOT, NOT, HELD),
        ((0.0, -0.02, 0.02), OPEN, OPEN, OPEN),
        ((0.03, 0.02, 0.04), NOT, HELD, HELD),
        ((0.02, -0.001, 0.04), NOT, OPEN, HELD),
    ],
)
def test_differences(found, worse, better, no_worse):
    item = Spread(*found)
    assert claims.judge_loss(item) == worse
    assert claims.judge_gain(item) == better
    assert claims.judge_no_loss(item) == no_worse


def test_the_margin_is_what_decides():
    item = Spread(-0.009, -0.015, -0.001)
    assert [claims.judge_loss(item, margin) for margin in (0.005, 0.01, 0.02)] == [HELD, OPEN, NOT]


def result(kind, value=0.0, spread=0.002, ratio=1.0, pace=1.0):
    difference = Spread(value, value - spread, value + spread)
    accuracy = Spread(0.9 + value, 0.9 + value - spread, 0.9 + value + spread)
    variant = VARIANTS[kind]
    price = {"depthwise_separable": 10, "grouped_2": 50}.get(kind, 100)
    measured = MeasuredTime(1e-5 * ratio, Spread(ratio, ratio * 0.99, ratio * 1.01))
    times = dict.fromkeys(evidence.RUNTIMES, measured)
    return KindResult(kind, variant.words, 16, 3e-3, price, price, 7, 20.0, accuracy, difference, pace, times)


def decoder(name, dims, predicted, contrast):
    one = Spread(0.2, 0.1, 0.3)
    near = Spread(contrast, contrast * 0.97, contrast * 1.03)
    return DecoderResult(name, dims, 2, predicted, predicted, near, one, one, 0.0, one, one)


def judge(kinds, *, rest=0.3, cut=-0.1, contrast=4.0, grids=(4.0, 4.0)):
    draws = {item.kind: np.linspace(*[item.accuracy.value + s * 0.002 for s in (-1, 1)], 101) for item in kinds}
    draws = {kind: np.full(101, kinds[0].accuracy.value) if kind == "standard" else row for kind, row in draws.items()}
    kernels = KernelResult(Spread(rest, rest, rest), Spread(0.3, 0.3, 0.3), Spread(cut, cut, cut))
    decoders = [
        decoder("transposed k3 s2", 1, (1.0, 2.0), contrast**0.5),
        decoder("transposed k4 s2", 1, (2.0, 2.0), 1.0),
        decoder("transposed k3 s2", 2, (1.0, 2.0, 2.0, 4.0), contrast),
        decoder("transposed k4 s2", 2, (4.0,) * 4, 1.0),
    ]
    energies = {
        (name, dims): np.full(5, factor if "k3" in name else 1.0)
        for dims, factor in zip((1, 2), grids, strict=True)
        for name in ("transposed k3 s2", "transposed k4 s2")
    }
    found = evidence.find_claims(kinds, kinds, kernels, decoders, energies, draws)
    return {claim.name: claim for claim in found}


def verdicts(kinds, **options):
    return {name: claim.verdict for name, claim in judge(kinds, **options).items()}


def test_claims_of_kinds_that_were_not_studied_are_left_out():
    assert list(judge([result("standard")])) == ["kernels", "overlap", "generated"]
    every = judge([result(kind) for kind in VARIANTS])
    assert list(every) == list(RULES)
    assert all(write_paragraph(claim) for claim in every.values())


def test_capacity_and_the_clock():
    base = result("standard")
    for value, verdict in ((-0.03, HELD), (0.0, NOT)):
        assert verdicts([base, result("depthwise_separable", value)])["capacity"] == verdict
    # ten times fewer multiply-accumulates: five times faster is enough, one and a half is not
    for ratio, verdict in ((0.1, HELD), (0.19, HELD), (0.2, OPEN), (0.66, NOT), (1.2, NOT)):
        assert verdicts([base, result("depthwise_separable", ratio=ratio)])["clock"] == verdict


def test_groups():
    base = result("standard")
    for values, groups, gain in (
        ((0.0, 0.0), HELD, NOT),
        ((0.0, -0.03), NOT, NOT),
        ((0.0, 0.03), HELD, HELD),
    ):
        found = verdicts([base, *(result(kind, value) for kind, value in zip(evidence.GROUPED, values, strict=False))])
        assert (found["groups"], found["gain"]) == (groups, gain)


def test_the_shuffle_is_compared_with_the_same_pair_without():
    base = result("standard")
    for value, verdict in ((0.03, HELD), (0.0, NOT)):
        kinds = [base, result("unshuffled", -0.03), result("shuffled_grouped", -0.03 + value)]
        claim = judge(kinds)["shuffle"]
        assert claim.verdict == verdict
        assert "sees 100 % of its inputs, without 25 %" in write_paragraph(claim)


def test_dilation_may_cost_no_time():
    base = result("standard")
    for ratio, verdict in ((1.0, HELD), (1.05, HELD), (1.1, OPEN), (1.2, NOT)):
        assert verdicts([base, result("dilated", ratio=ratio)])["field"] == verdict


@pytest.mark.parametrize(
    ("options", "name", "verdict"),
    [
        ({"rest": 0.3, "cut": -0.1}, "kernels", HELD),
        ({"rest": 0.01, "cut": -0.1}, "kernels", NOT),
        ({"rest": 0.3, "cut": 0.0}, "kernels", NOT),
        ({"contrast": 4.0}, "overlap", HELD),
        ({"contrast": 2.0}, "overlap", NOT),
        ({"grids": (4.0, 4.0)}, "generated", HELD),
        ({"grids": (4.0, 1.5)}, "generated", NOT),
    ],
)
def test_kernels_and_grids(options, name, verdict):
    assert verdicts([result("standard")], **options)[name] == verdict


def test_every_rule_says_when_it_is_held():
    for title, rule in RULES.values():
        assert title.endswith(".")
        assert rule.startswith("Held where ")
        assert "  " not in rule
