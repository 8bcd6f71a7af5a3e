"""What analyses are asked about: a `Conv`, a `Chain` or a `Program`, all brought into the form of a `Program`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

from omniconv.choices import check_instance
from omniconv.errors import DataError, ShapeError, SpecError
from omniconv.integers import as_shape
from omniconv.program.element import FLOAT32, Element
from omniconv.program.from_spec import program_of
from omniconv.program.program import Program
from omniconv.program.steps import Array, ConvStep, ProgramStep
from omniconv.spec import Chain, Conv, Shape, Spec

Subject: TypeAlias = Spec | Program


def check_subject(x: object) -> Subject:
    """Refuse what is neither a spec nor a program.

    Raises:
        DataError: something else.
    """
    if isinstance(x, Conv | Chain | Program):
        return x
    raise DataError(
        f"cannot analyse {type(x).__name__}", need="a Conv, a Chain or a Program", fix="omniconv.inspection for models"
    )


def as_program(x: Subject, shape: Sequence[int] | None = None, element: Element | None = None) -> Program:
    """The program of a subject.

    A spec gets weights of one without memory behind them: structure is all that the analyses read of them. It is
    computed with ``element``, float32 where none is given.

    Raises:
        ShapeError: a spec without a shape, or a program with another one than its own.
        SpecError: a program with another element than its own.
        DataError: not a subject, or not an element.
    """
    x = check_subject(x)
    if element is not None:
        check_instance("element", element, Element, need="an Element", fix='find_element("float64")')
    if isinstance(x, Program):
        if element not in (None, x.element):
            raise SpecError(
                f"dtype={element} for a program that is computed with {x.element}", need="no dtype, or its own"
            )
        if shape is not None and (given := as_shape(shape)) not in [x.shapes[name] for name in x.inputs]:
            raise ShapeError(
                f"shape={given} for a program whose shapes are fixed: {[x.shapes[name] for name in x.inputs]}",
                need="no shape, or the shape of its input",
            )
        return x
    if shape is None:
        raise ShapeError("a spec is analysed for a shape", need="(N, C, *spatial)", at=x.text())
    element = FLOAT32 if element is None else element
    weights: list[tuple[Array, None]] = [(_ones(size, element), None) for size in x.weight_shapes]
    return program_of(x, shape, weights, element)


def _ones(shape: Shape, element: Element) -> Array:
    return np.broadcast_to(np.ones((), element.dtype), shape)


def default_shape(spec: Spec, size: int) -> Shape:
    """An input shape of ``size`` positions an axis, batch 1."""
    return (1, spec.in_channels, *(size,) * spec.dims)


def find_tensor(program: Program, tensor: str | None) -> str:
    """The name of the value that is asked about: a value, or the label of a step; default the first output.

    Raises:
        SpecError: no such value, or a program without outputs.
    """
    if tensor is None:
        if not program.outputs:
            raise SpecError("the program has no outputs", need="the name of a value", at="tensor=None")
        return program.outputs[0]
    check_instance("tensor", tensor, str, need="the name of a value or of a layer")
    if tensor in program.shapes:
        return tensor
    for step, label in zip(reversed(program.steps), reversed(program.labels), strict=True):
        if label == tensor:
            return step.y
    near = [name for name in [*program.shapes, *program.labels] if tensor.lower() in name.lower()][:3]
    raise SpecError(
        f"tensor={tensor!r} is not in the program", need="the name of a value or of a layer", fix=" or ".join(near)
    )


def find_source(program: Program, source: str | None) -> str:
    """The input that fields are measured on; default the first.

    Raises:
        SpecError: not an input.
    """
    if source is None:
        if not program.inputs:
            raise SpecError("the program has no inputs", need="a program that computes from an input")
        return program.inputs[0]
    check_instance("source", source, str, need="the name of an input")
    if source not in program.inputs:
        raise SpecError(f"source={source!r} is not an input", need="one of " + ", ".join(program.inputs))
    return source


def needed_steps(program: Program, tensor: str) -> list[int]:
    """Indices of the steps that a value is computed from, in order of execution."""
    wanted = {tensor}
    kept = []
    for index in range(len(program.steps) - 1, -1, -1):
        step = program.steps[index]
        if step.y in wanted:
            kept.append(index)
            wanted.update(step.reads)
    return kept[::-1]


def describe(step: ProgramStep) -> str:
    """The problem line of a convolution, else the word for the step."""
    return step.spec.text() if isinstance(step, ConvStep) else step.word
