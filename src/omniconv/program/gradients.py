r"""The forward pass of a layer and its gradients as programs, all of whose weights are inputs.

.. math::
    y = A_w x + b, \qquad
    \mathrm{dx} = A_w^* \,\mathrm{dy}, \qquad
    \mathrm{dw} = \partial_w \langle A_w x, \mathrm{dy} \rangle, \qquad
    \mathrm{db}_c = \sum_{n, o} \mathrm{dy}_{n, c, o}

Nothing of them depends on the numbers in the weights: one program serves every step of a training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from omniconv.program.element import FLOAT32, Element
from omniconv.program.program import Program
from omniconv.program.steps import (
    ConvStep,
    PadStep,
    RearrangeStep,
    ReduceStep,
    ResizeStep,
    SliceStep,
    WeightGradientStep,
)
from omniconv.program.steps.pad import source_positions
from omniconv.spec import Conv, Shape
from omniconv.spec.conv import PAD_WORDS


def forward_program(spec: Conv, shape: Sequence[int], *, bias: bool, element: Element = FLOAT32) -> Program:
    """``y`` from ``x``, ``w`` and, with a bias, ``b``.

    Raises:
        ShapeError: an input that the layer does not take.
    """
    shape, result = spec.check_input(shape), spec.output_shape(shape)
    shapes = {"x": shape, "w": spec.weight_shape} | ({"b": (spec.out_channels,)} if bias else {})
    program = Program(inputs=tuple(shapes), shapes=dict(shapes), element=element)
    program.outputs = (program.add(ConvStep("x", "y", spec.resolve(shape), "w", "b" if bias else None), result),)
    return program


def input_gradient_program(spec: Conv, shape: Sequence[int], *, element: Element = FLOAT32) -> Program:
    """``dx`` from ``dy`` and ``w``, for an input of ``shape``.

    Raises:
        ShapeError: an input that the layer does not take.
    """
    shape, result = spec.check_input(shape), spec.output_shape(shape)
    shapes = {"dy": result, "w": spec.weight_shape}
    program = Program(inputs=tuple(shapes), shapes=dict(shapes), element=element)
    program.outputs = (add_input_gradient(program, "dy", spec, shape),)
    return program


def add_input_gradient(program: Program, dy: str, spec: Conv, shape: Shape) -> str:
    """``dx`` from ``dy`` and ``w`` in a program that has both."""
    spec = spec.resolve(shape)
    pads = _pads(spec)
    if spec.padding_mode == "zeros":
        inner, padded = spec, shape
    else:
        inner = _without_padding(spec)
        padded = (*shape[:2], *(size + sum(pair) for size, pair in zip(shape[2:], pads, strict=True)))
    dy, inner = _drop_surplus(program, dy, inner)
    if spec.padding_mode == "zeros":
        return program.add(ConvStep(dy, "dx", _adjoint(inner, shape), "w"), shape)
    copies = program.add(ConvStep(dy, "copies", _adjoint(inner, padded), "w"), padded)
    return _add_copies(program, copies, spec, shape)


def weight_gradient_program(spec: Conv, shape: Sequence[int], *, bias: bool, element: Element = FLOAT32) -> Program:
    """``dw`` and, with a bias, ``db`` from ``x`` and ``dy``, for an input of ``shape``.

    Raises:
        ShapeError: an input that the layer does not take.
    """
    shape, result = spec.check_input(shape), spec.output_shape(shape)
    program = Program(inputs=("x", "dy"), shapes={"x": shape, "dy": result}, element=element)
    program.outputs = add_weight_gradient(program, "dy", spec, shape, bias=bias)
    return program


def add_weight_gradient(program: Program, dy: str, spec: Conv, shape: Shape, *, bias: bool) -> tuple[str, ...]:
    """``dw`` and, with a bias, ``db`` from ``x`` and ``dy`` in a program that has both."""
    spec = spec.resolve(shape)
    x = "x"
    if spec.padding_mode != "zeros":
        pads = ((0, 0), (0, 0), *_pads(spec))
        padded = tuple(size + sum(pair) for size, pair in zip(shape, pads, strict=True))
        x = program.add(PadStep("x", "padded", pads, PAD_WORDS[spec.padding_mode]), padded)
        spec = _without_padding(spec)
    dw = program.add(WeightGradientStep(x, "dw", dy, spec), spec.weight_shape)
    return (dw, _add_bias(program, dy)) if bias else (dw,)


def _pads(spec: Conv) -> tuple[tuple[int, int], ...]:
    assert not isinstance(spec.padding, str), "the padding is resolved"
    return spec.padding


def _without_padding(spec: Conv) -> Conv:
    """The layer that reads an input which is padded already."""
    return replace(spec, padding=((0, 0),) * spec.dims, padding_mode="zeros")


def _adjoint(spec: Conv, shape: Shape) -> Conv:
    """:meth:`Conv.adjoint`, for a depthwise layer of stride 1 as one whose kernel is mirrored instead of transposed."""
    found = spec.adjoint(shape)
    alike = spec.is_depthwise and spec.in_channels == spec.out_channels
    if not (found.transposed and alike and set(found.stride) == {1}):
        return found
    pairs = []
    for axis, size, result in zip(spec.axes(), shape[2:], spec.output_shape(shape)[2:], strict=True):
        before = axis.extent - 1 - axis.padding[0]
        pairs.append((before, size - result + axis.extent - 1 - before))
    if any(side < 0 for pair in pairs for side in pair):
        return found
    none = (0,) * spec.dims
    return replace(found, transposed=False, output_padding=none, padding=tuple(pairs), flip=not spec.flip)


def _drop_surplus(program: Program, dy: str, spec: Conv) -> tuple[str, Conv]:
    """``dy`` without the positions that no tap reaches, where :meth:`Conv.adjoint` cannot leave them out; and the layer
    without them.
    """
    columns = zip(spec.output_padding, spec.stride, _pads(spec), strict=True)
    surplus = tuple(max(0, extra - pair[1]) if extra >= stride else 0 for extra, stride, pair in columns)
    if not any(surplus):
        return dy, spec
    shape = program.shapes[dy]
    kept = (*shape[:2], *(size - extra for size, extra in zip(shape[2:], surplus, strict=True)))
    rest = tuple(extra - drop for extra, drop in zip(spec.output_padding, surplus, strict=True))
    step = SliceStep(dy, "reached", (0,) * len(shape), (1,) * len(shape))
    return program.add(step, kept), replace(spec, output_padding=rest)


def _add_copies(program: Program, x: str, spec: Conv, shape: Shape) -> str:
    """``dx``: the gradients of all copies that padding made of a position, added up.

    A position with fewer copies than another one adds a zero that is put behind the last of them: a factor of zero
    would turn infinity into NaN.
    """
    indices = [
        _list_copies(size, *pair, PAD_WORDS[spec.padding_mode])
        for size, pair in zip(shape[2:], _pads(spec), strict=True)
    ]
    padded = program.shapes[x]
    behind = tuple((0, int(index.max() == size)) for index, size in zip(indices, padded[2:], strict=True))
    if any(map(any, behind)):
        pads = ((0, 0), (0, 0), *behind)
        ended = tuple(size + after for size, (_, after) in zip(padded, pads, strict=True))
        x = program.add(PadStep(x, "ended", pads), ended)
    ones = tuple(np.ones(index.shape, program.element.dtype) for index in indices)
    return program.add(ResizeStep(x, "dx", tuple(indices), ones), shape)


def _list_copies(size: int, before: int, after: int, mode: str) -> npt.NDArray[np.int64]:
    """For each position of an axis the padded positions that copy it, filled up with the one behind the last."""
    sources = source_positions(size, before, after, mode)
    found = [np.flatnonzero(sources == position) for position in range(size)]
    table = np.full((max(map(len, found)), size), len(sources), np.int64)
    for position, each in enumerate(found):
        table[: len(each), position] = each
    return table


def _add_bias(program: Program, dy: str) -> str:
    """``db``: images one by one, then all of them."""
    batch, channels, *_ = program.shapes[dy]
    images = program.add(ReduceStep(dy, "images", "sum"), (batch, channels))
    turned: Shape = (1, channels, batch)
    rows = program.add(RearrangeStep(images, "rows", (batch, channels), (1, 0)), turned)
    total = program.add(ReduceStep(rows, "total", "sum"), (1, channels))
    return program.add(RearrangeStep(total, "db", (1, channels), (0, 1)), (channels,))
