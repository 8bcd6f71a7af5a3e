"""`Schedule`: a model as stretches to compile and steps on the host between them, in the order in which they run.

Values have names that are unique in the whole model. A stretch reads and produces values of the element that it is
compiled for; what is of another type, has an empty axis or a shape that depends on values lives in NumPy.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import field
from itertools import islice
from typing import Any, Final, TypeAlias

import numpy as np

from omniconv.errors import OmniconvError
from omniconv.graph.host_operator import HostOperator
from omniconv.graph.nodes import AnyArray, Node
from omniconv.graph.operands import Ref
from omniconv.integers import say_count
from omniconv.program.element import Element
from omniconv.program.program import Program
from omniconv.program.tiers import Tiers
from omniconv.records import dataclass
from omniconv.spec import Shape


@dataclass(frozen=True, slots=True)
class Settings:
    """What every walk of a model has in common: the memory limit [bytes], what is computed with, the model's floats."""

    limit: int
    element: Element
    given: Element

    def dtype_of(self, value: Value) -> np.dtype[Any] | None:
        """NumPy's type of a value between steps; ``None`` where it is not known."""
        if isinstance(value, Ref):
            return np.dtype(np.bool_) if value.truth else self.given.dtype
        return value.dtype


@dataclass(frozen=True, slots=True)
class HostRef:
    """A value in NumPy whose type and shape are known."""

    name: str
    dtype: np.dtype[Any]
    shape: Shape


@dataclass(frozen=True, slots=True)
class Unknown:
    """A value whose shape depends on values; ``dtype`` is ``None`` where not even its type is known."""

    name: str
    dtype: np.dtype[Any] | None


MOST_NAMED: Final = 6
"""Nodes that a warning names."""
Computed: TypeAlias = Ref | HostRef
Value: TypeAlias = Ref | HostRef | Unknown | AnyArray
"""Whatever a name can stand for while a graph is walked."""


@dataclass(frozen=True, slots=True, eq=False)
class Body:
    """Nodes that are scheduled when the shapes of what they read are known.

    Attributes:
        nodes: in execution order.
        inputs: what they read from outside, with the types of those whose types are known.
        sources: for those inputs that are values around the body, their names there.
        outputs: what they are computed for.
        constants: values that are known.
        by_value: inputs that decide shapes, so that they are constants of a schedule; each is small.
        place: for messages.
        depth: bodies around this one.
        changing: its shapes are others each time, so that nodes run in NumPy wherever that is possible: machine code
            would be made for a single use.
    """

    nodes: tuple[Node, ...]
    inputs: Mapping[str, np.dtype[Any] | None]
    outputs: tuple[str, ...]
    constants: Mapping[str, AnyArray]
    sources: Mapping[str, str] = field(default_factory=dict)
    by_value: frozenset[str] = frozenset()
    place: str = ""
    depth: int = 0
    changing: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """A body with the schedule for the shapes that it comes in first.

    Attributes:
        body: the body.
        shapes: of what it reads.
        schedule: ``None`` where there is none for these shapes.
        refusal: why there is none: a branch of an If that cannot run does not keep the other one from it.
    """

    body: Body
    shapes: Mapping[str, Shape]
    schedule: Schedule | None
    refusal: OmniconvError | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Stretch:
    """A program to compile: its inputs and outputs are values by name.

    Attributes:
        program: the program.
        nodes: of the model that are in it.
        truths: outputs that are boolean; in the program they are 0 and 1.
    """

    program: Program
    nodes: int
    truths: frozenset[str] = frozenset()

    @property
    def reads(self) -> tuple[str, ...]:
        """Names of the values that it needs."""
        return self.program.inputs


@dataclass(frozen=True, slots=True, eq=False)
class HostStep:
    """One operator on the host.

    Attributes:
        node: the node.
        operator: computes it.
        operands: names of values, constants, or ``None`` for inputs that are left out.
        results: one for each output of the node; ``None`` for those that nobody reads.
        why: it is not compiled.
    """

    node: Node
    operator: HostOperator
    operands: tuple[Computed | AnyArray | None, ...]
    results: tuple[HostRef | Unknown | None, ...]
    why: str

    @property
    def reads(self) -> tuple[str, ...]:
        """Names of the values that it needs."""
        return tuple(item.name for item in self.operands if isinstance(item, Ref | HostRef))


@dataclass(frozen=True, slots=True, eq=False)
class BranchStep:
    """An If whose condition is computed: only the branch that is taken runs."""

    node: Node
    condition: str
    then: Prepared
    otherwise: Prepared
    results: tuple[HostRef | Unknown | None, ...]
    why: str

    @property
    def reads(self) -> tuple[str, ...]:
        """Names of the values that it needs."""
        names = (self.condition, *self.then.body.sources.values(), *self.otherwise.body.sources.values())
        return tuple(dict.fromkeys(names))


@dataclass(frozen=True, slots=True, eq=False)
class LoopStep:
    """A Loop or a Scan that runs on the host, its body compiled.

    Attributes:
        node: the node.
        body: the body; its first inputs are those of the graph in the attribute, then what it takes from outside.
        names: of the inputs of that graph, in order.
        operands: of the node, as for a `HostStep`.
        results: as for a `HostStep`.
        why: it is not unrolled.
    """

    node: Node
    body: Prepared
    names: tuple[str, ...]
    operands: tuple[Computed | AnyArray | None, ...]
    results: tuple[HostRef | Unknown | None, ...]
    why: str

    @property
    def reads(self) -> tuple[str, ...]:
        """Names of the values that it needs."""
        given = [item.name for item in self.operands if isinstance(item, Ref | HostRef)]
        return tuple(dict.fromkeys([*given, *self.body.body.sources.values()]))


@dataclass(frozen=True, slots=True, eq=False)
class RestStep:
    """Everything behind values whose shapes depend on values; it comes last and produces the outputs of its body."""

    body: Body

    @property
    def reads(self) -> tuple[str, ...]:
        """Names of the values that it needs."""
        return tuple(dict.fromkeys(self.body.sources.values()))


ScheduleStep: TypeAlias = Stretch | HostStep | BranchStep | LoopStep | RestStep


@dataclass(frozen=True, slots=True, eq=False)
class Schedule:
    """What runs one after the other.

    Attributes:
        inputs: the values that enter, all of them.
        steps: in order; a `RestStep` only at the end.
        outputs: for each output of the model, by its own name, the value behind it.
        folded: nodes that needed no step, because they depend on constants and shapes only.
    """

    inputs: tuple[HostRef, ...]
    steps: tuple[ScheduleStep, ...]
    outputs: Mapping[str, Value]
    folded: int

    @property
    def tiers(self) -> Tiers:
        """How many nodes belong to which tier."""
        stretches = [step for step in self.steps if isinstance(step, Stretch)]
        return Tiers(
            sum(step.nodes for step in stretches),
            self.folded,
            sum(isinstance(step, HostStep | BranchStep | LoopStep) for step in self.steps),
            sum(len(step.body.nodes) for step in self.steps if isinstance(step, RestStep)),
            len(stretches),
        )

    @property
    def rest(self) -> RestStep | None:
        """The step behind all others whose shapes depend on values, where there is one."""
        last = self.steps[-1] if self.steps else None
        return last if isinstance(last, RestStep) else None

    def host_steps(self) -> Iterator[HostStep | BranchStep | LoopStep]:
        """Every step on the host, those of branches and bodies that are known already included."""
        for step in self.steps:
            if isinstance(step, HostStep | BranchStep | LoopStep):
                yield step
            inner = {BranchStep: ("then", "otherwise"), LoopStep: ("body",)}.get(type(step), ())
            for name in inner:
                prepared: Prepared = getattr(step, name)
                if prepared.schedule is not None:
                    yield from prepared.schedule.host_steps()

    def refusals(self) -> Iterator[OmniconvError]:
        """Why branches cannot run, for those that cannot."""
        for step in self.host_steps():
            if isinstance(step, BranchStep):
                yield from filter(None, (step.then.refusal, step.otherwise.refusal))

    def describe_host(self) -> str:
        """What runs on the host, in one sentence; nothing where all is compiled."""
        named = list(dict.fromkeys(step.node.place for step in self.host_steps()))
        rest = 0 if self.rest is None else len(self.rest.body.nodes)
        if not named and not rest:
            return ""
        parts = []
        if named:
            more = f" and {len(named) - MOST_NAMED} more" if len(named) > MOST_NAMED else ""
            count = "1 node runs" if len(named) == 1 else f"{len(named)} nodes run"
            parts.append(f"{count} on the host, in NumPy: {', '.join(named[:MOST_NAMED])}{more}")
        if rest:
            waiting = say_count(rest, "node")
            parts.append(
                f"what becomes of {waiting} behind shapes that depend on values is decided when the shapes are known"
            )
        parts += [f"a branch is refused when it is taken: {error}" for error in islice(self.refusals(), MOST_NAMED)]
        return "; ".join(parts) + "; see explain() and profile(), or refuse them with strict=True"
