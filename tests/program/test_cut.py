"""Every kind of step in parts: a box of its result, computed from boxes of what it reads."""

from __future__ import annotations

import os
from collections import Counter
from random import Random

import numpy as np
import pytest
from tests.program.steps_drawn import DRAWS, elements_of, program_of
from tests.program_oracle import run_program

from omniconv.errors import UnsupportedError
from omniconv.program.cut import box_shape, cut_transposed, cut_windows, take, whole
from omniconv.program.program import Program
from omniconv.program.steps import PoolStep, RecurrentStep, WeightGradientStep
from omniconv.program.steps.normalise import MomentsStep, NormaliseGradientStep, NormaliseStep, NormaliseSumsStep
from omniconv.spec import Axis

TRAINING = {WeightGradientStep, MomentsStep, NormaliseStep, NormaliseSumsStep, NormaliseGradientStep}
CUT_AS_A_WHOLE = {RecurrentStep, *TRAINING}
CASES = int(os.environ.get("OMNICONV_CUTS", "40"))


def draw_box(r: Random, shape):
    """Often a part of one axis only: some steps can be cut along some axes."""
    spans = [(0, size) for size in shape]
    axes = range(len(shape)) if r.random() < 0.3 or not shape else [r.randrange(len(shape))]
    for axis in axes:
        first = r.randrange(shape[axis])
        spans[axis] = (first, r.randint(first + 1, shape[axis]))
    return tuple(spans)


def check_cut(step, shapes, result, box, rng):
    """The part computes what the whole has there."""
    values = {name: rng.uniform(0.2, 0.8, shape) for name, shape in shapes.items()}
    y = run_program(program_of((step, shapes, result)), values)["y"]
    cut = step.cut({**shapes, "y": result}, box)
    assert all(a[0] <= b[0] and b[1] <= a[1] for a, b in zip(cut.box, box, strict=True))
    names = [f"{name} {n}" for n, name in enumerate(step.reads)]
    part = Program(tuple(names), shapes={name: box_shape(read) for name, read in zip(names, cut.reads, strict=True)})
    elements = elements_of(step)
    part.elements.update({new: elements[old] for new, old in zip(names, step.reads, strict=True) if old in elements})
    part.add(cut.step.reading(names), box_shape(cut.box))
    part.outputs = ("y",)
    inputs = {new: take(values[old], read) for new, old, read in zip(names, step.reads, cut.reads, strict=True)}
    np.testing.assert_allclose(run_program(part, inputs)["y"], take(y, cut.box), rtol=1e-12, atol=0)


@pytest.mark.parametrize("kind", DRAWS, ids=lambda kind: kind.__name__)
def test_a_part_of_a_step_computes_what_the_whole_has_there(kind):
    r, rng, found = Random(kind.__name__), np.random.default_rng(0), Counter()
    for _ in range(CASES):
        step, shapes, result = DRAWS[kind](r)
        box = draw_box(r, result)
        try:
            check_cut(step, shapes, result, box, rng)
            found["cut" if box != whole(result) else "whole"] += 1
        except UnsupportedError:
            found["refused"] += 1
    assert kind in CUT_AS_A_WHOLE or found["cut"] > CASES // 25, found


def test_windows_of_a_part_see_what_they_see_in_the_whole():
    """Entry by entry: tap t of output o reads the same position, or padding, in the part and in the whole."""
    r = Random(3)
    for _ in range(300):
        k, s, d, size = r.randint(1, 5), r.randint(1, 4), r.randint(1, 3), r.randint(1, 12)
        axis = Axis(k, s, d, (r.randint(0, 6), r.randint(0, 6)))
        outputs = axis.infer_output(size)
        if outputs < 1:
            continue
        first = r.randrange(outputs)
        span = (first, r.randint(first + 1, outputs))
        part = cut_windows(axis, size, outputs, span)
        start, stop = part.reads
        for o in range(*part.outputs):
            for tap in range(k):
                at = o * s + tap * d - axis.padding[0]
                inside = (o - part.outputs[0]) * s + tap * d - part.padding[0]
                assert inside + start == at
                assert (0 <= inside < stop - start) == (0 <= at < size), (axis, size, span, part)


def test_transposed_windows_of_a_part_see_what_they_see_in_the_whole():
    r = Random(4)
    for _ in range(300):
        k, s, d, size = r.randint(1, 5), r.randint(1, 4), r.randint(1, 3), r.randint(1, 9)
        extra = r.randrange(max(s, d))
        axis = Axis(k, s, d, (r.randint(0, 3), r.randint(0, 3)), True, extra)
        outputs = axis.infer_output(size)
        if outputs < 1:
            continue
        first = r.randrange(outputs)
        span = (first, r.randint(first + 1, outputs))
        (low, high), part = cut_transposed(axis, size, span)
        assert part.infer_output(high - low) == span[1] - span[0]
        assert part.output_padding < max(s, d, 1)
        for o in range(*span):
            for tap in range(k):
                at = o + axis.padding[0] - tap * d
                inside = o - span[0] + part.padding[0] - tap * d
                assert at - inside == low * s
                read = at % s == 0 and 0 <= at // s < size
                assert (inside % s == 0 and 0 <= inside // s < high - low) == read, (axis, size, span, part)


def test_pools_that_hang_over_the_end_divide_by_what_they_divide_by_in_the_whole():
    step = PoolStep("x", "y", "mean", (3,), (2,), (1,), ((1, 1),), count_padding=True)
    for result in (5, 6):
        for first in range(result):
            check_cut(
                step, {"x": (1, 1, 10)}, (1, 1, result), ((0, 1), (0, 1), (first, result)), np.random.default_rng(1)
            )
