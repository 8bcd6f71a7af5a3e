"""What a file says of a network: what is computed, and what was asked of its plan. All of it is data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from omniconv.choices import as_choice
from omniconv.compiler.planning.options import LAYOUTS, PRECISIONS, Options
from omniconv.compiler.planning.plan import Plan
from omniconv.compiler.problem.problem import ACCURACIES
from omniconv.compiler.problem.tuning import Tuning
from omniconv.processors import take_threads
from omniconv.program.check import check_program
from omniconv.program.element import ELEMENTS, Element, find_element
from omniconv.program.layer_program import LayerProgram
from omniconv.program.program import Program
from omniconv.program.steps import ProgramStep
from omniconv.program.tiers import Tiers
from omniconv.records import dataclass
from omniconv.reference.weights import check_weights
from omniconv.spec import Chain, Conv, Shape
from omniconv.target.model import Target

Array: TypeAlias = npt.NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """What was asked of a plan: the fields of `Options`, the target by name, and where the model came from.

    Attributes:
        threads: most of them; ``None`` where nobody said how many, so that the machine where the file is opened does.
        tuned: choices that were measured on the target, by the text of their problem; ``None`` where none were asked
            for.
    """

    layout: str
    row_major: frozenset[str]
    threads: int | None
    exact: bool
    precision: str
    accuracy: str
    tuned: Mapping[str, str] | None
    target: str
    element: str
    at: str
    float32_layers: frozenset[str] = frozenset()

    @classmethod
    def of(cls, options: Options, target: Target, at: str, tuned: Mapping[str, str] | None) -> Asked:
        """Of options, a target, and choices that were measured on it."""
        return cls(
            options.layout,
            options.row_major,
            None if options.threads_why else options.threads,
            options.exact,
            options.precision,
            options.accuracy,
            tuned,
            target.name,
            target.element.name,
            at,
            options.float32_layers,
        )

    def options(self, target: Target, limit: int | None) -> Options:
        """The options for a plan; what was measured on another target is left out.

        Raises:
            SpecError: values that no option has.
        """
        taken = take_threads(self.threads)
        same = self.tuned is not None and target.name == self.target
        return Options(
            layout=as_choice("layout", self.layout, LAYOUTS),
            row_major=self.row_major,
            threads=taken.number,
            threads_why=taken.why,
            exact=self.exact,
            precision=as_choice("precision", self.precision, PRECISIONS),
            float32_layers=self.float32_layers,
            accuracy=as_choice("accuracy", self.accuracy, ACCURACIES),
            tuning=Tuning(target, self.tuned) if same and self.tuned is not None else None,
            memory_limit=limit,
        )

    def find_element(self) -> Element:
        """What is computed with.

        Raises:
            SpecError: something that is no element.
        """
        return find_element(as_choice("element", self.element, ELEMENTS))


def find_tuned(plan: Plan) -> dict[str, str] | None:
    """The measured choices that a plan was made with."""
    made = [call.decision for call in plan.calls if call.decision is not None and call.decision.tuned]
    return {decision.problem.text(): decision.choice for decision in made} or None


@dataclass(frozen=True, slots=True, eq=False)
class SavedLayer:
    """A layer or a chain, with its weights, for the shape of an input."""

    asked: Asked
    shape: Shape
    spec: Conv | Chain
    weights: tuple[tuple[Array, Array | None], ...]

    def lowering(self) -> LayerProgram:
        """The programs for all shapes.

        Raises:
            ShapeError, DataError: weights that are not those of the spec.
        """
        element = self.asked.find_element()
        pairs = check_weights(self.spec, self.weights)
        converted = tuple(
            (np.asarray(w, element.dtype), None if b is None else np.asarray(b, element.dtype)) for w, b in pairs
        )
        return LayerProgram(self.spec, converted, element)


@dataclass(frozen=True, slots=True, eq=False)
class SavedProgram:
    """A program. The fields are those of `Program`; ``truths`` are outputs that are boolean to the model."""

    asked: Asked
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    shapes: Mapping[str, Shape]
    steps: tuple[ProgramStep, ...]
    labels: tuple[str, ...]
    truths: frozenset[str]
    tiers: Tiers | None

    @classmethod
    def of(cls, asked: Asked, program: Program, truths: frozenset[str], tiers: Tiers | None) -> SavedProgram:
        """Of a program."""
        names = [*program.inputs, *(step.y for step in program.steps)]
        shapes = {name: program.shapes[name] for name in names}
        steps, labels = tuple(program.steps), tuple(program.labels)
        return cls(asked, program.inputs, program.outputs, shapes, steps, labels, truths, tiers)

    def program(self, limit: int | None) -> Program:
        """The program, checked.

        Raises:
            SpecError, ShapeError: steps that break a rule.
            LimitError: a value that takes more memory than allowed.
        """
        element = self.asked.find_element()
        return check_program(self.inputs, self.outputs, self.shapes, self.steps, self.labels, element, limit)


@dataclass(frozen=True, slots=True, eq=False)
class SavedGraph:
    """A model some of whose sizes are open, or part of which runs on the host.

    Attributes:
        asked: of its plans.
        model: ONNX's bytes of its nodes; its constants are inputs there.
        constants: values of these inputs.
        strict: whether nothing may be left to the host.
    """

    asked: Asked
    model: Array
    constants: Mapping[str, Array]
    strict: bool


Content: TypeAlias = SavedLayer | SavedProgram | SavedGraph
