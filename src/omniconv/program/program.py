"""`Program`: steps in execution order over named values."""

from __future__ import annotations

from dataclasses import dataclass, field

from omniconv.errors import ShapeError
from omniconv.program.element import FLOAT32, Element
from omniconv.program.steps import Array, ProgramStep, operands, round_constants
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
        element: the type of all values and constants.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...] = ()
    shapes: dict[str, Shape] = field(default_factory=dict)
    steps: list[ProgramStep] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    element: Element = FLOAT32
    _widened: dict[int, tuple[Array, Array]] = field(default_factory=dict, repr=False)

    def add(self, step: ProgramStep, shape: Shape, label: str = "") -> str:
        """Append a step that produces a value of ``shape``; returns the value's name.

        Its constants are rounded to the program's element: whoever makes them computes in float64, and nothing is
        rounded twice.
        """
        if step.y in self.shapes:
            raise ShapeError(f"value {step.y!r} is produced twice", need="unique names", at=label)
        for name in operands(step):
            if name not in self.shapes:
                raise ShapeError(f"value {name!r} is used before it is produced", need="steps in order", at=label)
        self.shapes[step.y] = tuple(int(size) for size in shape)
        self.steps.append(round_constants(step, self.element.dtype, self._widened))
        self.labels.append(label or step.y)
        return step.y
