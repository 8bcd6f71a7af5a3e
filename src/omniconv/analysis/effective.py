"""Effective receptive field: how much each input position matters to one output, not only whether it does."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import field
from typing import Any

import numpy as np
import numpy.typing as npt

from omniconv.analysis.record import Record
from omniconv.analysis.subject import Subject, as_program, find_source, find_tensor
from omniconv.analysis.support import check_position, fill
from omniconv.analysis.trace import trace
from omniconv.integers import as_integer
from omniconv.records import dataclass
from omniconv.spec import Shape

Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class EffectiveField(Record):
    """The influence of each input position on one output position.

    Attributes:
        tensor, position: the output.
        influence: over the spatial positions of the input, summing to 1 (all zero where nothing is seen).
        centre, deviation: mean and standard deviation of the influence on each axis [input positions].
        half: the fewest input positions that hold half of all influence.
        how: ``"weights"`` or ``"differences"``.
    """

    tensor: str
    position: Shape
    influence: Float64 = field(repr=False)
    centre: tuple[float, ...]
    deviation: tuple[float, ...]
    half: int
    how: str


def effective_field(
    x: Subject,
    tensor: str | None = None,
    shape: Sequence[int] | None = None,
    *,
    source: str | None = None,
    position: Sequence[int] | None = None,
    gates: bool = True,
) -> EffectiveField:
    r"""The effective receptive field by path weights.

    Formula:
        influence[i] = sum over all paths from position i to the output of the product of \|w\| on the way, normalised.

        Exact for the linear part: for non-negative weights it is the gradient of the network without activations. A
        mean divides by its window, a maximum and a softmax count as the mean, activations and gates pass 1.

    Example:
        >>> from omniconv.spec import Chain, Conv
        >>> stack = Chain((Conv.of(1, 1, 3, dims=1, padding=1), Conv.of(1, 1, 3, dims=1, padding=1)))
        >>> (9 * effective_field(stack, shape=(1, 1, 7)).influence).tolist()
        [0.0, 1.0, 2.0, 3.0, 2.0, 1.0, 0.0]

    Args:
        x: a `Program` (its weights count), or a spec (weights of one).
        tensor, shape, source, position, gates: as for :func:`receptive_field`.

    Sources:
        W. Luo, Y. Li, R. Urtasun, R. Zemel: Understanding the Effective Receptive Field, 2016, arXiv:1701.04128.
    """
    program = as_program(x, shape)
    tensor, source = find_tensor(program, tensor), find_source(program, source)
    place = check_position(program.shapes[tensor], position)
    demand = np.zeros(program.shapes[tensor])
    fill(demand, place, 1.0)
    found = trace(program, tensor, demand, mode="weights", gates=gates).get(source)
    heat = np.zeros(program.shapes[source][2:]) if found is None else found.sum(axis=(0, 1))
    return _finish(tensor, place, heat, "weights")


def measured_field(
    run: Callable[[npt.NDArray[Any]], npt.NDArray[Any]],
    x: npt.NDArray[Any],
    *,
    position: Sequence[int] | None = None,
    patch: int = 1,
    step: float = 1e-3,
) -> EffectiveField:
    """The effective receptive field by central differences of any function, such as a compiled network.

    Formula:
        influence[i] = sum over channels of |run(x + h e) - run(x - h e)| / 2h at the output position, e being one on
        all channels of the patch of input positions around i.

    Args:
        run: from an array of x's shape to an array ``(N, C, *spatial)``.
        x: where the network is measured, ``(N, C, *spatial)``; random images give the expected field.
        position: of the output; default the middle one.
        patch: positions along each axis that are moved together; larger is faster and coarser.
        step: h, relative to the largest value of x.

    Example:
        >>> import numpy as np
        >>> blur = lambda x: x + np.roll(x, 1, -1) + np.roll(x, -1, -1)
        >>> (3 * measured_field(blur, np.ones((1, 1, 5))).influence).round(6).tolist()
        [0.0, 1.0, 1.0, 1.0, 0.0]
    """
    x = np.asarray(x)
    base = np.asarray(run(x))
    place = check_position(base.shape, position)
    at: Any = (..., *place)
    h = step * max(float(np.abs(x).max(initial=0.0)), 1e-12)
    sizes = x.shape[2:]
    patch = as_integer("patch", patch)
    heat = np.zeros(sizes)
    for corner in np.ndindex(*(math.ceil(size / patch) for size in sizes)):
        box = tuple(slice(c * patch, (c + 1) * patch) for c in corner)
        moved = []
        for sign in (h, -h):
            y = x.astype(np.result_type(x.dtype, np.float32), copy=True)
            part: Any = (slice(None), slice(None), *box)
            y[part] += sign
            moved.append(np.asarray(run(y), np.float64)[at])
        heat[box] = np.abs(moved[0] - moved[1]).sum() / (2 * h)
    return _finish("", place, heat, "differences")


def _finish(tensor: str, place: Shape, heat: Float64, how: str) -> EffectiveField:
    total = heat.sum()
    share = heat / total if total > 0 else heat
    centre, deviation = [], []
    for axis, size in enumerate(share.shape):
        along = share.sum(axis=tuple(n for n in range(share.ndim) if n != axis))
        mean = float((along * np.arange(size)).sum())
        centre.append(mean)
        deviation.append(float(np.sqrt(max((along * (np.arange(size) - mean) ** 2).sum(), 0.0))))
    ordered = np.sort(share, axis=None)[::-1]
    half = int(np.searchsorted(np.cumsum(ordered), 0.5 - 1e-12) + 1) if total > 0 else 0
    return EffectiveField(tensor, place, share, tuple(centre), tuple(deviation), half, how)
