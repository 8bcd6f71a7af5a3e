"""What operators work on: constants (arrays, folded while reading) and references to values of the program."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

from omniconv.errors import ModelError, ShapeError, UnsupportedError
from omniconv.graph.nodes import AnyArray
from omniconv.program.element import ELEMENTS
from omniconv.program.steps import Array
from omniconv.records import dataclass
from omniconv.spec import Shape


@dataclass(frozen=True, slots=True)
class ByteForm:
    """How ONNX stores a quantised value: 8 bits, of which ``zero`` stands for 0. The program holds distances from it.

    Attributes:
        dtype: NumPy's name of the type, int8 or uint8.
        zero: the zero point.
    """

    dtype: str
    zero: int

    @property
    def low(self) -> int:
        """The least integer of the program."""
        return int(np.iinfo(self.dtype).min) - self.zero

    @property
    def high(self) -> int:
        """The largest integer of the program."""
        return int(np.iinfo(self.dtype).max) - self.zero


@dataclass(frozen=True, slots=True)
class Ref:
    """A value that the program computes.

    Attributes:
        name, shape: of the value.
        truth: whether it is boolean to ONNX; its numbers are 0 and 1.
        form: where it is quantised, how ONNX stores it.
    """

    name: str
    shape: Shape
    truth: bool = False
    form: ByteForm | None = None

    @property
    def rank(self) -> int:
        """Number of axes."""
        return len(self.shape)


Operand: TypeAlias = Ref | AnyArray | None
"""``None`` stands for an optional input that is not given."""
Operands: TypeAlias = Sequence[Operand]


def as_constant(operand: Operand, what: str) -> AnyArray:
    """The constant behind an operand.

    Raises:
        ModelError: an input that is not given.
        UnsupportedError: a value computed while the model runs.
    """
    if operand is None:
        raise ModelError(f"{what} is not given", need=f"the input {what}")
    if isinstance(operand, Ref):
        raise UnsupportedError(
            f"{what} is computed while the model runs",
            need="a constant",
            fix="an initialiser, or constants={name: array} where it is an input of the model",
        )
    return operand


def as_weights(operand: Operand, what: str) -> Array:
    """A constant that takes part in arithmetic, contiguous and aligned.

    Raises:
        UnsupportedError: another element type, or a value computed while the model runs.
    """
    array = as_constant(operand, what)
    if array.dtype.name not in ELEMENTS:
        raise UnsupportedError(
            f"{what} is {array.dtype}", need=" or ".join(ELEMENTS), fix="convert the model to float32"
        )
    return np.require(array, None, ["C", "A"])


def as_integers(operand: Operand, what: str) -> tuple[int, ...]:
    """A constant list of integers (a scalar counts as a list of one).

    Raises:
        ModelError: other element types or more than one axis.
    """
    array = as_constant(operand, what)
    if array.dtype.kind not in "iu" or array.ndim > 1:
        raise ModelError(f"{what} is {array.dtype} of shape {array.shape}", need="a list of integers")
    if array.size > 4096:
        raise ModelError(f"{what} lists {array.size} integers", need="at most 4096")
    return tuple(int(item) for item in array.reshape(-1))


def as_scalar(operand: Operand, what: str) -> float:
    """A constant of one element; an integer stays one, because floats hold 53 bits.

    Raises:
        ModelError: more or fewer elements, or no number.
    """
    array = as_constant(operand, what)
    if array.size != 1 or array.dtype.kind not in "fiub":
        raise ModelError(f"{what} is {array.dtype} of shape {array.shape}", need="one number")
    number: float = array.reshape(-1)[0].item()
    return number


def shape_of(operand: Operand, what: str) -> Shape:
    """Shape of a constant or a computed value."""
    if operand is None:
        raise ModelError(f"{what} is not given", need=f"the input {what}")
    return tuple(operand.shape)


def broadcast(*shapes: Shape) -> Shape:
    """The NumPy broadcast of shapes.

    Raises:
        ShapeError: shapes that do not broadcast.
    """
    rank = max(len(shape) for shape in shapes)
    result = [1] * rank
    for shape in shapes:
        for axis, size in enumerate(shape, rank - len(shape)):
            if size != 1 and result[axis] not in (1, size):
                raise ShapeError(
                    f"shapes {' and '.join(map(str, shapes))} do not broadcast",
                    need="equal sizes, or size 1, on each axis",
                )
            if size != 1:
                result[axis] = size
    return tuple(result)


def normalise_axis(axis: int, rank: int, what: str = "axis") -> int:
    """An axis counted from the front.

    Raises:
        ShapeError: an axis the value does not have.
    """
    if not -rank <= axis < rank:
        raise ShapeError(f"{what}={axis} of a value of {rank} axes", need=f"{-rank} to {rank - 1}")
    return axis % rank


def normalise_axes(axes: Sequence[int], rank: int) -> tuple[int, ...]:
    """Axes counted from the front, in the given order, each once.

    Raises:
        ShapeError: an axis the value does not have, or one given twice.
    """
    found = tuple(normalise_axis(axis, rank, "axes") for axis in axes)
    if len(set(found)) != len(found):
        raise ShapeError(f"axes={tuple(axes)} name an axis twice", need="each axis once")
    return found
