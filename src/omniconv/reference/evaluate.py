"""`reference`: the result of every spec, in float64, from its phases and taps."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from omniconv.limits import check_memory
from omniconv.reference.activation import evaluate_activation
from omniconv.reference.weights import Array, Weights, check_input, check_weights
from omniconv.spec import Activation, Chain, ChainStep, Conv, PixelShuffle, Resize, Shuffle, Spec, Split
from omniconv.spec.conv import PAD_WORDS

Float64: TypeAlias = npt.NDArray[np.float64]
Pair: TypeAlias = tuple[Array, Array | None]


def reference(spec: Spec, x: object, weights: Weights) -> Float64:
    """The result of a spec, computed in float64 one tap after another.

    Formula:
        y[n, c, start + step q] = b[c] + sum over the taps (t, offset) of the phase, and over j, of
        x[n, m(c, j), q in_step + offset] w[c, j, t]

        Taps that land outside the input contribute nothing; with another padding mode than zeros the input is extended
        first.

    Example:
        >>> import numpy as np
        >>> x, w = np.arange(5.0).reshape(1, 1, 5), np.ones((1, 1, 3))
        >>> reference(Conv.of(1, 1, 3, dims=1, padding=1), x, (w, None)).tolist()
        [[[1.0, 3.0, 6.0, 9.0, 7.0]]]

    Args:
        spec: a `Conv` or a `Chain`.
        x: the input, integers or floats.
        weights: one ``(w, b)`` or ``(w, None)`` for each convolution; see :func:`check_weights`.

    Shapes:
        ``x: (N, in_channels, *spatial)``, result ``spec.output_shape(x.shape)`` float64.

    Raises:
        ShapeError: an input or weights that do not fit.
        DataError: not arrays of real numbers.
        LimitError: a result larger than the memory limit.

    Numerics:
        float64 throughout. Whole numbers below 2^53 are exact; otherwise the error is at most (K + 1) 2^-53 times
        :func:`omniconv.reference.accumulate_bound`, K being the products in one sum.
    """
    array = check_input(spec, x)
    pairs = check_weights(spec, weights)
    y = array.astype(np.float64)
    if isinstance(spec, Conv):
        return run_conv(spec, y, *pairs[0])
    for step, shares in split_pairs(spec, pairs):
        y = run_step(step, y, shares)
    return y


def split_pairs(chain: Chain, pairs: tuple[Pair, ...]) -> Iterator[tuple[ChainStep, tuple[Pair, ...]]]:
    """Each step with the pairs that belong to it."""
    rest = list(pairs)
    for step in chain.steps:
        count = 1 if isinstance(step, Conv) else len(step.branches) if isinstance(step, Split) else 0
        yield step, tuple(rest[:count])
        del rest[:count]


def run_step(step: ChainStep, x: Float64, pairs: tuple[Pair, ...]) -> Float64:
    """One step of a chain."""
    match step:
        case Conv():
            return run_conv(step, x, *pairs[0])
        case Split():
            parts = zip(step.slices(), pairs, strict=True)
            return np.concatenate([run_conv(conv, x[:, taken], *pair) for (conv, taken, _), pair in parts], axis=1)
        case Activation():
            return evaluate_activation(step, x)
        case _:
            return run_rearrangement(step, x)


def run_rearrangement(step: Shuffle | PixelShuffle | Resize, x: Float64) -> Float64:
    """A step without weights that moves or interpolates values."""
    match step:
        case Shuffle():
            return x[:, list(step.source(x.shape[1]))]
        case PixelShuffle():
            return _shuffle_pixels(x, step)
        case Resize():
            check_memory(8 * math.prod(step.output_shape(x.shape)), "the resized input of the reference")
            for axis in range(2, x.ndim):
                x = _resize_axis(x, axis, step)
            return x


def run_conv(spec: Conv, x: Float64, w: Array, b: Array | None) -> Float64:
    """One convolution; shapes are already checked."""
    spec = spec.resolve(x.shape)
    shape = spec.output_shape(x.shape)
    at = spec.text(x.shape)
    check_memory(8 * math.prod(shape), "the result of the reference", at=at)
    if spec.padding_mode != "zeros":
        pairs = [axis.padding for axis in spec.axes()]
        padded = [size + sum(pair) for size, pair in zip(x.shape[2:], pairs, strict=True)]
        check_memory(8 * math.prod((*x.shape[:2], *padded)), "the padded input of the reference", at=at)
        x = np.pad(x, [(0, 0), (0, 0), *pairs], mode=PAD_WORDS[spec.padding_mode])
        spec = replace(spec, padding=((0, 0),) * spec.dims, padding_mode="zeros")
    y = np.zeros(shape)
    if b is not None:
        y += b.astype(np.float64).reshape(-1, *(1,) * spec.dims)
    products = _plan_products(spec, w.astype(np.float64))
    sizes = x.shape[2:]
    for phases in itertools.product(*spec.phases(x.shape)):
        for taps in itertools.product(*(phase.taps for phase in phases)):
            ranges = [phase.inside(offset, size) for phase, (_, offset), size in zip(phases, taps, sizes, strict=True)]
            if any(low >= high for low, high in ranges):
                continue
            reads = [
                slice(low * phase.in_step + offset, (high - 1) * phase.in_step + offset + 1, phase.in_step)
                for phase, (_, offset), (low, high) in zip(phases, taps, ranges, strict=True)
            ]
            writes = [
                slice(phase.start + low * phase.step, phase.start + (high - 1) * phase.step + 1, phase.step)
                for phase, (low, high) in zip(phases, ranges, strict=True)
            ]
            y[:, :, *writes] += products(x[:, :, *reads], *(index for index, _ in taps))
    return y


def _plan_products(spec: Conv, w: Float64) -> Callable[..., Float64]:
    """The channel map: a function of (the values one tap reads, kernel index) that returns what the tap adds."""
    groups = spec.groups
    wide, narrow = spec.in_channels // groups, spec.out_channels // groups
    if spec.transposed:  # (in, out / g, *k): per group (out / g, in / g, *k)
        w = w.reshape(groups, wide, narrow, *spec.kernel_size).swapaxes(1, 2)
    else:
        w = w.reshape(groups, narrow, wide, *spec.kernel_size)
    w = np.ascontiguousarray(np.moveaxis(w, (0, 1, 2), (-3, -2, -1)))  # w[index]: a matrix for each group

    def products(values: Float64, *index: int) -> Float64:
        batch, _, *sizes = values.shape
        matrix = w[index]
        if wide == 1:
            spread = values.reshape(batch, groups, 1, -1) * matrix
        else:
            spread = matrix @ values.reshape(batch, groups, wide, -1)
        return np.asarray(spread.reshape(batch, spec.out_channels, *sizes), np.float64)

    return products


def _shuffle_pixels(x: Float64, step: PixelShuffle) -> Float64:
    batch, channels, *sizes = step.output_shape(x.shape)
    dims, factor = len(sizes), step.factor
    y = x.reshape(batch, channels, *[factor] * dims, *x.shape[2:])
    order = [0, 1]
    for axis in range(dims):
        order += [2 + dims + axis, 2 + axis]
    return y.transpose(order).reshape(batch, channels, *sizes)


def _resize_axis(x: Float64, axis: int, step: Resize) -> Float64:
    size, factor = x.shape[axis], step.factor
    positions = np.arange(size * factor)
    if step.mode == "nearest":
        return np.take(x, positions // factor, axis)
    # (o + 1/2) / f - 1/2 = (2 o + 1 - f) / (2 f), kept as integers so that the split into cell and fraction is exact.
    numerator = np.clip(2 * positions + 1 - factor, 0, 2 * factor * (size - 1))
    cell, remainder = np.divmod(numerator, 2 * factor)
    fraction = (remainder / (2.0 * factor)).reshape(-1, *(1,) * (x.ndim - 1 - axis))
    above = np.take(x, np.minimum(cell + 1, size - 1), axis)
    return np.asarray(np.take(x, cell, axis) * (1.0 - fraction) + above * fraction, np.float64)
