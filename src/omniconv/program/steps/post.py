"""`PostOp`: an elementwise operation at the end of a step, and the base of the steps that end in some."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, Self

import numpy as np

from omniconv.errors import ShapeError
from omniconv.program.cut import Box, take, through_broadcast
from omniconv.program.dependence import Broadcast, Dependence, Form, Part, Scale
from omniconv.program.steps.step import Array, Shapes, Step
from omniconv.records import dataclass
from omniconv.spec import Activation, Shape

ARITHMETIC: Final = ("add", "sub", "rsub", "mul", "div", "rdiv", "max", "min", "prelu")
"""Operations of a `PostOp` on the running value v and the operand a that are one or two instructions: v+a, v-a, a-v,
v*a, v/a, a/v, max(v, a), min(v, a), and v if v >= 0 else a*v."""

COMPARISONS: Final = ("less", "less_equal", "greater", "greater_equal", "equal")
"""v < a, v <= a, v > a, v >= a, v == a: 1 where it holds, else 0. Such a value is called a truth."""

BINARY: Final = (
    *ARITHMETIC, *COMPARISONS, "threshold", "keep", "rkeep", "drop", "rdrop", "pow", "rpow", "fmod", "rfmod",
)  # fmt: skip
"""All binary operations. Beside those above:

- threshold: v if v > a else 0;
- keep: v where the truth a is 1, else -0; drop: v where it is 0, else -0; rkeep and rdrop: a where the truth v is;
  so ``keep(v, t) + drop(a, t)`` is v where t holds and a elsewhere, to the last bit;
- pow: v^a, rpow: a^v, as C has them; fmod: v - a trunc(v / a), rfmod: with the sides exchanged.
"""

SWAPPED: Final = {
    "sub": "rsub", "div": "rdiv", "pow": "rpow", "fmod": "rfmod", "keep": "rkeep", "drop": "rdrop", "less": "greater",
    "less_equal": "greater_equal",
}  # fmt: skip
SWAPPED.update({swapped: op for op, swapped in tuple(SWAPPED.items())})
"""The operation with its two sides exchanged; the others commute, but for prelu and threshold."""

BRIEF: Final = frozenset(BINARY) - {"pow", "rpow", "fmod", "rfmod"}
"""Binary operations that are a few instructions."""

ADDITIVE: Final = ("add", "sub", "rsub")


@dataclass(frozen=True, slots=True, eq=False)
class PostOp:
    """One elementwise operation on the running result of a step.

    Attributes:
        op: ``"act"``, one of :data:`BINARY`, or one of :data:`omniconv.program.functions.FUNCTIONS`.
        operand: for a binary operation, a value's name or a constant; its shape broadcasts (NumPy rules) to the result.
        activation: for ``"act"``, the function.
    """

    op: str
    operand: str | Array | None = None
    activation: Activation | None = None

    def __post_init__(self) -> None:
        operand: object = self.operand
        if isinstance(operand, np.generic):  # what NumPy makes of arrays of no axes
            object.__setattr__(self, "operand", np.asarray(operand))

    def with_constant(self, convert: Callable[[Array], Array]) -> PostOp:
        """The operation with its operand converted, where that is a constant; itself where nothing changes."""
        if not isinstance(self.operand, np.ndarray):
            return self
        found = convert(self.operand)
        return self if found is self.operand else replace(self, operand=found)

    @property
    def light(self) -> bool:
        """Whether it is short enough to follow every sum of a layer: an activation, or a few instructions."""
        return self.op == "act" or self.op in BRIEF

    @property
    def linear(self) -> bool:
        """Whether it is linear in the running value and a value that it reads together, plus a constant."""
        if self.op == "act":
            return self.activation is not None and self.activation.name == "neg"
        return self.op in ADDITIVE or (self.op in ("mul", "div") and not isinstance(self.operand, str))


class Posted(Step):
    """A step that ends in elementwise operations ``post``."""

    __slots__ = ()
    post: tuple[PostOp, ...]

    @property
    def factors(self) -> tuple[str, ...]:
        """Names of the values that its input is multiplied with, or that are added to the product."""
        return ()

    @property
    def reads(self) -> tuple[str, ...]:
        """Its input, its factors, and the operands that are values."""
        return (self.x, *self.factors, *(op.operand for op in self.post if isinstance(op.operand, str)))

    def renamed(self, names: Mapping[str, str]) -> Self:
        """Its operands as well."""
        post = tuple(
            replace(op, operand=names.get(op.operand, op.operand)) if isinstance(op.operand, str) else op
            for op in self.post
        )
        step: Any = Step.renamed(self, names)
        return replace(step, post=post)  # type: ignore[no-any-return]

    def reading(self, names: Sequence[str]) -> Self:
        """Its input, its factors and its operands, each from a place of its own."""
        rest = iter(names)
        changed: dict[str, Any] = {"x": next(rest)}
        for name in ("w", "b"):
            if isinstance(getattr(self, name, None), str):
                changed[name] = next(rest)
        changed["post"] = tuple(
            replace(op, operand=next(rest)) if isinstance(op.operand, str) else op for op in self.post
        )
        step: Any = self
        return replace(step, **changed)  # type: ignore[no-any-return]

    def with_constants(self, convert: Callable[[Array], Array]) -> Self:
        """Its weights, where it has some, and the operands that are constants."""
        post = tuple(op.with_constant(convert) for op in self.post)
        held = {name: array for name in ("w", "b") if isinstance(array := getattr(self, name, None), np.ndarray)}
        changed = {name: found for name, array in held.items() if (found := convert(array)) is not array}
        if not changed and all(new is old for new, old in zip(post, self.post, strict=True)):
            return self
        step: Any = self
        return replace(step, post=post, **changed)  # type: ignore[no-any-return]

    def check_operands(self, shape: Shape, shapes: Shapes) -> Shape:
        """The shape of the result, to which all operands must broadcast."""
        for op in self.post:
            if op.operand is not None:
                operand = shapes[op.operand] if isinstance(op.operand, str) else op.operand.shape
                check_broadcast(operand, shape, f"the operand of {op.op}")
        return shape

    def depend(
        self, forms: tuple[Form, ...], shapes: Shapes, factors: Sequence[Part] = (), *, linear: bool = True
    ) -> Dependence:
        """The dependence of a step whose input passes through ``forms`` before the elementwise operations, and its
        factors through theirs; ``linear`` says whether it is a linear function of all of them.
        """
        shape = shapes[self.y]
        parts = [Part(self.x, forms), *factors]
        for op in self.post:
            if isinstance(op.operand, str):
                parts.append(Part(op.operand, broadcast(shapes[op.operand], shape), op.op in ADDITIVE))
            elif op.operand is not None and op.op in ("mul", "div"):
                factor = op.operand.astype(np.float64)
                scale = Scale(factor if op.op == "mul" else 1.0 / np.where(factor == 0, np.inf, factor))
                parts = [replace(part, forms=(*part.forms, scale)) for part in parts]
        return Dependence(tuple(parts), linear=linear and all(op.linear for op in self.post))

    def cut_post(self, shapes: Shapes, box: Box) -> tuple[tuple[PostOp, ...], tuple[Box, ...]]:
        """The operations for a box of the result, and what they read of each operand that is a value."""
        reads = [through_broadcast(shapes[op.operand], box) for op in self.post if isinstance(op.operand, str)]
        post = tuple(
            op.with_constant(lambda array: take(array, through_broadcast(array.shape, box))) for op in self.post
        )
        return post, tuple(reads)

    def count_constants(self) -> int:
        """Numbers in constant operands."""
        return sum(int(op.operand.size) for op in self.post if isinstance(op.operand, np.ndarray))


def broadcast(source: Shape, shape: Shape) -> tuple[Form, ...]:
    """The forms of a value of shape ``source`` that is repeated to ``shape``; none where it has that shape."""
    return () if tuple(source) == tuple(shape) else (Broadcast(tuple(source), tuple(shape)),)


def check_broadcast(source: Shape, shape: Shape, what: str) -> None:
    """Refuse a shape that does not broadcast.

    Raises:
        ShapeError: it does not.
    """
    tail = shape[len(shape) - len(source) :] if len(source) <= len(shape) else ()
    if len(source) > len(shape) or any(a not in (1, b) for a, b in zip(source, tail, strict=True)):
        raise ShapeError(f"{what} of shape {tuple(source)} does not broadcast to {tuple(shape)}", need="NumPy's rules")
