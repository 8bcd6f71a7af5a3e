"""Small float32 constants for elementwise operations."""

from __future__ import annotations

import numpy as np

from omniconv.program.steps import Array


def scalar(value: float) -> Array:
    """A float32 constant without axes."""
    with np.errstate(over="ignore"):
        return np.array(value, np.float32)
