"""Batch normalisation in training and its gradient as programs, all of whose numbers are inputs; and the same together
with the convolution in front, whose result is normalised.
"""

from __future__ import annotations

from collections.abc import Sequence

from omniconv.program.element import FLOAT32, Element
from omniconv.program.gradients import add_input_gradient, add_weight_gradient
from omniconv.program.program import Program
from omniconv.program.steps import (
    ConvStep,
    MapStep,
    MomentsStep,
    NormaliseGradientStep,
    NormaliseStep,
    NormaliseSumsStep,
    PostOp,
    RearrangeStep,
    SliceStep,
)
from omniconv.records import dataclass
from omniconv.spec import Activation, Conv, Shape


@dataclass(frozen=True, slots=True)
class Norm:
    """A normalisation of each channel over all images and positions, and an activation.

    Attributes:
        affine: whether each channel has a factor and something that is added.
        given: whether mean and variance are given; else they are those of the input.
        epsilon: is added to the variance.
        activation: follows, where there is one.
    """

    affine: bool
    given: bool
    epsilon: float
    activation: Activation | None = None

    def text(self, shape: Sequence[int]) -> str:
        """In one line, for messages."""
        behind = "" if self.activation is None else f" {self.activation.name}"
        return f"batch_norm {'x'.join(map(str, shape))}{behind}"


@dataclass(frozen=True, slots=True)
class ConvNorm:
    """A convolution whose result is normalised by its own moments, with a factor and what is added for each channel.

    Attributes:
        conv: the layer.
        bias: whether it has one.
        epsilon, activation: of the normalisation, as for :class:`Norm`.
        tracked: whether running statistics take their part of the moments.
    """

    conv: Conv
    bias: bool
    epsilon: float
    activation: Activation | None = None
    tracked: bool = False

    def text(self, shape: Sequence[int]) -> str:
        """In one line, for messages."""
        return self.conv.text(shape)


def normalise_program(norm: Norm, shape: Shape, *, element: Element = FLOAT32) -> Program:
    """``y`` and ``moments`` from ``x``, ``w``, ``b``; or ``y`` alone, from ``mean`` and ``variance`` too.

    Raises:
        ShapeError: an input of another rank than 2 to 5.
    """
    program = _begin({"x": shape}, element, affine=norm.affine, given=norm.given)
    w, b = ("w", "b") if norm.affine else (None, None)
    if not norm.given:
        moments = program.add(MomentsStep("x", "moments"), (3, shape[1]))
        _add_rows(program, moments)
        program.outputs = (moments,)
    step = NormaliseStep("x", "y", "mean", "variance", w, b, norm.epsilon, norm.activation)
    program.outputs = (program.add(step, shape), *program.outputs)
    return program


def normalise_gradient_program(norm: Norm, shape: Shape, *, element: Element = FLOAT32) -> Program:
    """``dx`` and ``sums`` (db and dw) from ``dy``, ``x``, ``mean``, ``variance``, ``w`` and ``b``.

    Raises:
        ShapeError: an input of another rank than 2 to 5.
    """
    program = _begin({"dy": shape, "x": shape}, element, affine=norm.affine, given=True)
    w, b = ("w", "b") if norm.affine else (None, None)
    common = ("mean", "variance", w, b, norm.epsilon, norm.activation)
    sums = program.add(NormaliseSumsStep("x", "sums", *common, dy="dy"), (2, shape[1]))
    step = NormaliseGradientStep("x", "dx", *common, dy="dy", sums=None if norm.given else sums)
    program.outputs = (program.add(step, shape), sums)
    return program


def conv_norm_program(layer: ConvNorm, shape: Shape, *, element: Element = FLOAT32) -> Program:
    """``y``, what it is made of: ``z``, the result of the convolution, and ``moments``; from ``x``, ``w``, ``b`` where
    there is one, ``scale`` and ``shift``.

    Of a layer whose statistics are tracked also ``new_mean`` and ``new_variance``, which are ``(1, C)``, from
    ``running_mean``, ``running_variance`` and ``shares``: what is left of these, and the part of the moments. Their
    result may lie where they lie.

    Raises:
        ShapeError: an input that the layer does not take.
    """
    conv = layer.conv
    shape, result = conv.check_input(shape), conv.output_shape(shape)
    channels = (conv.out_channels,)
    shapes = {"x": shape, "w": conv.weight_shape} | ({"b": channels} if layer.bias else {})
    shapes |= {"scale": channels, "shift": channels}
    if layer.tracked:
        shapes |= {"running_mean": channels, "running_variance": channels, "shares": (2,)}
    program = Program(inputs=tuple(shapes), shapes=dict(shapes), element=element)
    z = program.add(ConvStep("x", "z", conv.resolve(shape), "w", "b" if layer.bias else None), result)
    moments = program.add(MomentsStep(z, "moments"), (3, *channels))
    mean, variance = _add_rows(program, moments)
    step = NormaliseStep(z, "y", mean, variance, "scale", "shift", layer.epsilon, layer.activation)
    program.outputs = (program.add(step, result), z, moments)
    if layer.tracked:
        program.outputs += _track(program, moments)
    return program


def conv_norm_gradient_program(
    layer: ConvNorm, shape: Shape, *, inner: bool = True, element: Element = FLOAT32
) -> Program:
    """``dscale``, ``dshift``, ``dw``, ``db`` where there is a bias and, of an ``inner`` layer, ``dx``; from ``dy``,
    ``z``, ``x``, ``w``, ``scale``, ``shift`` and ``moments``.

    Raises:
        ShapeError: an input that the layer does not take.
    """
    conv = layer.conv
    shape, result = conv.check_input(shape), conv.output_shape(shape)
    channels = (conv.out_channels,)
    shapes = {"dy": result, "z": result, "x": shape, "w": conv.weight_shape}
    shapes |= {"scale": channels, "shift": channels, "moments": (3, *channels)}
    program = Program(inputs=tuple(shapes), shapes=dict(shapes), element=element)
    common = (*_add_rows(program, "moments"), "scale", "shift", layer.epsilon, layer.activation)
    sums = program.add(NormaliseSumsStep("z", "sums", *common, dy="dy"), (2, *channels))
    dz = program.add(NormaliseGradientStep("z", "dz", *common, dy="dy", sums=sums), result)
    for row, name in enumerate(("shift", "scale")):
        part = program.add(SliceStep(sums, f"row_{name}", (row, 0), (1, 1)), (1, *channels))
        program.add(RearrangeStep(part, f"d{name}", (1, *channels), (0, 1)), channels)
    program.outputs = ("dscale", "dshift", *add_weight_gradient(program, dz, conv, shape, bias=layer.bias))
    if inner:
        program.outputs += (add_input_gradient(program, dz, conv, shape),)
    return program


def conv_norms_program(layers: Sequence[ConvNorm], shape: Shape, *, element: Element = FLOAT32) -> Program:
    """Layers one after another, from ``x``: the inputs and outputs of :func:`conv_norm_program` for each of them, their
    names with its number behind, moments and then statistics behind all other outputs. ``y`` of a layer is ``x`` of the
    next one.

    Raises:
        ShapeError: an input that a layer does not take.
    """
    program = Program(inputs=("x",), shapes={"x": shape}, element=element)
    x = "x"
    for index, layer in enumerate(layers):
        part = conv_norm_program(layer, program.shapes[x], element=element)
        x = _append(program, part, {"x": x}, index)["y"]
    program.outputs = _put_last(program.outputs, "moments", "new_")
    return program


def conv_norms_gradient_program(
    layers: Sequence[ConvNorm], shape: Shape, *, inner: bool = True, element: Element = FLOAT32
) -> Program:
    """The gradients of layers one after another, the last one first: the inputs and outputs of
    :func:`conv_norm_gradient_program` for each of them, their names with its number behind, from ``dy`` and ``x``;
    moments behind all other inputs, and what has one number for each channel behind all other outputs. ``dx`` of a
    layer is ``dy`` of the one before.

    Raises:
        ShapeError: an input that a layer does not take.
    """
    shapes = [shape]
    for layer in layers:
        shapes.append(layer.conv.output_shape(shapes[-1]))
    program = Program(inputs=("dy", "x"), shapes={"dy": shapes[-1], "x": shape}, element=element)
    dy = "dy"
    for index, layer in reversed([*enumerate(layers)]):
        further = inner or index > 0
        part = conv_norm_gradient_program(layer, shapes[index], inner=further, element=element)
        names = _append(program, part, {"dy": dy, "x": f"y{index - 1}" if index else "x"}, index)
        if further:
            dy = names["dx"]
    inside = {f"dx{index}" for index in range(1, len(layers))}
    program.inputs = _put_last(program.inputs, "moments")
    program.outputs = _put_last([name for name in program.outputs if name not in inside], "dscale", "dshift", "db")
    return program


def _put_last(names: Sequence[str], *words: str) -> tuple[str, ...]:
    """Names, those behind all others that begin with a word: one word after the other, layers in order."""
    ordered = sorted(names, key=_find_layer)
    last = [name for word in words for name in ordered if name.startswith(word)]
    return (*(name for name in names if name not in last), *last)


def _find_layer(name: str) -> int:
    """The number behind a name; -1 where there is none."""
    return int(name[len(name.rstrip("0123456789")) :] or -1)


def _append(program: Program, part: Program, names: dict[str, str], index: int) -> dict[str, str]:
    """Append the steps of a part, its values named as given or with a number behind; the names of all of its values."""
    names = {name: f"{name}{index}" for name in part.shapes} | names
    for name in part.inputs:
        if names[name] not in program.shapes:
            program.inputs += (names[name],)
            program.shapes[names[name]] = part.shapes[name]
    for step in part.steps:
        program.add(step.renamed(names), part.shapes[step.y])
    program.outputs += tuple(names[name] for name in part.outputs)
    return names


def _track(program: Program, moments: str) -> tuple[str, str]:
    """Running statistics with their part of moments: the variance is that of few values, n / (n - 1) times as large."""
    channels = program.shapes[moments][1]
    for place, name in enumerate(("left", "part")):
        program.add(SliceStep("shares", name, (place,), (1,)), (1,))
    for row, name in ((0, "mean"), (2, "variance")):
        kept = program.add(MapStep(f"running_{name}", f"kept_{name}", (PostOp("mul", "left"),)), (channels,))
        now = program.add(SliceStep(moments, f"now_{name}", (row, 0), (1, 1)), (1, channels))
        program.add(MapStep(now, f"new_{name}", (PostOp("mul", "part"), PostOp("add", kept))), (1, channels))
    return "new_mean", "new_variance"


def _add_rows(program: Program, moments: str) -> tuple[str, str]:
    """Mean and variance among moments."""
    for row, name in enumerate(("mean", "variance")):
        program.add(SliceStep(moments, name, (row, 0), (1, 1)), (1, program.shapes[moments][1]))
    return "mean", "variance"


def _begin(shapes: dict[str, Shape], element: Element, *, affine: bool, given: bool) -> Program:
    """A program without steps."""
    channels = (shapes["x"][1],)
    names = (*(("w", "b") if affine else ()), *(("mean", "variance") if given else ()))
    shapes = shapes | dict.fromkeys(names, channels)
    return Program(inputs=tuple(shapes), shapes=shapes, element=element)
