"""Inspected models."""

from __future__ import annotations

import pytest
from tests.report import models

from omniconv.analysis import Machine
from omniconv.graph import to_partial_program
from omniconv.report import as_roofline, inspect_program
from omniconv.report.inspection import PARTS, Times


def inspect_model(model, name="model.onnx", parts=PARTS, timed=True):
    program, problems = to_partial_program(model)
    times = None
    if timed and not problems:
        seconds = {label: 1e-5 * (1 + index) for index, label in enumerate(program.labels)}
        limits = as_roofline(Machine(100e9, 20e9, "a machine"))
        times = Times(seconds, 1e-6, 1, "x86-64-v3", limits, {"cpu": "a processor"})
    return inspect_program(name, program, parts=parts, problems=problems, times=times)


@pytest.fixture(scope="session")
def awkward():
    return inspect_model(models.awkward(), "awkward.onnx")
