"""`Builder`: what an operator writes its steps with."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import field
from typing import Final

from omniconv.errors import ModelError, ShapeError, UnsupportedError
from omniconv.graph.memory import Budget
from omniconv.graph.nodes import Node
from omniconv.graph.operands import ByteForm, Operand, Ref, as_weights
from omniconv.open_size import as_sizes
from omniconv.program.element import Element
from omniconv.program.program import Program
from omniconv.program.steps import (
    ChannelStep,
    ConcatStep,
    ConstantStep,
    MapStep,
    PostOp,
    ProgramStep,
    RearrangeStep,
    SliceStep,
)
from omniconv.records import dataclass
from omniconv.spec import Activation, Shape

MOVES: Final = (ChannelStep, ConcatStep, RearrangeStep, SliceStep)
"""Steps whose values are numbers that they read, as they are."""


@dataclass(slots=True)
class Builder:
    """The program so far, the node being lowered, and the memory budget.

    Attributes:
        program: the steps emitted so far.
        budget: the memory limit.
        taken: every name of the graph; values that the builder invents avoid them.
        node: the node being lowered.
        given: the type of the model's floats.
        truths: names of the values so far that are boolean to ONNX.
        forms: how ONNX stores those that are quantised, by name; ``None`` where no value may be.
    """

    program: Program
    budget: Budget
    taken: set[str]
    node: Node
    given: Element
    truths: set[str] = field(default_factory=set)
    forms: dict[str, ByteForm] | None = None
    _counter: int = field(default=0)

    def fresh(self, what: str) -> str:
        """A new name for an intermediate value."""
        while True:
            self._counter += 1
            name = f"{self.node.label}/{what}.{self._counter}"
            if name not in self.taken:
                self.taken.add(name)
                return name

    def out(self, index: int = 0) -> str:
        """Name of the node's output, or a new one where it is unused."""
        names = self.node.outputs
        return names[index] if index < len(names) and names[index] else self.fresh("unused")

    def add(self, step: ProgramStep, shape: Iterable[int]) -> Ref:
        """Append a step whose value has ``shape``.

        Raises:
            ShapeError: a negative size.
            UnsupportedError: an empty axis, which ONNX allows.
            LimitError: a value above the memory limit.
        """
        sizes = as_sizes(shape)
        if any(size < 0 for size in sizes):
            raise ShapeError(f"the result would have shape {sizes}", need="sizes of 1 or more")
        if 0 in sizes:
            raise UnsupportedError(f"the result would have shape {sizes}", need="sizes of 1 or more")
        self.budget.check_value(sizes, self.program.element.bytes, "the result")
        self.program.add(step, sizes, self.node.label)
        if _moves(step) and self.truths.issuperset(step.reads):
            self.truths.add(step.y)
        return Ref(step.y, sizes, step.y in self.truths, self._form(step))

    def _form(self, step: ProgramStep) -> ByteForm | None:
        """How ONNX stores the value of a step.

        Raises:
            UnsupportedError: integers of several forms side by side.
        """
        if not self.program.element_of(step.y).integer or self.forms is None:
            return None
        if step.y not in self.forms:
            found = {self.forms[name] for name in step.reads}
            if not _moves(step) or len(found) != 1:
                raise UnsupportedError(f"{self.node.op} of integers", need="integers with one zero point")
            self.forms[step.y] = found.pop()
        return self.forms[step.y]

    def quantised(self, step: ProgramStep, shape: Iterable[int], form: ByteForm | None) -> Ref:
        """Append a step that reads or makes quantised values; its own is stored by ONNX in a form, or is of floats.

        Raises:
            UnsupportedError: values on grids are not known here.
        """
        if self.forms is None:
            raise UnsupportedError(f"{self.node.op} of a computed value", need="a model that is compiled as a whole")
        if form is not None:
            self.forms[step.y] = form
        return self.add(step, shape)

    def value(self, operand: Operand, what: str, *, rank: int = 0) -> Ref:
        """The value behind an operand of at least ``rank`` axes; a constant becomes a step of its own.

        Raises:
            ModelError: an input that is not given.
            ShapeError: too few axes.
            UnsupportedError: a constant of integers.
        """
        if operand is None:
            raise ModelError(f"{what} is not given", need=f"the input {what}")
        if len(operand.shape) < rank:
            raise ShapeError(f"{what} has shape {operand.shape}", need=f"at least {rank} axes")
        if isinstance(operand, Ref):
            return operand
        array = as_weights(operand, what)
        self.budget.take(array.shape, self.program.element.bytes, what)
        return self.add(ConstantStep(self.fresh("constant"), array), array.shape)

    def map(self, x: Ref, *post: PostOp, y: str | None = None, shape: Shape | None = None) -> Ref:
        """Append an elementwise step."""
        return self.add(MapStep(x.name, y or self.out(), post), shape or x.shape)

    def decide(self, x: Ref, *post: PostOp, y: str | None = None, shape: Shape | None = None) -> Ref:
        """Append an elementwise step whose value is a truth: 0 and 1, boolean to ONNX."""
        y = y or self.out()
        self.truths.add(y)
        return self.map(x, *post, y=y, shape=shape)

    def activate(self, x: Ref, name: str, **parameters: float) -> Ref:
        """Append an activation that produces the node's output."""
        return self.map(x, PostOp("act", activation=Activation.of(name, **parameters)))

    def rearrange(
        self,
        x: Ref,
        shape: Iterable[int],
        *,
        split: Shape | None = None,
        perm: Iterable[int] | None = None,
        y: str | None = None,
    ) -> Ref:
        """Append a reshape, or with ``perm`` a transpose of the view ``split`` read as ``shape``.

        Raises:
            ShapeError: another number of elements.
        """
        sizes = tuple(shape)
        split = split or x.shape
        order = tuple(perm) if perm is not None else tuple(range(len(split)))
        if math.prod(sizes) != math.prod(x.shape) or math.prod(split) != math.prod(x.shape):
            raise ShapeError(f"shape {x.shape} cannot be read as {sizes}", need="equal numbers of elements")
        if sizes == x.shape and order == tuple(range(len(split))):
            return x
        return self.add(RearrangeStep(x.name, y or self.out(), split, order), sizes)


def _moves(step: ProgramStep) -> bool:
    """Whether a step only moves what it reads."""
    return isinstance(step, MOVES) or (isinstance(step, MapStep) and not step.post)
