"""`Workload`: what all contenders of a comparison compute."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from omniconv.bench.precision import FLOAT32, IntegerLayer
from omniconv.records import dataclass
from omniconv.spec import Shape, Spec

Array: TypeAlias = npt.NDArray[Any]
Weights: TypeAlias = Sequence[tuple[Array, Array | None]]


@dataclass(frozen=True, slots=True, eq=False)
class Workload:
    """A model or a single problem, with its inputs.

    Attributes:
        name: for tables and reports: the file name, or the problem line.
        model: an ONNX model, as a file or as bytes.
        inputs: input arrays by name.
        spec: the layer, where the workload is a problem line.
        weights: its weights.
        title: where the problem comes from, for tables; may be empty.
        precision: number type (see :data:`omniconv.bench.precision.PRECISIONS`); ``model`` is in integers for int8.
        layers: its integers, where the workload is a problem line in int8 that is made of convolutions alone.
    """

    name: str
    model: Path | bytes
    inputs: Mapping[str, Array]
    spec: Spec | None = None
    weights: Weights = ()
    title: str = ""
    precision: str = FLOAT32
    layers: tuple[IntegerLayer, ...] = ()

    @property
    def shape(self) -> Shape:
        """Shape of the first input."""
        return tuple(next(iter(self.inputs.values())).shape)


def max_difference(ours: Sequence[Array], theirs: Sequence[Array]) -> float:
    """The largest absolute difference between two lists of outputs; infinite where they do not correspond.

    NaN agrees with NaN and an infinity with itself.

    Example:
        >>> import numpy as np
        >>> max_difference([np.array([1.0, np.nan])], [np.array([1.5, np.nan])])
        0.5
    """
    if len(ours) != len(theirs):
        return float("inf")
    worst = 0.0
    for mine, other in zip(ours, theirs, strict=True):
        if mine.shape != other.shape or mine.dtype.kind != other.dtype.kind:
            return float("inf")
        if mine.size == 0:
            continue
        a, b = mine.astype(np.float64), other.astype(np.float64)
        with np.errstate(invalid="ignore"):
            error = np.abs(a - b)
        error[(np.isnan(a) & np.isnan(b)) | (a == b)] = 0.0
        if np.isnan(error).any():
            return float("inf")
        worst = max(worst, float(error.max()))
    return worst


def max_magnitude(outputs: Sequence[Array]) -> float:
    """The largest finite magnitude in a list of outputs; differences are judged against it."""
    worst = 0.0
    for array in outputs:
        finite = np.abs(array[np.isfinite(array)])
        if finite.size:
            worst = max(worst, float(finite.max()))
    return worst
