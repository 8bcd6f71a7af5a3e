"""The error function, which NumPy lacks. It appears in graphs as a part of GELU."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt


def erf(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The error function in float64, elementwise.

    Example:
        >>> float(erf(np.array([1.0])).round(4)[0])
        0.8427
    """
    flat = np.fromiter(map(math.erf, x.ravel().tolist()), np.float64, x.size)
    return flat.reshape(x.shape)
