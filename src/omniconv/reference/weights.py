"""Weights and inputs as they are given: checked against a spec, and drawn at random for it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from omniconv.errors import DataError, ShapeError
from omniconv.spec import Conv, Spec

Array: TypeAlias = npt.NDArray[Any]
Weights: TypeAlias = Sequence[Any]
"""One ``(w, b)`` or ``(w, None)`` for a `Conv`; a sequence of them, in the order of ``chain.convs``, for a `Chain`."""


def check_array(value: object, name: str, at: str = "") -> Array:
    """Turn ``value`` into a NumPy array of real numbers without copying where possible.

    Raises:
        DataError: not an array (lists are not), or not of integers or floats.
    """
    if not (hasattr(value, "__array__") or hasattr(value, "__dlpack__")):
        raise DataError(f"{name} is {type(value).__name__}", need="an array of numbers", fix="numpy.asarray", at=at)
    try:
        array = np.asarray(value) if hasattr(value, "__array__") else np.from_dlpack(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, RuntimeError, BufferError) as error:
        raise DataError(
            f"{name} cannot be read as a NumPy array: {error}", need="an array in host memory", at=at
        ) from None
    if array.dtype.kind not in "fiu":
        raise DataError(f"{name} has dtype {array.dtype}", need="integers or floats", fix="float32", at=at)
    return array


def check_input(spec: Spec, x: object) -> Array:
    """Check an input against a spec and return it as a NumPy array.

    Raises:
        DataError: not an array of real numbers.
        ShapeError: a shape that some step of the spec does not take.
    """
    array = check_array(x, "x", spec.text())
    spec.output_shape(array.shape)
    return array


def _is_pair(item: object) -> bool:
    return isinstance(item, tuple | list) and len(item) == 2 and not isinstance(item[0], tuple | list)


def check_weights(spec: Spec, weights: Weights) -> tuple[tuple[Array, Array | None], ...]:
    """Check weights against a spec and return one ``(w, b)`` for each of its convolutions, dtypes unchanged.

    Example:
        >>> import numpy as np
        >>> w = np.ones((8, 4, 3, 3), np.float32)
        >>> [(w_checked, b)] = check_weights(Conv.of(4, 8, 3), (w, None))
        >>> w_checked is w, b
        (True, None)

    Args:
        spec: a `Conv` or a `Chain`.
        weights: one pair for a single convolution, or a sequence with one pair for each convolution.

    Raises:
        ShapeError: the wrong number of pairs, or an array of the wrong shape.
        DataError: not pairs of arrays of real numbers.
    """
    convs = (spec,) if isinstance(spec, Conv) else spec.convs
    if not isinstance(weights, tuple | list):
        raise DataError(
            f"weights is {type(weights).__name__}",
            need="(w, b), or a sequence of them",
            fix="(w, None)",
            at=spec.text(),
        )
    pairs = [weights] if len(convs) == 1 and _is_pair(weights) else list(weights)
    if len(pairs) != len(convs):
        raise ShapeError(
            f"weights has {len(pairs)} items",
            need=f"one (w, b) for each of {len(convs)} convolution{'s'[: len(convs) > 1]}",
            at=spec.text(),
        )
    checked: list[tuple[Array, Array | None]] = []
    for index, (conv, pair) in enumerate(zip(convs, pairs, strict=True)):
        where = "" if len(convs) == 1 else f"[{index}]"
        if not _is_pair(pair):
            raise DataError(f"weights{where} is {type(pair).__name__}", need="(w, b) or (w, None)", at=conv.text())
        w = check_array(pair[0], f"w{where}", conv.text())
        b = None if pair[1] is None else check_array(pair[1], f"b{where}", conv.text())
        if w.shape != conv.weight_shape:
            order = "(in, out / groups, *kernel)" if conv.transposed else "(out, in / groups, *kernel)"
            raise ShapeError(f"w{where} has shape {w.shape}", need=f"{conv.weight_shape}, {order}", at=conv.text())
        if b is not None and b.shape != (conv.out_channels,):
            raise ShapeError(
                f"b{where} has shape {b.shape}",
                need=f"({conv.out_channels},), one for each output channel",
                at=conv.text(),
            )
        checked.append((w, b))
    return tuple(checked)


def random_weights(
    spec: Spec, rng: np.random.Generator, *, integer: bool = False, bias: bool = True, dtype: npt.DTypeLike = np.float32
) -> tuple[tuple[Array, Array | None], ...]:
    """Weights for every convolution of a spec, as float32 or another type.

    Args:
        spec: a `Conv` or a `Chain`.
        rng: where they are drawn from.
        integer: whole numbers from -4 to 4, with which sums of up to 2^20 products of such numbers are exact in
            float32; otherwise normal, with variance 1 / (products in each sum), so that results keep the scale of the
            input.
        bias: whether there are biases.
        dtype: of the arrays.
    """
    drawn: list[tuple[Array, Array | None]] = []
    for conv in (spec,) if isinstance(spec, Conv) else spec.convs:
        b: Array | None = None
        if integer:
            w = rng.integers(-4, 5, conv.weight_shape).astype(dtype)
            b = rng.integers(-4, 5, conv.out_channels).astype(dtype) if bias else None
        else:
            products = conv.in_channels // conv.groups * math.prod(conv.kernel_size)
            if conv.transposed:
                products = max(1, products // math.prod(conv.stride))
            w = (rng.standard_normal(conv.weight_shape) / math.sqrt(products)).astype(dtype)
            b = (rng.standard_normal(conv.out_channels) / 2).astype(dtype) if bias else None
        drawn.append((w, b))
    return tuple(drawn)
