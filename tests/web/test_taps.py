"""The kernel for any setting, with the records that Python plans, computes every convolution there is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.strategies import Problem, convs
from tests.web.engine import Instance, run_taps

import omniconv as oc
from omniconv.errors import DataError, ShapeError
from omniconv.kinds import kinds
from omniconv.web import WORDS, compile_taps, plan_taps


def list_layers():
    """The convolutions of all samples, each with the shape of its input."""
    found = {}
    for kind in kinds().values():
        for sample in kind.samples:
            spec = kind.build(sample)
            for conv, shape in [(spec, sample.shape)] if isinstance(spec, oc.Conv) else spec.layers(sample.shape):
                found[conv.text(shape)] = Problem(conv, tuple(shape))
    return list(found.values())


def check(problem, code):
    x, ((w, b),) = problem.draw(0)
    plan = plan_taps(problem.spec, problem.shape)
    y = run_taps(Instance(code), compile_taps().heap, WORDS, w, b, x, plan)
    assert np.array_equal(y, oc.reference(problem.spec, x, (w, b))), problem


@pytest.mark.parametrize("level", ["simd", pytest.param("relaxed", marks=pytest.mark.wide)])
def test_every_convolution_of_every_sample_is_exact(level, tally):
    for problem in list_layers():
        check(problem, getattr(compile_taps(), level))
        tally("convolutions by the kernel for any setting")


@given(convs(), st.booleans())
@settings(max_examples=60, deadline=None)
def test_every_convolution_is_exact(problem, relaxed):
    module = compile_taps()
    check(problem, module.relaxed if relaxed else module.simd)


@pytest.mark.wide
@given(convs(), st.booleans())
@settings(max_examples=120, deadline=None)
def test_every_convolution_is_exact_again(problem, relaxed):
    module = compile_taps()
    check(problem, module.relaxed if relaxed else module.simd)


@given(convs())
@settings(max_examples=80, deadline=None)
def test_plans_read_the_frame_and_write_every_output_once(problem):
    plan = plan_taps(problem.spec, problem.shape)
    written = np.zeros(int(np.prod(plan.output)), int)
    frame = int(np.prod(plan.frame))
    for call in plan.calls:
        words = call.words
        sizes = [words[name] for name in ("images", "groups", "channels", "planes", "rows", "columns")]
        at = np.indices(sizes).reshape(6, -1)
        channel = at[1] * words["channels"] + at[2]
        axes = ("plane", "row", "column")
        reads = at[0] * words["x_image"] + at[1] * words["x_group"]
        reads += sum(at[3 + number] * words[f"x_{name}"] for number, name in enumerate(axes))
        if call.offsets.size:
            assert reads.min() + call.offsets.min() >= 0
            assert reads.max() + call.offsets.max() < frame
        writes = call.y_start + at[0] * words["y_image"] + channel * words["y_channel"]
        writes += sum(at[3 + number] * words[f"y_{name}"] for number, name in enumerate(axes))
        np.add.at(written, writes, 1)
        assert call.index.size == words["taps"] * problem.spec.out_channels
    assert (written == 1).all()


def test_the_frame_is_no_larger_than_what_is_read():
    assert plan_taps(oc.Conv.of(1, 1, 3, stride=2, padding=1), (1, 1, 8, 8)).margins == ((1, 0), (1, 0))
    assert plan_taps(oc.transposed(1, 1, 2), (1, 1, 4, 4)).margins == ((0, 0), (0, 0))
    assert plan_taps(oc.Conv.of(1, 1, 3), (1, 1, 5, 5)).margins == ((0, 0), (0, 0))


def test_outputs_without_taps_are_the_bias():
    spec = oc.transposed(1, 2, 1, stride=3, dims=1, padding="same")
    plan = plan_taps(spec, (1, 1, 2))
    assert [call.words["taps"] for call in plan.calls] == [1, 0, 0]
    check(Problem(spec, (1, 1, 2)), compile_taps().simd)


@pytest.mark.parametrize(
    ("spec", "shape", "error", "message"),
    [
        (oc.Conv.of(1, 1, 3), (1, 1, 2, 2), ShapeError, "kernel extent 3"),
        (oc.depthwise_separable(2, 3, 3), (1, 2, 5, 5), DataError, "spec is Chain; need a Conv"),
    ],
)
def test_what_cannot_be_planned_is_refused(spec, shape, error, message):
    with pytest.raises(error, match=message):
        plan_taps(spec, shape)


def test_the_module_says_its_words():
    found = compile_taps().to_json()
    assert found["words"] == WORDS
    assert found["heap"] % 64 == 0
    assert compile_taps().simd != compile_taps().relaxed
    assert b"memory" in compile_taps().simd
