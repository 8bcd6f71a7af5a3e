"""Batch normalisation in training and its gradient as programs, all of whose numbers are inputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from omniconv.program.element import FLOAT32, Element
from omniconv.program.program import Program
from omniconv.program.steps import MomentsStep, NormaliseGradientStep, NormaliseStep, NormaliseSumsStep, SliceStep
from omniconv.spec import Activation, Shape


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


def normalise_program(norm: Norm, shape: Shape, *, element: Element = FLOAT32) -> Program:
    """``y`` and ``moments`` from ``x``, ``w``, ``b``; or ``y`` alone, from ``mean`` and ``variance`` too.

    Raises:
        ShapeError: an input of another rank than 2 to 5.
    """
    program = _begin({"x": shape}, element, affine=norm.affine, given=norm.given)
    w, b = ("w", "b") if norm.affine else (None, None)
    if not norm.given:
        moments = program.add(MomentsStep("x", "moments"), (3, shape[1]))
        for row, name in enumerate(("mean", "variance")):
            program.add(SliceStep(moments, name, (row, 0), (1, 1)), (1, shape[1]))
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


def _begin(shapes: dict[str, Shape], element: Element, *, affine: bool, given: bool) -> Program:
    """A program without steps."""
    channels = (shapes["x"][1],)
    names = (*(("w", "b") if affine else ()), *(("mean", "variance") if given else ()))
    shapes = shapes | dict.fromkeys(names, channels)
    return Program(inputs=tuple(shapes), shapes=shapes, element=element)
