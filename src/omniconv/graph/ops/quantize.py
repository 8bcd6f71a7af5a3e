"""QuantizeLinear and DequantizeLinear to and from integers of 8 and 16 bits, by tensor, axis or block.

``y = saturate(round(x / scale) + zero)`` with halves to even, and ``y = (x - zero) scale``. What is beyond the range of
the integers is their largest or smallest, however far; NaN is the smallest.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from omniconv.errors import ModelError, UnsupportedError
from omniconv.graph.builder import Builder
from omniconv.graph.memory import Budget
from omniconv.graph.nodes import AnyArray, Node
from omniconv.graph.operands import Operand, Operands, Ref, as_constant, normalise_axis
from omniconv.graph.operator import register
from omniconv.graph.ops._quantised import make_levels, need_float32, read_form, read_quantised
from omniconv.graph.tensors import DTYPES
from omniconv.program.steps import QuantisedMapStep

_NARROW: Final = tuple(np.dtype(name) for name in ("uint8", "int8", "uint16", "int16"))


def _spread(node: Node, array: AnyArray, x: AnyArray, what: str) -> AnyArray:
    """A scale or zero point in a form that broadcasts with ``x``."""
    if array.size == 1 and array.ndim < 2:
        return array.reshape(())
    axis, block = normalise_axis(node.integer("axis", 1), x.ndim), node.integer("block_size", 0)
    if not block and array.shape == (x.shape[axis],):
        return array.reshape(-1, *(1,) * (x.ndim - 1 - axis))
    if block > 0 and array.shape == (*x.shape[:axis], -(x.shape[axis] // -block), *x.shape[axis + 1 :]):
        return np.repeat(array, block, axis).take(range(x.shape[axis]), axis)
    raise ModelError(
        f"{what} of shape {array.shape} for {x.shape}, axis={axis}, block_size={block}",
        need="one, one for each entry of the axis, or one for each block of it",
    )


def _check(node: Node, dtype: np.dtype[np.generic], *attributes: str) -> None:
    """Leave what is rare to ONNX's implementation."""
    if dtype not in _NARROW or any(node.integer(name, 0) for name in attributes):
        raise UnsupportedError(f"{node.op} with {dtype}", need="integers of 8 or 16 bits")


def _quantize(node: Node, arrays: Sequence[AnyArray | None], budget: Budget) -> AnyArray:
    x, scale = as_constant(arrays[0], "the input x"), as_constant(arrays[1], "the input y_scale")
    zero = arrays[2] if len(arrays) > 2 else None
    asked = DTYPES.get(node.integer("output_dtype", 0))
    dtype = np.dtype(np.uint8) if asked is None and zero is None else asked if zero is None else zero.dtype
    assert dtype is not None
    _check(node, dtype, "precision")
    if asked not in (None, dtype):
        raise ModelError(f"output_dtype is {asked}, the zero point {dtype}", need="equal types")
    budget.check(x.shape, 24, "what is rounded")
    quotient = np.asarray(x / _spread(node, scale, x, "the scale"))
    y: npt.NDArray[Any] = quotient.astype(np.float32) if quotient.dtype == np.float16 else quotient
    np.rint(y, out=y)
    if zero is not None and zero.any():
        y += _spread(node, zero, x, "the zero point")
    limits = np.iinfo(dtype)
    np.clip(y, limits.min, limits.max, out=y)
    if y.size and np.isnan(y.max()):
        y[np.isnan(y)] = limits.min
    return np.asarray(y.astype(dtype))


def _dequantize(node: Node, arrays: Sequence[AnyArray | None], budget: Budget) -> AnyArray:
    x, scale = as_constant(arrays[0], "the input x"), as_constant(arrays[1], "the input x_scale")
    zero = arrays[2] if len(arrays) > 2 else None
    if x.dtype != np.int32:
        _check(node, x.dtype, "output_dtype")
    budget.check(x.shape, 24, "what is scaled")
    # Integers of 16 bits, and what two of them differ by, are floats.
    wide = np.int64 if x.dtype == np.int32 else np.float32
    y: npt.NDArray[Any] = x.astype(wide)
    if zero is not None and zero.any():
        y -= _spread(node, zero, x, "the zero point").astype(wide)
    y = y.astype(np.float32, copy=False)
    y *= _spread(node, scale, x, "the scale").astype(np.float32, copy=False)
    return np.asarray(y.astype(scale.dtype, copy=False))


def _lower_quantize(node: Node, inputs: Operands, build: Builder) -> Operand:
    """A computed value on the grid of one scale."""
    need_float32(node, build)
    _refuse(node, "block_size", "output_dtype", "precision")
    x = build.value(inputs[0], "the input x")
    scale, form = read_form(node, inputs[1], inputs[2], 1)
    step = QuantisedMapStep(x.name, build.out(), None, levels=make_levels(scale, form))
    return build.quantised(step, x.shape, form)


def _lower_dequantize(node: Node, inputs: Operands, build: Builder) -> Operand:
    """A quantised value as numbers."""
    need_float32(node, build)
    _refuse(node, "block_size", "output_dtype")
    usual = inputs[0].form.dtype if isinstance(inputs[0], Ref) and inputs[0].form is not None else "uint8"
    scale, form = read_form(node, inputs[1], inputs[2], 1, usual)
    x = read_quantised(node, inputs[0], form, "the input x")
    return build.add(QuantisedMapStep(x.name, build.out(), scale), x.shape)


def _refuse(node: Node, *attributes: str) -> None:
    for name in attributes:
        if node.integer(name, 0):
            raise UnsupportedError(f"{node.op} of a computed value with {name}", need="one scale, and 8 bits")


register("QuantizeLinear", lower=_lower_quantize, fold=_quantize, since=10, open_sizes=True)
register("DequantizeLinear", lower=_lower_dequantize, fold=_dequantize, since=10, open_sizes=True)
