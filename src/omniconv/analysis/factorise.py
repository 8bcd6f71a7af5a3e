"""Layers that replace a dense one: each form of :mod:`omniconv.analysis.separability` as a `Chain` with its weights."""

from __future__ import annotations

from dataclasses import field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from omniconv.analysis.record import Record
from omniconv.analysis.separability import Float64, check_weights, split_groups, unfold
from omniconv.errors import ShapeError, SpecError, UnsupportedError
from omniconv.integers import as_integer
from omniconv.records import dataclass
from omniconv.spec import Chain, Conv

Weights = tuple[tuple[npt.NDArray[np.float64], None], ...]


@dataclass(frozen=True, eq=False)
class Factorised(Record):
    """A chain that approximates a convolution.

    Attributes:
        form, rank: which.
        spec: takes the same inputs to outputs of the same shape.
        weights: for :func:`omniconv.compile` and :func:`omniconv.reference`; add the bias to the last.
        error: relative squared error of the kernels, exact.
        parameters, dense: of the chain and of the layer as it is.
    """

    form: str
    rank: int
    spec: Chain
    weights: Weights = field(repr=False)
    error: float
    parameters: int
    dense: int


def factorise(conv: Conv, w: Any, *, form: str, rank: int) -> Factorised:
    """The best chain of a form and rank.

    Formula:
        truncated singular value decomposition of the form's matrix; the error is the tail of its squared spectrum.

    Example:
        >>> w = np.multiply.outer([[1.0], [2.0]], np.multiply.outer([1.0, 2.0, 1.0], [1.0, 0.0, -1.0]))
        >>> found = factorise(Conv.of(1, 2, 3, padding=1), w, form="spatial", rank=1)
        >>> found.spec.weight_shapes, round(found.error, 9), found.parameters, found.dense
        (((1, 1, 3, 1), (2, 1, 1, 3)), 0.0, 9, 18)

    Args:
        conv: a two-dimensional convolution without groups.
        w: its weights.
        form: ``"spatial"``, ``"depthwise"`` or ``"bottleneck"``.
        rank: channels between the steps, or the channel multiplier of ``"depthwise"``.

    Raises:
        SpecError: another form or rank.
        ShapeError: weights that do not fit.
        UnsupportedError: transposed or grouped layers, other numbers of axes, other padding modes than zeros.
    """
    array = check_weights(w)
    if array.shape != conv.weight_shape:
        raise ShapeError(f"w has shape {array.shape}", need=f"{conv.weight_shape}", at=conv.text())
    if conv.transposed or conv.groups > 1 or conv.dims != 2 or isinstance(conv.padding, str):
        raise UnsupportedError(
            "factorise of this layer",
            need="a 2-D convolution without groups, not transposed, with explicit padding",
            at=conv.text(),
        )
    if form not in ("spatial", "depthwise", "bottleneck"):
        raise SpecError(f"form={form!r} is unknown", need="one of spatial, depthwise, bottleneck")
    grouped = split_groups(array, 1)
    matrices = unfold(grouped, form)
    u, s, v = np.linalg.svd(matrices, full_matrices=False)
    rank = as_integer("rank", rank, 1, int(s.shape[1]), at=f"form {form!r} of {conv.text()}")
    total = float((s**2).sum())
    error = float((s[:, rank:] ** 2).sum()) / total if total else 0.0
    root = np.sqrt(s[:, None, :rank])
    left, right = u[:, :, :rank] * root, v[:, :rank] * root.swapaxes(1, 2)
    spec, weights = _BUILD[form](conv, left, right, rank)
    parameters = sum(part.size for part, _ in weights)
    return Factorised(form, rank, spec, weights, error, parameters, array.size)


def _part(conv: Conv, axis: int, **changes: Any) -> Conv:
    """The share of a layer along one axis."""
    keep = [n == axis for n in range(2)]
    assert not isinstance(conv.padding, str)
    return replace(
        conv,
        kernel_size=tuple(k if own else 1 for k, own in zip(conv.kernel_size, keep, strict=True)),
        stride=tuple(s if own else 1 for s, own in zip(conv.stride, keep, strict=True)),
        dilation=tuple(d if own else 1 for d, own in zip(conv.dilation, keep, strict=True)),
        padding=tuple(p if own else (0, 0) for p, own in zip(conv.padding, keep, strict=True)),
        **changes,
    )


def _spatial(conv: Conv, left: Float64, right: Float64, rank: int) -> tuple[Chain, Weights]:
    kh, kw = conv.kernel_size
    first = _part(conv, 0, out_channels=rank)
    second = _part(conv, 1, in_channels=rank)
    a = left[0].reshape(conv.in_channels, kh, rank).transpose(2, 0, 1)[..., None]
    b = right[0].reshape(rank, conv.out_channels, kw).swapaxes(0, 1)[:, :, None]
    return Chain((first, second)), ((a, None), (b, None))


def _depthwise(conv: Conv, left: Float64, right: Float64, rank: int) -> tuple[Chain, Weights]:
    kernel = conv.kernel_size
    wide = conv.in_channels
    first = replace(conv, out_channels=wide * rank, groups=wide)
    second = Conv.of(wide * rank, conv.out_channels, 1)
    a = right.reshape(wide * rank, 1, *kernel)
    b = left.transpose(1, 0, 2).reshape(conv.out_channels, wide * rank, 1, 1)
    return Chain((first, second)), ((a, None), (b, None))


def _bottleneck(conv: Conv, left: Float64, right: Float64, rank: int) -> tuple[Chain, Weights]:
    first = replace(conv, out_channels=rank)
    second = Conv.of(rank, conv.out_channels, 1)
    a = left[0].T.reshape(rank, conv.in_channels, *conv.kernel_size)
    b = right[0].T.reshape(conv.out_channels, rank, 1, 1)
    return Chain((first, second)), ((a, None), (b, None))


_BUILD = {"spatial": _spatial, "depthwise": _depthwise, "bottleneck": _bottleneck}
