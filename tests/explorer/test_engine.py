"""The page's WebAssembly computes every layer, by the plan that Python makes."""

from __future__ import annotations

import numpy as np
import pytest
from tests.explorer.model import ask, drawn, needs_node

from omniconv.explorer.modules import PRESETS, make_presets, make_taps
from omniconv.kinds import kinds
from omniconv.reference import random_weights, reference
from omniconv.spec import Conv, parse
from omniconv.web.tap_plan import plan_taps

pytestmark = needs_node


@pytest.mark.parametrize("count", [40, pytest.param(160, marks=pytest.mark.wide)])
def test_plans_are_those_of_python(count):
    cases = [problem for problem in drawn(count) if isinstance(problem.spec, Conv)]
    shapes = [(1, *problem.shape[1:]) for problem in cases]
    requests = [{"ask": "plan", "text": p.spec.text(shape)} for p, shape in zip(cases, shapes, strict=True)]
    for problem, shape, found in zip(cases, shapes, ask(requests), strict=True):
        plan, answer = plan_taps(problem.spec, shape), found["answer"]
        missing = 3 - problem.spec.dims
        assert answer["output"] == list(plan.output), str(problem)
        assert answer["before"] == [0] * missing + [pair[0] for pair in plan.margins], str(problem)
        assert answer["frame"] == [plan.frame[1], *[1] * missing, *plan.frame[2:]], str(problem)
        for mine, call in zip(answer["calls"], plan.calls, strict=True):
            assert mine["words"] == call.words, str(problem)
            assert mine["start"] == call.y_start, str(problem)
            assert mine["offsets"] == call.offsets.tolist(), str(problem)
            assert mine["index"] == call.index.tolist(), str(problem)


def test_samples_of_every_kind_have_the_values_of_the_reference():
    rng = np.random.default_rng(0)
    names, cases, expected = [], [], []
    for kind in kinds().values():
        for sample in kind.samples:
            spec, shape = kind.build(sample), (1, *sample.shape[1:])
            x = rng.standard_normal(shape).astype(np.float32)
            weights = random_weights(spec, rng)
            flat = [(w.ravel().tolist(), b.tolist()) for w, b in weights]
            cases.append({"text": spec.text(shape), "x": x.ravel().tolist(), "weights": flat})
            expected.append(reference(spec, x, weights).ravel())
            names.append(f"{kind.name}: {sample}")
    [found] = ask([{"ask": "engine", "taps": make_taps(), "cases": cases}])
    for name, values, y in zip(names, found["answer"], expected, strict=True):
        np.testing.assert_allclose(values, y, rtol=1e-5, atol=1e-5, err_msg=name)


def test_modules_of_presets_have_the_values_of_the_reference():
    rng = np.random.default_rng(2)
    x, w = rng.standard_normal(1009).astype(np.float32), rng.standard_normal(251).astype(np.float32)
    request = {"ask": "presets", "taps": make_taps(), "presets": make_presets(), "x": x.tolist(), "w": w.tolist()}
    [found] = ask([request])
    assert len(found["answer"]) == len(PRESETS)
    for (text, start, total), line in zip(found["answer"], PRESETS.values(), strict=True):
        spec, shape = parse(line)
        assert text == spec.text(shape)
        [weight] = spec.weight_shapes
        y = reference(spec, np.resize(x, shape), (np.resize(w, weight), None))
        np.testing.assert_allclose(start, y.ravel()[:3000], rtol=1e-5, atol=1e-4, err_msg=text)
        assert abs(total - y.sum()) < 1e-5 * np.abs(y).sum(), text
