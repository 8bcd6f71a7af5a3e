from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).resolve().parents[1] / "examples").glob("*.py"))
SLOW = {"pytorch", "study"}
"""Left to the wide run; the guide to PyTorch and the tests of the study are run as well and make the same calls."""


@pytest.mark.parametrize(
    "path",
    [pytest.param(path, marks=pytest.mark.wide) if path.stem in SLOW else path for path in EXAMPLES],
    ids=lambda path: path.stem,
)
def test_example_runs(path, tmp_path):
    done = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout
    assert list(tmp_path.iterdir()) == []


def test_there_are_examples():
    assert {path.stem for path in EXAMPLES} >= {"kinds_tour", "network", "quickstart"}
