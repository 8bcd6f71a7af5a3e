r"""Col2Im: the adjoint of cutting windows out of an image; where windows overlap, what they hold is added up.

.. math:: y[n, c, i] = \sum_{b, t \,:\, b s + t d - p = i} x[n, c T + t, b]

with the block ``b``, the tap ``t`` of ``T`` of its window, stride ``s``, dilation ``d`` and padding ``p``, each of as
many indices as the image has axes. The sum falls apart into one over each axis, so that windows of ``kh * kw`` taps
take ``kh + kw`` additions. No entry meets another but in those sums: what is not finite stays where it belongs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product
from typing import Any, Final

import numpy as np

from omniconv.errors import ModelError, ShapeError, UnsupportedError
from omniconv.graph.builder import Builder
from omniconv.graph.memory import Budget
from omniconv.graph.nodes import AnyArray, Node
from omniconv.graph.operands import Operand, Operands, Ref, as_constant, as_integers, shape_of
from omniconv.graph.operator import register
from omniconv.graph.ops._slices import take_slice
from omniconv.graph.ops._window import read_window
from omniconv.graph.ops.arithmetic import combine
from omniconv.integers import LIMIT, ceil_div
from omniconv.program.steps import PadStep
from omniconv.spec import Axis, Shape

MOST_TAPS: Final = 256
"""Taps along an axis, each of which becomes steps."""


def _read(node: Node, inputs: Operands) -> tuple[tuple[Axis, ...], Shape, Shape]:
    """The window and the image size of each axis, and the number of blocks along it.

    Raises:
        ModelError, ShapeError: sizes that are none, or that are not those of the input.
    """
    shape = shape_of(inputs[0], "the input")
    image, block = as_integers(inputs[1], "image_shape"), as_integers(inputs[2], "block_shape")
    if len(image) != len(block) or any(not 1 <= size <= LIMIT for size in (*image, *block)):
        raise ModelError(
            f"image_shape={image[:16]}, block_shape={block[:16]}", need=f"equal numbers of integers from 1 to {LIMIT}"
        )
    window = read_window(node, len(image), block)
    pads = window.pads or ((0, 0),) * len(image)
    axes = tuple(replace(axis, padding=pair) for axis, pair in zip(window.axes(), pads, strict=True))
    blocks = tuple(axis.infer_output(size) for axis, size in zip(axes, image, strict=True))
    taps = math.prod(block)
    if len(shape) != 3 or min(blocks) < 1 or shape[1] % taps or shape[2] != math.prod(blocks):
        raise ShapeError(
            f"the input has shape {shape}, the image has {blocks} blocks of {taps} taps",
            need="(N, C * taps, number of blocks), at least one block",
        )
    return axes, image, blocks


def _find_blocks(axis: Axis, tap: int, blocks: int, size: int) -> tuple[int, int, int]:
    """The blocks ``first..last - 1`` of which a tap lies inside the image, and where the first one does.

    Example:
        >>> _find_blocks(Axis(3, 2, padding=(1, 1)), 0, 4, 7)
        (1, 4, 1)
    """
    at = tap * axis.dilation - axis.padding[0]
    first = max(ceil_div(-at, axis.stride), 0)
    last = min(ceil_div(size - at, axis.stride), blocks)
    return first, last, at + first * axis.stride


def _spread(x: Ref, stride: int, build: Builder) -> Ref:
    """``(outer, taps, inner, L, after)`` with ``stride - 1`` zeros behind every block."""
    if stride == 1:
        return x
    *outer, blocks, after = x.shape
    column = build.rearrange(x, (math.prod(outer), blocks, 1, after), y=build.fresh("blocks"))
    pads = ((0, 0), (0, 0), (0, stride - 1), (0, 0))
    padded = build.add(PadStep(column.name, build.fresh("spread"), pads), (math.prod(outer), blocks, stride, after))
    return build.rearrange(padded, (*outer, blocks * stride, after), y=build.fresh("spread"))


def _sum_axis(x: Ref, axis: Axis, size: int, build: Builder) -> Ref | None:
    """``(outer, taps, inner, L, after)`` to ``(outer * inner, size, after)``; nothing where no tap is inside."""
    outer, taps, inner, blocks, after = x.shape
    spread = _spread(x, axis.stride, build)
    total: Ref | None = None
    for tap in range(taps):
        first, last, at = _find_blocks(axis, tap, blocks, size)
        if first >= last:
            continue
        count = min((last - first) * axis.stride, size - at)
        cuts = {1: (tap, 1, 1), 3: (first * axis.stride, 1, count)}
        cut = build.value(take_slice(spread, cuts, build, build.fresh("tap")), "a tap")
        term = build.rearrange(cut, (outer * inner, count, after), y=build.fresh("tap"))
        if count < size:
            pads = ((0, 0), (at, size - at - count), (0, 0))
            term = build.add(PadStep(term.name, build.fresh("placed"), pads), (outer * inner, size, after))
        total = term if total is None else combine(total, term, "add", build, y=build.fresh("sum"))
    return total


def _lower(node: Node, inputs: Operands, build: Builder) -> Operand:
    x = build.value(inputs[0], "the input")
    axes, image, blocks = _read(node, inputs)
    if max(axis.kernel for axis in axes) > MOST_TAPS:
        raise UnsupportedError(f"windows of {[axis.kernel for axis in axes]} taps", need=f"at most {MOST_TAPS} an axis")
    batch, taps = x.shape[0], math.prod(axis.kernel for axis in axes)
    outer = batch * x.shape[1] // taps
    shape = (batch, x.shape[1] // taps, *image)
    total: Ref | None = x
    for index, (axis, size) in enumerate(zip(axes, image, strict=True)):
        assert total is not None
        # The taps of this axis come first, behind them those of later axes and the image so far.
        taps //= axis.kernel
        inner = taps * math.prod(image[:index])
        form = (outer, axis.kernel, inner, blocks[index], math.prod(blocks[index + 1 :]))
        total = _sum_axis(build.rearrange(total, form, y=build.fresh("seen")), axis, size, build)
        if total is None:
            build.budget.take(shape, build.given.bytes, "a constant")
            return np.zeros(shape, build.given.dtype)
    assert total is not None
    return build.rearrange(total, shape)


def _list_taps(axes: Sequence[Axis], image: Shape, blocks: Shape) -> Iterator[tuple[tuple[slice, ...], ...]]:
    """For each tap, from the first axis to the last: the blocks that it has inside the image, and where."""
    rows = [
        [
            (slice(first, max(last, first)), slice(at, at + max(last - first, 0) * axis.stride, axis.stride))
            for first, last, at in (_find_blocks(axis, tap, count, size) for tap in range(axis.kernel))
        ]
        for axis, count, size in zip(axes, blocks, image, strict=True)
    ]
    for pairs in product(*rows):
        yield tuple(zip(*pairs, strict=True))


def _fold(node: Node, arrays: Sequence[AnyArray | None], budget: Budget) -> AnyArray:
    x = as_constant(arrays[0], "the input")
    axes, image, blocks = _read(node, arrays)
    taps = math.prod(axis.kernel for axis in axes)
    shape = (x.shape[0], x.shape[1] // taps, *image)
    budget.take(shape, x.dtype.itemsize, "a constant")
    columns = x.reshape((*shape[:2], taps, *blocks))
    y = np.zeros(shape, x.dtype)
    for tap, (source, place) in enumerate(_list_taps(axes, image, blocks)):
        inside: Any = (..., *place)
        picked: Any = (slice(None), slice(None), tap, *source)
        y[inside] += columns[picked]
    return y


register("Col2Im", lower=_lower, fold=_fold, since=18)
