"""The guard itself: what it is for must really end the process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tests.guard import guarded

ROOT = Path(__file__).parents[1]
TOUCH = """
import ctypes
from tests.guard import guarded
x = guarded(1000, 0.0)
ctypes.c_float.from_address(x.ctypes.data + 4 * {index}).value {action}
"""


def test_it_is_an_ordinary_array():
    x = guarded(1000, 2.0)
    x[-1] = 5.0
    assert (x.size, float(x.sum())) == (1000, 2003.0)


@pytest.mark.skipif(sys.platform == "win32", reason="needs mprotect")
@pytest.mark.parametrize("action", ["", "= 1.0"], ids=["read", "write"])
@pytest.mark.parametrize(("index", "crashes"), [(999, False), (1000, True)])
def test_one_element_too_far_is_a_crash(index, crashes, action):
    code = TOUCH.format(index=index, action=action)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False, cwd=ROOT)
    assert (done.returncode != 0) == crashes, done.stderr.decode()
