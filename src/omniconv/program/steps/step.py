"""`Step`: what every step of a program can say about itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Self, TypeAlias

import numpy as np
import numpy.typing as npt

from omniconv.errors import ShapeError, UnsupportedError
from omniconv.program.cut import Box, Cut, whole
from omniconv.program.dependence import Dependence, Everything, Part
from omniconv.program.element import Element
from omniconv.records import dataclass
from omniconv.spec import Shape

Array: TypeAlias = npt.NDArray[np.floating[Any]]
"""Weights and other constants: in a program, of its element."""
Shapes: TypeAlias = Mapping[str, Shape]


@dataclass(frozen=True, slots=True, eq=False)
class Work:
    """What a step does and holds.

    Attributes:
        macs: nominal multiply-accumulates; ``executed`` those whose tap lands inside, ``by_input`` and ``by_output``
            counted by input and by output positions [MAC].
        w, b: its weights and biases; an array that several steps share is stored once.
        constants: numbers in operands of its elementwise operations.
    """

    macs: int = 0
    executed: int = 0
    by_input: int = 0
    by_output: int = 0
    w: Array | None = None
    b: Array | None = None
    constants: int = 0

    @property
    def weights(self) -> int:
        """Number of weights."""
        return 0 if self.w is None else int(self.w.size)

    @property
    def biases(self) -> int:
        """Number of biases."""
        return 0 if self.b is None else int(self.b.size)

    @property
    def parameters(self) -> int:
        """Weights and biases."""
        return self.weights + self.biases


class Step(ABC):
    """One step: values in, one value out. Each kind of step is a frozen dataclass in a file of its own.

    Attributes:
        x: the value that it reads, or first of all reads.
        y: the value that it produces.
        word: for tables.
    """

    __slots__ = ()
    word: ClassVar[str]
    x: Any
    y: str

    @property
    def reads(self) -> tuple[str, ...]:
        """Names of the values that it reads, each as often as it is read."""
        return (self.x,)

    def renamed(self, names: Mapping[str, str]) -> Self:
        """The step with its values, read and produced, renamed; values not in ``names`` stay."""
        step: Any = self
        return replace(step, x=names.get(self.x, self.x), y=names.get(self.y, self.y))  # type: ignore[no-any-return]

    def reading(self, names: Sequence[str]) -> Self:
        """The step with other values in place of those that it reads, in the order of ``reads``."""
        return self.renamed(dict(zip(self.reads, names, strict=True)))

    def with_constants(self, convert: Callable[[Array], Array]) -> Self:
        """The step with its weights and other constants converted; itself where it has none."""
        del convert
        return self

    def result_element(self, reads: Sequence[Element], usual: Element) -> Element:
        """The element of ``y``, given those of the values that it reads and that of the program.

        Raises:
            UnsupportedError: integers, for a step that computes with floats.
        """
        found = next((element for element in reads if element != usual), None)
        if found is not None:
            raise UnsupportedError(f"{self.word} of {found} values", need=f"{usual} values")
        return usual

    @abstractmethod
    def output_shape(self, shapes: Shapes) -> Shape:
        """The shape of ``y``.

        Args:
            shapes: of the values that it reads; and of ``y``, where a step leaves a choice (how far pooled windows hang
                over the end, what a reshape ends in, what is broadcast to).

        Raises:
            ShapeError: shapes that the step cannot read, or a choice that it does not leave.
        """

    def dependence(self, shapes: Shapes) -> Dependence:
        """What ``y`` depends on; a step that does not say depends on everything it reads.

        Args:
            shapes: of the values that it reads and of ``y``.
        """
        parts = (Part(name, (Everything(shapes[name], shapes[self.y], self.word),)) for name in self.reads)
        return Dependence(tuple(parts), linear=False)

    def cut(self, shapes: Shapes, box: Box) -> Cut:
        """The step that computes one box of ``y``; one that does not say computes all of it or nothing.

        Args:
            shapes: of the values that it reads and of ``y``.
            box: of ``y``, not empty.

        Raises:
            UnsupportedError: other parts of the result, or all of an input, are needed for the box.
        """
        if box != whole(shapes[self.y]):
            raise UnsupportedError(f"{self.word} cannot be computed in parts", need="steps that can, before tiles end")
        return Cut(self, box, tuple(whole(shapes[name]) for name in self.reads))

    @property
    def border(self) -> float | None:
        """What may stand before the first position of x so that it computes there what it computes at the border;
        ``None`` where no number does. Steps that read nothing there need not say.
        """
        return None

    def work(self, shapes: Shapes) -> Work:
        """What it costs; steps without weights count nothing."""
        del shapes
        return Work()


class Move(Step):
    """A step whose values are numbers that it reads, as they are, of whatever element."""

    __slots__ = ()

    def result_element(self, reads: Sequence[Element], usual: Element) -> Element:
        """That of what it reads, which is of one element."""
        del usual
        if len(set(reads)) != 1:
            raise UnsupportedError(f"{self.word} of {' and '.join(map(str, reads))} values", need="one element")
        return reads[0]


def check_axis(axis: int, shape: Shape) -> int:
    """An axis of a value of ``shape``, counted from the front.

    Raises:
        ShapeError: it has no such axis.
    """
    if not -len(shape) <= axis < len(shape):
        raise ShapeError(f"axis {axis} of a value of shape {tuple(shape)}", need="an axis that it has")
    return axis % len(shape)
