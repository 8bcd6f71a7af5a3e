"""`Program`: steps in execution order over named values."""

from __future__ import annotations

from dataclasses import field
from typing import cast

import numpy as np

from omniconv.closing import Later
from omniconv.errors import ShapeError
from omniconv.open_size import as_sizes
from omniconv.program.dependence import Dependence
from omniconv.program.element import FLOAT32, Element
from omniconv.program.steps import Array, ProgramStep
from omniconv.records import dataclass
from omniconv.spec import Shape


@dataclass(slots=True)
class Program:
    """Steps in execution order over named values.

    Attributes:
        shapes: the shape of every value, inputs included.
        inputs: names of the inputs, in order.
        outputs: names of the outputs, in order; an output may be an input or be named twice.
        steps: each value that is not an input is produced by exactly one step, before it is used.
        labels: name of the layer or node each step came from, parallel to ``steps``; for tables and errors.
        element: the type of constants, and of all values but those in ``elements``: quantised ones, which are integers,
            and those that are rounded to be kept in a narrower type.
        rounded: steps, by what they produce, whose constant weights are kept as bfloat16 when they are packed.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...] = ()
    shapes: dict[str, Shape] = field(default_factory=dict)
    steps: list[ProgramStep] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    element: Element = FLOAT32
    elements: dict[str, Element] = field(default_factory=dict)
    rounded: frozenset[str] = frozenset()
    _widened: dict[int, tuple[Array, Array]] = field(default_factory=dict, init=False, repr=False, compare=False)
    _dependences: dict[str, tuple[ProgramStep, Dependence]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def add(self, step: ProgramStep, shape: Shape, label: str = "", *, checked: bool = False) -> str:
        """Append a step that produces a value of ``shape``; returns the value's name.

        Its constants are rounded to the program's element: whoever makes them computes in float64, and nothing is
        rounded twice.

        Args:
            step, shape, label: see the attributes.
            checked: the same step produced this shape from the same shapes in another program of this element.

        Raises:
            ShapeError: names out of order, or a shape that the step does not produce.
            UnsupportedError: integers for a step that computes with floats.
        """
        if step.y in self.shapes:
            raise ShapeError(f"value {step.y!r} is produced twice", need="unique names", at=label)
        for name in step.reads:
            if name not in self.shapes:
                raise ShapeError(f"value {name!r} is used before it is produced", need="steps in order", at=label)
        element = step.result_element([self.element_of(name) for name in step.reads], self.element)
        self.shapes[step.y] = stated = shape if checked else as_sizes(shape)
        found = stated if checked else tuple(step.output_shape(self.shapes))
        if found != stated:
            del self.shapes[step.y]
            raise ShapeError(f"{step.word} produces {found}, not {stated}", need="the shape it produces", at=label)
        if element != self.element:
            self.elements[step.y] = element
        self.steps.append(step if checked else step.with_constants(self._convert))
        self.labels.append(label or step.y)
        return step.y

    def element_of(self, name: str) -> Element:
        """The type of a value."""
        return self.elements.get(name, self.element)

    def _convert(self, array: Array) -> Array:
        """A constant as an array of the program's element; steps that share a narrower one share its copy."""
        if isinstance(array, Later):
            return cast("Array", array.then(self._convert))
        dtype = self.element.dtype
        if array.dtype == dtype:
            return array
        if array.dtype.itemsize < dtype.itemsize:
            return self._widened.setdefault(id(array), (array, np.asarray(array, dtype)))[1]
        with np.errstate(over="ignore", under="ignore"):
            return np.asarray(array, dtype)

    def dependence(self, step: ProgramStep) -> Dependence:
        """What the result of one of its steps depends on; worked out once."""
        known = self._dependences.get(step.y)
        if known is None or known[0] is not step:
            known = self._dependences[step.y] = (step, step.dependence(self.shapes))
        return known[1]
