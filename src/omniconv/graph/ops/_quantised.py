"""Quantised layers, whichever way a model writes them: their levels, and the steps that they become."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from omniconv.errors import ModelError, UnsupportedError
from omniconv.graph.builder import Builder
from omniconv.graph.nodes import Node, shorten
from omniconv.graph.operands import ByteForm, Operand, Operands, Ref, as_constant
from omniconv.graph.ops.conv import read_spec
from omniconv.graph.quantised import UNIT
from omniconv.program.element import FLOAT32
from omniconv.program.levels import Levels
from omniconv.program.steps import (
    ConvStep,
    DenseStep,
    PostOp,
    QuantisedConvStep,
    QuantisedDenseStep,
    QuantisedMapStep,
)
from omniconv.records import dataclass
from omniconv.spec import Activation

BYTES = (np.dtype(np.int8), np.dtype(np.uint8))


def need_float32(node: Node, build: Builder) -> None:
    """Refuse integers beside other floats: their scales are float32.

    Raises:
        UnsupportedError: the program computes with something else.
    """
    if build.program.element != FLOAT32:
        raise UnsupportedError(f"{node.op} in {build.program.element}", need="float32")


def read_scale(node: Node, operand: Operand, place: int) -> npt.NDArray[np.float32]:
    """The constant scales at a place of a node's inputs.

    Raises:
        ModelError: one that is zero, negative, infinite or NaN.
        UnsupportedError: another type, or a value computed while the model runs.
    """
    name = _name(node, place)
    array = as_constant(operand, f"the scale {name}")
    if array.dtype != np.float32:
        raise UnsupportedError(f"the scale {name} is {array.dtype}", need="float32")
    wrong = ~(np.isfinite(array) & (array > 0))
    if wrong.any():
        raise ModelError(f"the scale {name} is {array[wrong].reshape(-1)[0]!s}", need="positive, finite scales")
    return np.asarray(array, np.float32)


def read_form(node: Node, scale: Operand, zero: Operand, place: int, usual: str = "uint8") -> tuple[float, ByteForm]:
    """The one scale at a place of a node's inputs, and the form that the zero point behind it says.

    Raises:
        ModelError: a scale that is none.
        UnsupportedError: several scales or zero points, or a type that is not of 8 bits.
    """
    found = read_scale(node, scale, place)
    point = np.zeros((), usual) if zero is None else as_constant(zero, f"the zero point {_name(node, place + 1)}")
    for what, array in (("scale", found), ("zero point", point)):
        if array.size != 1 or array.ndim > 1:
            raise UnsupportedError(
                f"{node.op} with a {what} of shape {array.shape}", need=f"one {what} for a value that is computed"
            )
    if point.dtype not in BYTES:
        raise UnsupportedError(f"{node.op} with {point.dtype}", need="integers of 8 bits")
    return float(found.reshape(-1)[0]), ByteForm(point.dtype.name, int(point.reshape(-1)[0]))


def read_quantised(node: Node, operand: Operand, form: ByteForm, what: str) -> Ref:
    """A quantised value that is stored in a form.

    Raises:
        ModelError: it is stored in another type.
        UnsupportedError: it is no quantised value of the program, or of another zero point.
    """
    if not isinstance(operand, Ref) or operand.form is None:
        raise UnsupportedError(f"{what} of {node.op} is no value that was quantised", need="a QuantizeLinear before it")
    if operand.form.dtype != form.dtype:
        raise ModelError(f"{what} is {operand.form.dtype}, its zero point {form.dtype}", need="equal types")
    if operand.form != form:
        raise UnsupportedError(
            f"{what} was quantised with zero point {operand.form.zero}, and is read with {form.zero}", need="one"
        )
    return operand


def make_levels(scale: float, form: ByteForm, low: float = -math.inf, high: float = math.inf) -> Levels:
    """The levels of a value that is stored in a form and kept between two limits."""
    ends = []
    for limit, end in ((low, form.low), (high, form.high)):
        step = np.rint(np.float32(limit) / np.float32(scale)) if math.isfinite(limit) else limit
        ends.append(int(np.clip(step, form.low, form.high)) if math.isfinite(limit) else end)
    return Levels(scale, ends[0], ends[1])


@dataclass(frozen=True, slots=True)
class ByteLayer:
    """A layer between quantised values: of x, weights, bias and result what they hold, and what it stands for.

    Attributes:
        x: the value; ``x_scale`` and ``form`` what it stands for.
        w: integers, the zero point taken off.
        w_scale: one for each output channel.
        b: the bias in float64, or the integers of it in units of x_scale times w_scale.
        y_scale, y_form, low, high: of the result; ``None`` where that is of floats.
    """

    x: Ref
    x_scale: float
    w: npt.NDArray[np.int16]
    w_scale: npt.NDArray[np.float32]
    b: npt.NDArray[np.int64]
    y_scale: float | None
    y_form: ByteForm | None
    low: float
    high: float

    @property
    def factor(self) -> npt.NDArray[np.float32]:
        """What sums are multiplied by, in float32 from the left."""
        unit = np.float32(self.x_scale) * self.w_scale
        return unit if self.y_scale is None else unit / np.float32(self.y_scale)

    @property
    def levels(self) -> Levels | None:
        """Of the result."""
        if self.y_scale is None or self.y_form is None:
            return None
        return make_levels(self.y_scale, self.y_form, self.low, self.high)

    @property
    def x_levels(self) -> Levels:
        """Of x."""
        assert self.x.form is not None
        return make_levels(self.x_scale, self.x.form)


def read_layer(node: Node, inputs: Operands, outputs: int) -> ByteLayer:
    """A layer from the inputs of QLinearConv, and the scale of its bias behind them, where it has one of its own.

    Args:
        node: the node; ``low`` and ``high`` among its attributes limit the result, where they are there.
        inputs: x, its scale and zero point, those of the weights, scale and zero point of y, bias, scale of the bias.
        outputs: the axis of the weights that is that of the outputs.
    """
    given = (*inputs, *(None,) * (10 - len(inputs)))
    x_scale, form = read_form(node, given[1], given[2], 1)
    x = read_quantised(node, given[0], form, "the input x")
    w = as_constant(given[3], "the weights")
    w_scale, points = read_scale(node, given[4], 4), given[5]
    zero = np.zeros((), w.dtype) if points is None else as_constant(points, f"the zero point {_name(node, 5)}")
    if w.dtype not in BYTES or zero.dtype != w.dtype:
        raise UnsupportedError(f"weights of {w.dtype} with zero points of {zero.dtype}", need="equal types of 8 bits")
    columns = w.shape[outputs] if w.ndim else 0
    for what, array in (("scales", w_scale), ("zero points", zero)):
        if array.size != 1 and array.shape != (columns,):
            raise ModelError(f"{what} of shape {array.shape} for weights {w.shape}", need=f"one, or {columns}")
    wide = [-1 if axis == outputs else 1 for axis in range(w.ndim)]
    centred = w.astype(np.int16) - (zero.reshape(wide) if zero.size > 1 else zero.reshape(())).astype(np.int16)
    scales = np.ascontiguousarray(np.broadcast_to(w_scale.reshape(-1), (columns,)))
    y_scale, y_form = (None, None) if given[6] is None else read_form(node, given[6], given[7], 6)
    unit = np.float64(np.float32(x_scale)) * scales.astype(np.float64)
    bias = _read_bias(node, given[8], given[9], unit)
    low, high = (node.attributes.get(key, default) for key, default in (("low", -math.inf), ("high", math.inf)))
    assert isinstance(low, float)
    assert isinstance(high, float)
    return ByteLayer(x, x_scale, centred.astype(np.int16), scales, bias, y_scale, y_form, low, high)


def _read_bias(node: Node, operand: Operand, scale: Operand, unit: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """The bias in units of the sums."""
    if operand is None:
        return np.zeros(unit.shape, np.int64)
    bias = as_constant(operand, "the bias")
    if bias.shape != unit.shape:
        raise ModelError(f"the bias has shape {bias.shape}", need=f"{unit.shape}, one value an output channel")
    numbers = bias.astype(np.float64)
    if scale is not None:
        own = read_scale(node, scale, 9).astype(np.float64).reshape(-1)
        if np.allclose(own, unit, rtol=UNIT, atol=0):
            return bias.astype(np.int64)
        numbers = numbers * own
    elif bias.dtype == np.int32:
        return bias.astype(np.int64)
    steps = np.rint(numbers / unit)
    if not np.isfinite(numbers).all():
        raise ModelError(f"the bias {_name(node, 8)} holds {numbers[~np.isfinite(numbers)][0]}", need="finite numbers")
    return np.clip(steps, -(2.0**40), 2.0**40).astype(np.int64)  # what is beyond 32 bits is refused as a sum


def add_conv(node: Node, layer: ByteLayer, build: Builder) -> Ref:
    """A convolution: of integers, or of floats between the values where its sums do not fit."""
    spec = read_spec(node, layer.x, layer.w.shape)
    shape = spec.output_shape(layer.x.shape)
    if _fits(layer):
        step = QuantisedConvStep(
            layer.x.name,
            build.out(),
            layer.w,
            layer.b.astype(np.int32),
            layer.factor,
            layer.x_levels,
            layer.levels,
            spec,
        )
        return build.quantised(step, shape, layer.y_form)
    return _between(layer, build, lambda x, y, w, b, post: ConvStep(x, y, spec, w, b, post), shape)


def add_dense(layer: ByteLayer, build: Builder) -> Ref:
    """A matrix ``(outputs, inputs)`` along the last axis, likewise."""
    if not layer.x.shape or layer.w.ndim != 2 or layer.x.shape[-1] != layer.w.shape[1]:
        raise ModelError(f"a value of shape {layer.x.shape} times weights {layer.w.shape[::-1]}", need="equal sizes")
    shape = (*layer.x.shape[:-1], layer.w.shape[0])
    if _fits(layer):
        step = QuantisedDenseStep(
            layer.x.name, build.out(), layer.w, layer.b.astype(np.int32), layer.factor, layer.x_levels, layer.levels
        )
        return build.quantised(step, shape, layer.y_form)
    return _between(layer, build, DenseStep, shape)


def _fits(layer: ByteLayer) -> bool:
    """Whether every sum is an integer of 32 bits."""
    weights = np.abs(layer.w.astype(np.int64)).reshape(layer.w.shape[0], -1).sum(1)
    return int((layer.x_levels.largest * weights + np.abs(layer.b)).max(initial=0)) < 2**31


def _between(layer: ByteLayer, build: Builder, make: Any, shape: tuple[int, ...]) -> Ref:
    """The layer in floats, between levels."""
    levels = layer.levels
    x, y = build.fresh("numbers"), build.out() if levels is None else build.fresh("result")
    build.add(QuantisedMapStep(layer.x.name, x, layer.x_scale), layer.x.shape)
    wide = (-1, *(1,) * (layer.w.ndim - 1))
    w = layer.w.astype(np.float32) * layer.w_scale.reshape(wide)
    b = (layer.b * (np.float64(layer.x_scale) * layer.w_scale)).astype(np.float32)
    limited = (layer.low, layer.high) != (-math.inf, math.inf)
    post = (PostOp("act", activation=Activation.clamp(layer.low, layer.high)),) if limited else ()
    found = build.add(make(x, y, w, b, post), shape)
    if levels is None:
        return found
    return build.quantised(QuantisedMapStep(y, build.out(), None, levels=levels), shape, layer.y_form)


def lower_layer(node: Node, inputs: Operands, build: Builder) -> Ref:
    """A layer that :mod:`omniconv.graph.quantised` found."""
    if node.op == "Conv":
        return add_conv(node, read_layer(node, inputs, 0), build)
    outputs = 0 if node.op == "Gemm" and node.attributes.get("transB", 0) else 1
    layer = read_layer(node, inputs, outputs)
    return add_dense(layer if outputs == 0 else replace(layer, w=np.ascontiguousarray(layer.w.T)), build)


def _name(node: Node, place: int) -> str:
    """The tensor at a place of a node's inputs, for messages."""
    return shorten(repr(node.inputs[place])) if place < len(node.inputs) else "of none"
