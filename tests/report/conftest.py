"""Inspected models, and a browser."""

from __future__ import annotations

import os
import shutil
from importlib.util import find_spec

import pytest
from tests.report import models

from omniconv.analysis import Machine
from omniconv.graph import to_partial_program
from omniconv.report import as_roofline, inspect_program
from omniconv.report.inspection import PARTS, Times

FLAGS = (
    "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--disable-quic",
)  # fmt: skip
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


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


@pytest.fixture(scope="session")
def browser():
    """Chromium, driven by Playwright; ``OMNICONV_BROWSER`` names another program."""
    if find_spec("playwright") is None:
        pytest.skip("playwright is not installed")
    program = os.environ.get("OMNICONV_BROWSER") or next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        pytest.skip("no Chromium is installed; apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=program, args=list(FLAGS))
        yield chromium
        chromium.close()
