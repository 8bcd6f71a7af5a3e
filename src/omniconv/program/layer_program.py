"""`LayerProgram`: a spec with its weights, as the program for any shape of its input."""

from __future__ import annotations

from omniconv.program.element import Element
from omniconv.program.from_spec import program_of
from omniconv.program.program import Program
from omniconv.program.steps import Array
from omniconv.records import dataclass
from omniconv.spec import Shape, Spec


@dataclass(frozen=True, slots=True, eq=False)
class LayerProgram:
    """A spec and its checked weights, one pair for each convolution."""

    spec: Spec
    weights: tuple[tuple[Array, Array | None], ...]
    element: Element

    def __call__(self, shape: Shape) -> tuple[Program, frozenset[str]]:
        """The program for an input of this shape; none of its outputs is boolean."""
        return program_of(self.spec, shape, self.weights, self.element), frozenset()
