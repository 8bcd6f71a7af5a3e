"""Resize of a part: the formula of ONNX, against its reference evaluator and, where it follows it, ONNX Runtime."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from onnx.reference import ReferenceEvaluator
from tests.graph.small_models import Graph

import omniconv as oc
from omniconv.program.sampling import CROP, Sampling, count_outside, plan_axis


def make(shape, sizes, roi, **attributes):
    g = Graph(19)
    places = g.input("x", *shape), g.const(roi), "", g.ints(*sizes)
    g.node("Resize", *places, name="y", coordinate_transformation_mode=CROP, **attributes)
    return g.model("y", shapes=[sizes])


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.wide)])
def test_random_parts(seed, tally):
    runtime = pytest.importorskip("onnxruntime")
    rng = np.random.default_rng(seed)
    for _ in range(30):
        shape, sizes = [1, 2, *map(int, rng.integers(1, 12, 2))], [1, 2, *map(int, rng.integers(1, 14, 2))]
        starts, ends = rng.uniform(-0.4, 1.3, 2), rng.uniform(-0.4, 1.6, 2)
        mode = str(rng.choice(["nearest", "linear", "cubic"]))
        model = make(
            shape,
            sizes,
            [0, 0, *starts, 1, 1, *ends],
            mode=mode,
            extrapolation_value=float(rng.choice([0, 7.5, -3])),
            nearest_mode=str(rng.choice(["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"])),
        )
        x = rng.standard_normal(shape).astype(np.float32)
        got = np.asarray(oc.compile(model)(x))
        if mode == "linear":
            # Its nearest and cubic positions are shifted where a coordinate is whole.
            np.testing.assert_allclose(got, ReferenceEvaluator(model).run(None, {"x": x})[0], atol=1e-4)
            tally("parts resized as ONNX's reference evaluator does")
        if not any(a == b for a, b in zip(shape[2:], sizes[2:], strict=True)):
            # ONNX Runtime leaves an axis as it is whose length stays, whatever part of it is asked for.
            session = runtime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
            np.testing.assert_allclose(got, session.run(None, {"x": x})[0], atol=1e-4)
            tally("parts resized as ONNX Runtime does")


def test_all_of_an_axis_aligns_corners():
    how, other = Sampling("linear", CROP), Sampling("linear", "align_corners")
    for n, m in itertools.product(range(1, 41, 3), range(2, 41, 3)):
        assert count_outside(how, n, m, (0.0, 1.0)) == (0, 0)
        for got, want in zip(plan_axis(how, n, m), plan_axis(other, n, m), strict=True):
            np.testing.assert_allclose(got, want, atol=2e-5 if n != m else 0)


def test_a_part_of_the_same_length_is_enlarged():
    x = np.arange(5, dtype=np.float32).reshape(1, 1, 5)
    model = make([1, 1, 5], [1, 1, 5], [0, 0, 0.25, 1, 1, 0.75], mode="linear")
    np.testing.assert_array_equal(oc.compile(model)(x), [[[1, 1.5, 2, 2.5, 3]]])


def test_nothing_inside_is_the_value():
    x = np.ones((1, 1, 5), np.float32)
    model = make([1, 1, 5], [1, 1, 3], [0, 0, 1.5, 1, 1, 2], mode="linear", extrapolation_value=4.0)
    np.testing.assert_array_equal(oc.compile(model)(x), np.full((1, 1, 3), 4.0))


@pytest.mark.parametrize(
    ("roi", "error", "text"),
    [
        ([0, 0, 0, 1, 1], oc.ModelError, "3 starts and 3 ends"),
        ([0, 0, 0, 1, 1, np.nan], oc.ModelError, "finite"),
        ([0, 0.5, 0, 1, 1, 1], oc.UnsupportedError, "batch or channels"),
    ],
)
def test_refusals(roi, error, text):
    with pytest.raises(error, match=text):
        oc.compile(make([1, 1, 5], [1, 1, 3], roi, mode="linear"))
