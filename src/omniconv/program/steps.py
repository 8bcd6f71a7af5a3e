"""The steps of a program: what is to be computed, before any decision on layout, tiles or threads.

Values are named arrays of fixed, logical, channels-first shape ``(N, C, *spatial)`` (or any rank where a step says so).
Weights and other constants are NumPy arrays inside the steps. A spec, a chain and a network all become a `Program`;
:mod:`omniconv.compiler.planning.plan` then lays its values out in memory and turns each step into kernels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from omniconv.spec import Activation, Conv, Shape

Array: TypeAlias = npt.NDArray[np.floating[Any]]
"""Weights and other constants: in a program, of its element."""

BINARY: Final = ("add", "sub", "rsub", "mul", "div", "rdiv", "max", "min", "prelu")
"""Binary operations of a `PostOp` on the running value v and the operand a: v+a, v-a, a-v, v*a, v/a, a/v, max(v, a),
min(v, a), and v if v >= 0 else a*v."""


@dataclass(frozen=True, slots=True, eq=False)
class PostOp:
    """One elementwise operation on the running result of a step.

    Attributes:
        op: ``"act"``, or one of :data:`BINARY`.
        operand: for a binary operation, a value's name or a constant; its shape broadcasts (NumPy rules) to the result.
        activation: for ``"act"``, the function.
    """

    op: str
    operand: str | Array | None = None
    activation: Activation | None = None


@dataclass(frozen=True, slots=True, eq=False)
class ConvStep:
    """``y = post(conv(x, w) + b)`` with explicit padding.

    Attributes:
        w: the weights in PyTorch's shape: a constant, or the name of a value.
        b: one for each output channel: a constant, or the name of a value.
    """

    x: str
    y: str
    spec: Conv
    w: Array | str
    b: Array | str | None = None
    post: tuple[PostOp, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class DenseStep:
    """``y = post(x @ w.T + b)`` for x ``(..., K)``, w ``(M, K)``, y ``(..., M)``."""

    x: str
    y: str
    w: Array
    b: Array | None = None
    post: tuple[PostOp, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class ProductStep:
    """``y[..., m, n] = post(sum over k of x[..., m, k] * w[..., k, n])`` for two values of at least two axes.

    Their axes before the last two broadcast (NumPy rules).
    """

    x: str
    y: str
    w: str
    post: tuple[PostOp, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class ConstantStep:
    """``y = value``, for a constant that stands where steps read values."""

    y: str
    value: Array


@dataclass(frozen=True, slots=True)
class PoolStep:
    """Maximum or mean over a window. Windows may hang over the padded border (ceil mode): y's shape says how far.

    The divisor of a mean counts the positions of the window inside the input, or with ``count_padding`` inside the
    explicitly padded input.
    """

    x: str
    y: str
    op: str  # "max" | "mean"
    kernel: Shape
    stride: Shape
    dilation: Shape
    padding: tuple[tuple[int, int], ...]
    count_padding: bool = False


@dataclass(frozen=True, slots=True)
class ReduceStep:
    """Mean, maximum or sum over all axes after the first two; y is ``(N, C)`` or ``(N, C, 1, ...)``."""

    x: str
    y: str
    op: str  # "mean" | "max" | "sum"


@dataclass(frozen=True, slots=True, eq=False)
class MapStep:
    """``y = post(x)``, elementwise. x broadcasts (NumPy rules) to y's shape."""

    x: str
    y: str
    post: tuple[PostOp, ...]


@dataclass(frozen=True, slots=True)
class SoftmaxStep:
    """Softmax (or its logarithm) along one axis."""

    x: str
    y: str
    axis: int
    log: bool = False


@dataclass(frozen=True, slots=True)
class LrnStep:
    """``y = x / (bias + alpha / size * sum of x^2 over channels c - (size-1)//2 .. c + size//2) ^ beta``."""

    x: str
    y: str
    size: int
    alpha: float
    beta: float
    bias: float


@dataclass(frozen=True, slots=True)
class ChannelStep:
    """``y[:, c] = x[:, source[c]]``: shuffles, permutations and slices of channels. Folded into a view where
    possible.
    """

    x: str
    y: str
    source: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ConcatStep:
    """Concatenation along ``axis`` (1 = channels)."""

    xs: tuple[str, ...]
    y: str
    axis: int = 1


@dataclass(frozen=True, slots=True)
class RearrangeStep:
    """View x row-major as shape ``split``, permute the axes by ``perm``, read row-major as y's shape.

    Covers reshape (identity ``perm``), transpose (``split`` = x's shape), depth-to-space and space-to-depth.
    """

    x: str
    y: str
    split: Shape
    perm: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class SliceStep:
    """``y[i] = x[starts + i * steps]`` on every axis; steps may be negative."""

    x: str
    y: str
    starts: tuple[int, ...]
    steps: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class PadStep:
    """Padding of every axis by ``pads`` ``((before, after), ...)``; mode constant, reflect, edge or wrap."""

    x: str
    y: str
    pads: tuple[tuple[int, int], ...]
    mode: str = "constant"
    value: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class ResizeStep:
    """Separable resampling of the spatial axes.

    ``y[.., o, ..] = sum_t x[.., index[t, o], ..] * weight[t, o]``, one ``(index, weight)`` pair of arrays of shape
    ``(taps, output size)`` for each spatial axis.
    """

    x: str
    y: str
    index: tuple[npt.NDArray[np.int64], ...]
    weight: tuple[Array, ...]


ProgramStep: TypeAlias = (
    ConvStep | DenseStep | ProductStep | ConstantStep | PoolStep | ReduceStep | MapStep | SoftmaxStep | LrnStep
    | ChannelStep | ConcatStep | RearrangeStep | SliceStep | PadStep | ResizeStep
)  # fmt: skip


WithPosts: TypeAlias = ConvStep | DenseStep | ProductStep | MapStep
"""The steps that end in a list of elementwise operations."""
WITH_POSTS: Final = (ConvStep, DenseStep, ProductStep, MapStep)


def operands(step: ProgramStep) -> Iterator[str]:
    """Names of the values a step reads."""
    if isinstance(step, ConstantStep):
        return
    if isinstance(step, ConcatStep):
        yield from step.xs
        return
    yield step.x
    yield from weight_values(step)
    if isinstance(step, WITH_POSTS):
        for post in step.post:
            if isinstance(post.operand, str):
                yield post.operand


def weight_values(step: ProgramStep) -> tuple[str, ...]:
    """Names of the values that a step multiplies its input with, or adds to the product."""
    if not isinstance(step, ConvStep | ProductStep):
        return ()
    both = (step.w, step.b) if isinstance(step, ConvStep) else (step.w,)
    return tuple(item for item in both if isinstance(item, str))


def weight_arrays(step: ProgramStep) -> tuple[Array | None, Array | None]:
    """The constant weights and the constant biases of a step, ``None`` where it has none."""
    if not isinstance(step, ConvStep | DenseStep):
        return None, None
    return (
        step.w if isinstance(step.w, np.ndarray) else None,
        step.b if isinstance(step.b, np.ndarray) else None,
    )


def round_constants(
    step: ProgramStep, dtype: np.dtype[Any], widened: dict[int, tuple[Array, Array]] | None = None
) -> ProgramStep:
    """The step with its constants as arrays of ``dtype``.

    What was made of narrower arrays is kept in ``widened``, so that steps that share an array share its copy.
    """
    known = {} if widened is None else widened

    def convert(array: Array) -> Array:
        if array.dtype.itemsize < dtype.itemsize:
            return known.setdefault(id(array), (array, np.asarray(array, dtype)))[1]
        with np.errstate(over="ignore", under="ignore"):
            return np.asarray(array, dtype)

    if isinstance(step, ResizeStep):
        return replace(step, weight=tuple(map(convert, step.weight)))
    if isinstance(step, ConstantStep):
        return replace(step, value=convert(step.value))
    if not isinstance(step, WITH_POSTS):
        return step
    post = tuple(
        replace(op, operand=convert(op.operand)) if isinstance(op.operand, np.ndarray) else op for op in step.post
    )
    step = replace(step, post=post)
    w, b = weight_arrays(step)
    if isinstance(step, ConvStep | DenseStep) and w is not None:
        step = replace(step, w=convert(w))
    if isinstance(step, ConvStep | DenseStep) and b is not None:
        step = replace(step, b=convert(b))
    return step


SWAPPED: Final = {"sub": "rsub", "div": "rdiv", "rsub": "sub", "rdiv": "div"}
"""The operation with its two sides exchanged; the others commute."""
