"""Results and gradients of one layer in float64, tap by tap over padded arrays.

Written from the formulas without :mod:`omniconv.reference` or :mod:`omniconv.spec.geometry`: padding is NumPy's, and
what it copied is found by padding the numbers of positions.
"""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import numpy as np

MODES = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}


class Gradients(NamedTuple):
    """What a layer gives, and the gradients of its product with ``dy``."""

    y: np.ndarray
    dx: np.ndarray
    dw: np.ndarray
    db: np.ndarray


def gradients(spec, x, w, b, dy) -> Gradients:
    """All of them for one layer whose padding is resolved."""
    x, w, dy = (np.asarray(value, np.float64) for value in (x, w, dy))
    found = _transposed(spec, x, w, dy) if spec.transposed else _plain(spec, x, w, dy)
    y, dx, dw = found
    if b is not None:
        y = y + np.asarray(b, np.float64).reshape(1, -1, *(1,) * spec.dims)
    return Gradients(y, dx, dw, dy.sum(axis=(0, *range(2, dy.ndim))))


def _taps(spec):
    """Each tap: where its weight is, and how far it reaches along each axis."""
    for tap in itertools.product(*map(range, spec.kernel_size)):
        where = tuple(k - 1 - t if spec.flip else t for t, k in zip(tap, spec.kernel_size, strict=True))
        yield where, tuple(t * d for t, d in zip(tap, spec.dilation, strict=True))


def _window(reach, counts, strides):
    return (
        slice(None),
        slice(None),
        *(slice(r, r + (n - 1) * s + 1, s) for r, n, s in zip(reach, counts, strides, strict=True)),
    )


def _grouped(value, groups):
    """``(N, C, *S)`` as ``(groups, N, C / groups, positions)``."""
    n, c, *sizes = value.shape
    return value.reshape(n, groups, c // groups, math.prod(sizes)).swapaxes(0, 1)


def _flat(value, shape):
    """And back."""
    return value.swapaxes(0, 1).reshape(shape)


def _pad(array, spec):
    pads = ((0, 0), (0, 0), *spec.padding)
    if spec.padding_mode == "zeros":
        return np.pad(array, pads)
    return np.pad(array, pads, mode=MODES[spec.padding_mode])


def _plain(spec, x, w, dy):
    counts, g = dy.shape[2:], spec.groups
    padded = _pad(x, spec)
    y, dpadded, dw = np.zeros(dy.shape), np.zeros(padded.shape), np.zeros(w.shape)
    grad = _grouped(dy, g)
    for where, reach in _taps(spec):
        at = _window(reach, counts, spec.stride)
        part = padded[at]
        weight = w[(..., *where)].reshape(g, spec.out_channels // g, spec.in_channels // g)
        seen = _grouped(part, g)
        y += _flat(np.einsum("goi,gnip->gnop", weight, seen), dy.shape)
        dpadded[at] += _flat(np.einsum("goi,gnop->gnip", weight, grad), part.shape)
        dw[(..., *where)] = np.einsum("gnop,gnip->goi", grad, seen).reshape(w.shape[:2])
    if spec.padding_mode == "zeros":
        inner = (
            slice(None),
            slice(None),
            *(slice(p, p + n) for (p, _), n in zip(spec.padding, x.shape[2:], strict=True)),
        )
        return y, dpadded[inner], dw
    numbers = _pad(np.arange(math.prod(x.shape[2:])).reshape(1, 1, *x.shape[2:]), spec).reshape(-1)
    dx = np.zeros((*x.shape[:2], math.prod(x.shape[2:])))
    np.add.at(dx, (slice(None), slice(None), numbers), dpadded.reshape(*x.shape[:2], -1))
    return y, dx.reshape(x.shape), dw


def _transposed(spec, x, w, dy):
    counts, g = x.shape[2:], spec.groups
    extents = [d * (k - 1) + 1 for k, d in zip(spec.kernel_size, spec.dilation, strict=True)]
    extra = spec.output_padding or (0,) * spec.dims
    whole = [(n - 1) * s + e + a for n, s, e, a in zip(counts, spec.stride, extents, extra, strict=True)]
    kept = (slice(None), slice(None), *(slice(p, p + n) for (p, _), n in zip(spec.padding, dy.shape[2:], strict=True)))
    y, grad = np.zeros((*dy.shape[:2], *whole)), np.zeros((*dy.shape[:2], *whole))
    grad[kept] = dy
    dx, dw, seen = np.zeros(x.shape), np.zeros(w.shape), _grouped(x, g)
    for where, reach in _taps(spec):
        at = _window(reach, counts, spec.stride)
        weight = w[(..., *where)].reshape(g, spec.in_channels // g, spec.out_channels // g)
        part = grad[at]
        y[at] += _flat(np.einsum("gio,gnip->gnop", weight, seen), part.shape)
        dx += _flat(np.einsum("gio,gnop->gnip", weight, _grouped(part, g)), x.shape)
        dw[(..., *where)] = np.einsum("gnip,gnop->gio", seen, _grouped(part, g)).reshape(w.shape[:2])
    return y[kept], dx, dw
