"""What is computed from a corpus and its timings; nothing here depends on how long anything takes."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from importlib.util import find_spec
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from omniconv.bench.compare import OURS, Comparison, Contender, Result, compare
from omniconv.bench.compilation import Compilation, measure_compilation
from omniconv.bench.corpus import Measured, add_compilations, measure_case, summarise
from omniconv.bench.cost import count_executed_macs, count_macs, count_traffic
from omniconv.bench.interleave import Timing, interleave, is_steady
from omniconv.bench.peers import Peer, PeerError, installed_peers
from omniconv.bench.picture import draw_corpus, list_shares
from omniconv.bench.roofline import Bound, MemoryLevel, Roofline, measure_roofline
from omniconv.bench.sources import Case, find_corpora, problem_workload, read_cases, read_goals
from omniconv.errors import ModelError
from omniconv.kinds import kinds
from omniconv.reference import reference
from omniconv.spec import Chain, Conv, parse

LINE = "depthwise n1 ic8 oc8 ih9 iw9 kh3 kw3 sh1 sw1 dh1 dw1 pt1 pb1 pl1 pr1 g8"
CORPUS = Path(__file__).resolve().parents[2] / "bench" / "corpus"
LEVELS = (MemoryLevel("L1", 1000, 10.0, 5.0, 8.0), MemoryLevel("memory", 0, 2.0, 1.0, 1.0))


def case(line=LINE, **goals):
    spec, shape = parse(line)
    return Case(line, spec, shape, "somewhere", goals, "file")


def result(name, seconds, *, runtime=OURS, layout="NCHW", exact=False, agrees=True):
    timing = None if seconds is None else Timing(name, (seconds,) * 4)
    return Result(name, runtime, "1", layout, exact, timing, 0.0, agrees)


def measured(ours, peers, *, bound=1.0, **goals):
    item = case(**goals)
    compared = Comparison(item.line, tuple(ours), tuple(peers), 100, 1.0, item.title)
    return Measured(item, compared, 120, Bound(bound, "FMA"), 64, True)


# -- counting ----------------------------------------------------------------------------------------------------------


def count_by_loop(spec, shape):
    """Products of one batch and channel pair, straight from the definition of each kind."""
    total = 0
    axes = spec.resolve(shape).axes()
    for axis, size in zip(axes, shape[2:]):
        inside = 0
        for t in range(axis.kernel):
            for i in range(size if axis.transposed else axis.infer_output(size)):
                position = i * axis.stride + t * axis.dilation - axis.padding[0]
                inside += 0 <= position < (axis.infer_output(size) if axis.transposed else size)
        total = inside if total == 0 else total * inside
    return total * shape[0] * spec.out_channels * spec.in_channels // spec.groups


@pytest.mark.parametrize(
    ("stride", "dilation", "padding", "transposed"),
    list(product((1, 2, 3), (1, 2), (0, 1, 3), (False, True))),
)
def test_executed_macs_are_those_of_the_loop(stride, dilation, padding, transposed):
    spec = Conv.of(4, 6, (4, 3), stride=stride, dilation=dilation, padding=padding, groups=2, transposed=transposed)
    shape = (2, 4, 7, 8)
    assert count_executed_macs(spec, shape) == count_by_loop(spec, shape) <= count_macs(spec, shape)


def test_other_padding_is_work():
    spec = Conv.of(2, 2, 3, dims=1, padding=1, padding_mode="reflect")
    assert count_executed_macs(spec, (1, 2, 5)) == count_macs(spec, (1, 2, 5)) == 60


def test_chains_add_up_and_middles_are_not_traffic():
    conv = Conv.of(4, 4, 3, padding=1, groups=4)
    chain = Chain((conv, conv))
    shape = (1, 4, 5, 5)
    assert count_executed_macs(chain, shape) == 2 * count_executed_macs(conv, shape) == 2 * 4 * 13 * 13
    assert count_traffic(chain, shape) == (4 * (100 + 2 * 40), 400)


# -- limits ------------------------------------------------------------------------------------------------------------


def test_the_limit_is_the_larger_of_two_times():
    roofline = Roofline("native", 1, 100.0, LEVELS)
    assert roofline.bound(1000, 100, 100) == Bound(25.0, "L1")
    assert roofline.bound(1e4, 100, 100) == Bound(100.0, "FMA")
    assert roofline.bound(0, 300, 100) == Bound(200 / 8 + 200 / 10, "L1")
    assert roofline.bound(0, 100, 300) == Bound(200 / 8 + 200 / 5, "L1")
    assert roofline.bound(0, 900, 101) == Bound(202 + 799 / 2, "memory")


def test_the_roofline_is_measured():
    roofline = measure_roofline("generic")
    assert roofline.target == "generic"
    assert roofline.peak > 1e6
    assert [level.name for level in roofline.levels][-1] == "memory"
    assert all(min(level.read, level.write, level.copy) > 1e5 for level in roofline.levels)
    assert roofline.probe is not None
    roofline.probe()
    assert roofline.probe_alone is None
    json.dumps(roofline.as_dict(), allow_nan=False)


def test_several_threads_are_compared_with_what_the_peak_gains_from_them():
    roofline = measure_roofline(None, 2)
    assert roofline.probe_alone is not None
    item = measure_case(case(), [], roofline, threads=2, rounds=2, seconds=0)
    assert 0.1 < item.peak_scaling < 4
    assert item.as_dict()["peak_scaling"] == item.peak_scaling
    assert summarise([replace(item, peak_scaling=None)]).peak_scaling is None


# -- corpora -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("comment", "title", "goals"),
    [
        ("ResNet; stem; wanted>=1.5", "ResNet; stem", {"wanted": 1.5}),
        ("stem; direct>=2 first>=3", "stem", {"direct": 2.0, "first": 3.0}),
        ("ResNet; stem", "ResNet; stem", {}),
        ("stem; hoped>=2", "stem; hoped>=2", {}),
        ("wanted>=2", "wanted>=2", {}),
        ("", "", {}),
    ],
)
def test_goals_in_comments(comment, title, goals):
    assert read_goals(comment) == (title, goals)


def test_every_line_of_our_corpora_has_goals_and_is_named_once():
    cases = list(read_cases(CORPUS))
    assert all(item.goals for item in cases)
    assert len({item.line for item in cases}) == len(cases)
    seen = {item.line for item in cases if item.corpus != "unseen"}
    assert not seen & {item.line for item in cases if item.corpus == "unseen"}


@pytest.mark.parametrize(
    "kind",
    """pointwise depthwise multiplier grouped pointwise_grouped transposed depthwise_transposed chain dense dilated
    depthwise_1-D depthwise_3-D depthwise_transposed_1-D depthwise_transposed_3-D dense_1-D dense_3-D""".split(),
)
def test_our_corpora_hold_every_kind(kind):
    assert kind.replace("_", " ") in {item.kind for item in read_cases(CORPUS)}


def test_choosing_problems(tmp_path):
    (tmp_path / "a.txt").write_text(f"{LINE}  # first; wanted>=2\npointwise n1 ic8 oc8 iw9 kw1  # second\n")
    (tmp_path / "b.txt").write_text("pointwise n1 ic4 oc8 iw9 kw1  # third\n")
    titles = {
        only: [item.title for item in read_cases(tmp_path, only)] for only in ("", "^sec", "depthwise", "b", "ic4 ")
    }
    assert titles[""] == ["first", "second", "third"]
    assert titles["^sec"] == ["second"]
    assert titles["depthwise"] == ["first"]
    assert titles["ic4 "] == ["third"]
    with pytest.raises(ModelError, match=r"\.txt"):
        find_corpora(CORPUS.parent)


# -- comparing ---------------------------------------------------------------------------------------------------------


def test_ratios_use_the_best_layout_of_each():
    item = measured(
        [result("a", 2.0, layout="NHWC"), result("b", 4.0), result("c", 5.0, layout="NHWC", exact=True)],
        [
            result("d", 6.0, runtime="PyTorch"),
            result("e", 3.0, runtime="ncnn", layout="packed"),
            result("f", 1.0, runtime="OpenVINO", agrees=False),
            result("g", None, runtime="XNNPACK"),
        ],
        wanted=1.6,
        direct=3.0,
        exact=1.0,
        first=0.7,
    )
    assert item.comparison.best.name == "e"
    assert item.ratios() == {"wanted": 1.5, "direct": 3.0, "exact": 1.2, "first": 0.75}
    assert item.short() == {"wanted": (1.5, 1.6)}
    assert item.share == 0.5
    assert not item.comparison.agrees
    json.dumps(item.as_dict(), allow_nan=False)
    assert list_shares([item]) == {
        "depthwise": {OURS: (0.5, 1), "PyTorch": (pytest.approx(1 / 6), 1), "ncnn": (pytest.approx(1 / 3), 1)}
    }


def test_summaries():
    items = [
        measured([result("a", 1.0)], [result("d", 4.0, runtime="ncnn")], wanted=2.0),
        measured([result("a", 2.0)], [result("d", 2.0, runtime="ncnn")], wanted=2.0),
        measured([result("a", 1.0)], [], wanted=2.0),
        measured([result("a", None)], [result("d", 2.0, runtime="ncnn")], wanted=2.0),
    ]
    items = add_compilations(items, [Compilation(LINE, 0.25, 10, 100)])
    found = summarise(items)
    assert found.ratio == pytest.approx(2.0)
    assert found.worst is items[1]
    assert (found.cases, found.compared, found.goals, found.met) == (4, 2, 3, 1)
    assert (found.compile_median, found.compile_worst, found.compile_peak) == (0.25, 0.25, 10)
    assert found.failed == (LINE,)
    json.dumps(found.as_dict(), allow_nan=False)


def test_scaling_compares_with_one_thread_in_the_same_run():
    alone = [replace(result(name, seconds), solo=True) for name, seconds in (("c", 3.0), ("d", 3.6))]
    item = measured([result("a", 2.0), result("b", 4.0), *alone], [result("e", 1.0, runtime="ncnn")])
    assert item.scaling == 1.5
    assert item.comparison.our_best.name == "a"
    assert measured([result("a", 2.0)], []).scaling is None
    short = measured([result("a", 5e-5), replace(result("c", 9e-5), solo=True)], [])
    found = summarise([item, short])
    assert (found.scaling, found.worst_scaling) == (pytest.approx(1.5), 1.5), "90 us are not looked at"
    assert found.scaling_fastest == pytest.approx(1.5)


def test_scaling_of_the_shortest_rounds():
    """A round in which others took a processor counts in the median only."""
    item = measured(
        [replace(result("a", 2.0), timing=Timing("a", (1.0, 2.0, 3.0))), replace(result("c", 2.0), solo=True)], []
    )
    assert (item.scaling, item.scaling_fastest) == (1.0, 2.0)
    assert item.as_dict()["scaling_fastest"] == 2.0


@pytest.mark.parametrize(
    ("seconds", "bound", "words"),
    [
        (2.0, 1.9, "at 95% of the limit (FMA) there is little left to win"),
        (2.0, 1.0, "our kernel reaches 50% of the limit (FMA)"),
        (8e-6, 1e-6, "it takes 8 us, of which a call from Python is 2 us"),
    ],
)
def test_a_loss_says_why(seconds, bound, words):
    peers = [result("d", 0.9 * seconds, runtime="ncnn")]
    assert measured([result("a", seconds)], peers, bound=bound).why_slower == words
    assert measured([result("a", 0.8 * seconds)], peers, bound=bound).why_slower is None
    assert (
        replace(measured([result("a", seconds)], peers), slow=True).why_slower == "the machine was busy, measure again"
    )


def test_a_wrong_layer_of_ours_is_seen_and_no_peer_is_blamed():
    spec, shape = parse(LINE)
    workload = problem_workload(LINE, spec, shape)
    right = reference(spec, workload.inputs["x"], workload.weights).astype(np.float32)

    def fail():
        raise ZeroDivisionError("in here")

    def refuse(workload, threads):
        raise PeerError("not this one")

    found = compare(
        workload,
        [
            Contender("wrong", lambda: lambda: [right + 1]),
            Contender("failing", fail),
            Contender("fine", lambda: lambda: [right]),
        ],
        [Peer("other", "1", lambda workload, threads: lambda: [right]), Peer("none", "1", refuse)],
        expected=[right],
        rounds=1,
        seconds=0,
        keep_going=True,
    )
    assert [item.agrees for item in found.ours] == [False, None, True]
    assert found.ours[1].reason == "ZeroDivisionError: in here"
    assert found.our_best.name == "fine"
    assert [peer.agrees for peer in found.peers] == [True, None]
    assert found.peers[1].reason == "not this one"
    assert not found.agrees
    with pytest.raises(ZeroDivisionError):
        compare(workload, [Contender("failing", fail)], [], rounds=1, seconds=0)


def test_a_case_is_measured_in_both_layouts():
    found = measure_case(case(exact=1.0), [], Roofline("native", 1, 1e11, LEVELS), rounds=1, seconds=0)
    assert [(item.layout, item.exact) for item in found.comparison.ours] == [
        ("NHWC", False),
        ("NCHW", False),
        ("NHWC", True),
        ("NCHW", True),
    ]
    assert found.comparison.agrees
    assert found.verified
    assert found.comparison.macs == count_executed_macs(found.case.spec, found.case.shape)
    assert found.short() == {}


def test_compilation_in_a_process_of_its_own():
    good, bad = measure_compilation([LINE, "depthwise n1 ic1 oc1 iw1 kw9 pl4 pr4 reflect"])
    assert good.line == LINE
    assert good.seconds > 0
    assert not good.reason
    assert "Error" in bad.reason


# -- peers -------------------------------------------------------------------------------------------------------------

SAMPLES = [
    pytest.param(
        kind.build(sample), tuple(sample.shape), id=f"{name}-{index}", marks=[pytest.mark.wide] if index % 2 else []
    )
    for name, kind in kinds().items()
    for index, sample in enumerate(kind.samples)
]
OTHERS = {
    peer.name: peer
    for peer in installed_peers([name for name in ("openvino", "torch", "ncnn") if find_spec(name)], layouts=None)
    if peer.layout != "NCHW" or peer.runtime == "ncnn"
}


@pytest.mark.sampled
@pytest.mark.parametrize("peer", OTHERS.values(), ids=list(OTHERS))
@pytest.mark.parametrize(("spec", "shape"), SAMPLES)
def test_other_layouts_agree_with_the_reference(spec, shape, peer):
    workload = problem_workload(spec.text(shape), spec, shape)
    try:
        [produced] = peer.load(workload, 1)()
    except PeerError as error:
        pytest.skip(f"{peer.name}: {error}")
    expected = reference(spec, workload.inputs["x"], workload.weights)
    np.testing.assert_allclose(produced, expected, rtol=0, atol=1e-4 * max(1.0, np.abs(expected).max()))


# -- timing ------------------------------------------------------------------------------------------------------------


def test_turns_laggards_and_patience():
    now = 0.0

    def clock():
        return now

    def call(seconds):
        steps = iter(seconds)

        def run():
            nonlocal now
            now += next(steps, seconds[-1])

        return run

    calls = {"fast": call([1.0]), "slow": call([4.0])}
    found = interleave(calls, rounds=6, seconds=0, drop_laggards=True, clock=clock)
    assert [len(timing.seconds) for timing in found.values()] == [6, 3]
    found = interleave({"a": call([1.0])}, rounds=2, seconds=0, turn=3.0, warm_up=0, clock=clock)
    assert found["a"].seconds == (1.0, 1.0)
    start = now
    interleave({"a": call([2.0, 1.0] * 50)}, rounds=1, seconds=0, patience=40.0, warm_up=0, clock=clock)
    assert now - start < 60
    steady = [[1.0] * 5, [9.0, 1.0, 5.0, 2.0]]
    assert is_steady(steady)
    assert not is_steady([[1.0, 2.0, 1.0, 2.0], [9.0] * 4])
    assert math.isclose(Timing("", (1.0, 1.0)).spread, 0.0)


@pytest.mark.skipif(find_spec("matplotlib") is None, reason="matplotlib is not installed")
@pytest.mark.parametrize("ending", ["png", "svg"])
def test_pictures(tmp_path, ending):
    item = measured([result("a", 1.0)], [result("d", 4.0, runtime="ncnn")])
    path = draw_corpus([item], Roofline("native", 1, 1e11, LEVELS), {"cpu": "some"}, tmp_path / f"p.{ending}")
    assert path.stat().st_size > 1000
