"""Small constants for elementwise operations."""

from __future__ import annotations

import numpy as np

from omniconv.program.steps import Array


def scalar(value: float) -> Array:
    """A constant without axes; the step that it becomes part of rounds it to the program's element."""
    return np.array(value, np.float64)
