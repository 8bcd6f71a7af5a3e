r"""GridSample: an image read at places that another value gives; in NumPy, on the host.

A place is a point with one coordinate for each spatial axis, the last axis first, from -1 at one end to 1 at the other
end of the axis. With the corners aligned an end is the middle of the outermost pixel, otherwise its outer edge:

.. math:: t = \frac{(g + 1)(L - 1)}{2} \quad\text{or}\quad t = \frac{(g + 1) L - 1}{2},
          \qquad y[n, c, p] = \sum_{k} x[n, c, k] \prod_a \beta(t_a - k_a) .

The taps k along an axis are the nearest pixel (of two the even one), the two around t (linear) or the four around it
(cubic, Keys with a = -3/4). Beyond the image a tap reads zero, the pixel at the border, or the image reflected at its
ends; with the border, a place beyond the ends is first moved to the outermost pixel (PyTorch: unless it is cubic). What
is outside contributes nothing at all with zeros, whatever the image holds; where a coordinate is no number, the result
is none either. Coordinates are computed in the type of the grid, and at least in float32.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from omniconv.errors import ModelError, ShapeError
from omniconv.graph.memory import Budget
from omniconv.graph.nodes import AnyArray, Node
from omniconv.graph.operands import as_constant
from omniconv.graph.operator import register
from omniconv.spec import Shape

_TAPS: Final = {"nearest": 1, "linear": 2, "cubic": 4}
_OLD: Final = {"bilinear": "linear", "bicubic": "cubic", "nearest": "nearest"}
"""What modes are called before opset 20."""
_PADDINGS: Final = ("zeros", "border", "reflection")
_KEYS: Final = -0.75


class _Tap(NamedTuple):
    """One pixel of each place along an axis: which, its share, and whether there is one (``None``: everywhere)."""

    at: npt.NDArray[np.int64]
    share: AnyArray
    inside: npt.NDArray[np.bool_] | None


class _Sampling(NamedTuple):
    """How places are read."""

    mode: str
    padding: str
    aligned: bool


def _read_sampling(node: Node) -> _Sampling:
    """The attributes, those of older opsets by their newer names.

    Raises:
        ModelError: a word that ONNX does not know.
    """
    names = {name: name for name in _TAPS} if node.version >= 20 else _OLD
    mode = node.text("mode", "linear" if node.version >= 20 else "bilinear")
    padding = node.text("padding_mode", "zeros")
    if mode not in names or padding not in _PADDINGS:
        raise ModelError(
            f"mode={mode[:40]!r}, padding_mode={padding[:40]!r}",
            need=f"one of {', '.join(names)}, and one of {', '.join(_PADDINGS)}",
        )
    return _Sampling(names[mode], padding, bool(node.integer("align_corners", 0)))


def _check(x: AnyArray, grid: AnyArray) -> Shape:
    """The shape of the result.

    Raises:
        ShapeError: inputs that do not fit.
    """
    axes = x.ndim - 2
    if axes < 1 or grid.ndim != x.ndim or grid.shape[0] != x.shape[0] or grid.shape[-1] != axes:
        raise ShapeError(
            f"X of shape {x.shape}, grid of shape {grid.shape}",
            need="(N, C, *spatial) and (N, *places, axes), as many sizes of places as there are spatial axes",
        )
    shape = (*x.shape[:2], *grid.shape[1:-1])
    if 0 in x.shape[2:] and 0 not in shape:
        raise ShapeError(f"X of shape {x.shape}", need="an image with pixels")
    return shape


def _reflect(at: AnyArray, low: float, high: float) -> AnyArray:
    """Coordinates folded back into ``[low, high]``."""
    length = high - low
    if not length:
        return np.where(np.isnan(at), at, at.dtype.type(low))
    away = np.abs(at - low)
    turns = np.floor(away / length)
    rest = np.clip(away - turns * length, 0, length)
    folded = np.where(turns % 2 == 0, low + rest, high - rest)
    return np.asarray(np.where((low <= at) & (at <= high), at, np.where(np.isinf(at), np.nan, folded)), at.dtype)


def _reflect_pixels(at: npt.NDArray[np.int64], size: int, *, aligned: bool) -> npt.NDArray[np.int64]:
    """Numbers of pixels folded back: about the outermost pixels, or about their edges, so that these are read twice."""
    period = max(2 * size - 2, 1) if aligned else 2 * size
    at = at % period
    return np.minimum(at, (period if aligned else period - 1) - at).clip(0, size - 1)


def _weigh(share: AnyArray, taps: int) -> list[AnyArray]:
    """Shares of the pixels around a place that lies ``share`` behind one of them."""
    if taps == 2:
        return [1 - share, share]

    def near(d: AnyArray) -> AnyArray:
        return ((_KEYS + 2) * d - (_KEYS + 3)) * d * d + 1

    def far(d: AnyArray) -> AnyArray:
        return ((_KEYS * d - 5 * _KEYS) * d + 8 * _KEYS) * d - 4 * _KEYS

    return [far(share + 1), near(share), near(1 - share), far(2 - share)]


def _find_taps(grid: AnyArray, size: int, how: _Sampling) -> list[_Tap]:
    """The pixels of all places along one axis of ``size`` pixels."""
    taps = _TAPS[how.mode]
    at = (grid + 1) / 2 * (size - 1) if how.aligned else ((grid + 1) * size - 1) / 2
    if taps == 1:
        at = np.rint(at)
    low, high = (0.0, size - 1.0) if how.aligned else (-0.5, size - 0.5)
    if how.padding == "reflection":
        at = _reflect(at, low, high)
    elif how.padding == "border":
        at = np.where((at < low) | (at > high), np.clip(at, 0, size - 1), at)
    at = np.clip(at, -taps - 1, size + taps)  # beyond that nothing changes, and numbers of pixels stay small
    known = ~np.isnan(at)
    below = np.floor(at)
    first = np.where(known, below, 0).astype(np.int64)
    shares = [np.where(known, at.dtype.type(1), at)] if taps == 1 else _weigh(at - below, taps)
    found = []
    for index, share in enumerate(shares, -1 if taps == 4 else 0):
        pixel = first + index
        inside = None
        if how.padding == "zeros" and not 0 <= int(pixel.min()) <= int(pixel.max()) < size:
            inside = (pixel >= 0) & (pixel < size)
        if how.padding == "reflection":
            pixel = _reflect_pixels(pixel, size, aligned=how.aligned)
        found.append(_Tap(pixel.clip(0, size - 1), share, inside))
    return found


def _fold(node: Node, arrays: Sequence[AnyArray | None], budget: Budget) -> AnyArray:
    x, grid = (as_constant(item, name) for item, name in zip(arrays, ("the input X", "the input grid"), strict=True))
    how = _read_sampling(node)
    shape = _check(x, grid)
    budget.take(shape, x.dtype.itemsize, "what is sampled")
    if 0 in shape:
        return np.zeros(shape, x.dtype)
    images, channels, sizes = shape[0], shape[1], x.shape[2:]
    places = math.prod(shape[2:])
    whole = x.dtype.kind != "f" and how.mode == "nearest"
    wide = x.dtype if whole else np.result_type(x.dtype, np.float32)
    coordinates = np.result_type(grid.dtype, np.float32)
    # The image with its channels last; sums and what a tap reads; pixels, shares and coordinates along every axis.
    budget.check((x.size,), wide.itemsize, "an image with channels last")
    budget.check((images * places, 3 * channels), wide.itemsize, "what the taps of places read")
    budget.check((images * places, len(sizes), 4 * _TAPS[how.mode]), 8, "the taps of places")
    grid = grid.astype(coordinates, copy=False).reshape(images * places, len(sizes))
    axes = [_find_taps(grid[:, -1 - axis], size, how) for axis, size in enumerate(sizes)]
    rows = np.moveaxis(x, 1, -1).reshape(-1, channels).astype(wide, copy=False)
    start = np.repeat(np.arange(images), places)
    y = np.zeros((images * places, channels), wide)
    for taps in product(*axes):
        at, share, inside = start, np.ones((), wide), None
        for tap, size in zip(taps, sizes, strict=True):
            at = at * size + tap.at
            share = share * tap.share
            if tap.inside is not None:
                inside = tap.inside if inside is None else inside & tap.inside
        read = np.take(rows, at, 0)
        read *= share[:, None].astype(wide, copy=False)
        if inside is not None:
            read[~inside] = 0
        y += read
    return np.moveaxis(y.reshape(images, places, channels), 1, 2).reshape(shape).astype(x.dtype)


register("GridSample", fold=_fold, since=16)
