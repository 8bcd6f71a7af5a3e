"""`Pieces`: a schedule with its machine code, one runner a step, on arrays by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from omniconv.errors import ModelError, OmniconvError
from omniconv.graph.bodies import locate
from omniconv.graph.host_operator import HostOperator
from omniconv.graph.operands import Ref
from omniconv.graph.schedule import (
    Body,
    BranchStep,
    HostRef,
    HostStep,
    LoopStep,
    Prepared,
    RestStep,
    Schedule,
    ScheduleStep,
    Stretch,
)
from omniconv.graph.walk import make_schedule
from omniconv.program.layers import LayerInfo
from omniconv.runtime.control import BranchRunner, LoopRunner
from omniconv.runtime.executable import Executable
from omniconv.runtime.kept import Kept
from omniconv.runtime.patience import NEW_SHAPES, count_piece, count_steps
from omniconv.runtime.report import StepProfile
from omniconv.runtime.runner import Array, Arrays, Context, Runner, describe, measure, protect


class StretchRunner(Runner):
    """A compiled program."""

    def __init__(self, step: Stretch, context: Context) -> None:
        self.step, self.executable = step, context.build(step.program)
        self.dtype = context.settings.element.dtype

    def run(self, values: Arrays) -> None:
        """See `Runner`."""
        found = self.executable.run(self._enter(values))
        for name, array in found.items():
            # Without axes NumPy's result of an operator is no array.
            values[name] = np.asarray(array != 0) if name in self.step.truths else array

    def _enter(self, values: Arrays) -> Arrays:
        """What the program reads; truths as 0 and 1."""
        arrays = {name: values[name] for name in self.step.reads}
        return {name: x.astype(self.dtype) if x.dtype == np.bool_ else x for name, x in arrays.items()}

    def profile(self, values: Arrays, repeat: int) -> list[StepProfile]:
        """See `Runner`."""
        found = self.executable.profile(self._enter(values), repeat)
        self.run(values)
        return found

    def explain(self) -> list[str]:
        """See `Runner`."""
        lines = self.executable.explain().splitlines()
        return [f"compiled: {self.step.nodes} nodes; {lines[0]}", *(f"  {line}" for line in lines[1:])]

    def executables(self) -> Iterator[Executable]:
        """See `Runner`."""
        yield self.executable


class HostRunner(Runner):
    """One operator in NumPy."""

    def __init__(self, step: HostStep, context: Context) -> None:
        self.step, self.context = step, context
        self.operator: HostOperator = step.operator
        self.expected = [item.shape if isinstance(item, HostRef) else None for item in step.results]
        self._constants = [protect(item) if isinstance(item, np.ndarray) else None for item in step.operands]
        self._reads = [
            (index, item.name, context.settings.dtype_of(item))
            for index, item in enumerate(step.operands)
            if isinstance(item, Ref | HostRef)
        ]

    def run(self, values: Arrays) -> None:
        """See `Runner`."""
        context = self.context
        arrays = self._constants.copy()
        for index, name, dtype in self._reads:
            arrays[index] = context.lower(values[name], dtype)
        results = self.operator.run(arrays, context.settings.limit, self.expected)
        for item, found in zip(self.step.results, results, strict=False):
            if item is not None:
                if item.dtype is not None and found.dtype != item.dtype:
                    raise ModelError(
                        f"{self.step.node.op} produced {found.dtype}",
                        need=f"{item.dtype}, as ONNX infers",
                        at=self.step.node.place,
                    )
                values[item.name] = context.raise_(found)

    def profile(self, values: Arrays, repeat: int) -> list[StepProfile]:
        """See `Runner`."""
        return [measure(self, self.step.node, values, repeat)]

    def explain(self) -> list[str]:
        """See `Runner`."""
        return [describe(self.step), f"    {self.step.why}"]


class CompiledBody:
    """A body that is compiled for every set of shapes that it comes in."""

    def __init__(self, body: Body, context: Context, prepared: Prepared | None = None) -> None:
        self.body, self.context = body, context
        self.kept: Kept[Pieces] = Kept(context.settings.limit)
        if prepared is not None and prepared.schedule is not None:
            schedule = prepared.schedule
            key = tuple((prepared.shapes[name], dtype) for name, dtype in body.inputs.items())
            self.kept.find(key, lambda: Pieces(schedule, context))

    def find(self, values: Mapping[str, Array]) -> Pieces:
        """The pieces for these inputs."""
        key: list[object] = []
        entering: dict[str, HostRef | Array] = {}
        for name, stated in self.body.inputs.items():
            array = values[name]
            dtype = array.dtype if stated is None else stated
            if name in self.body.by_value:
                array = self.context.lower(array, dtype).copy()
                key.append((array.shape, array.dtype.str, array.tobytes()))
                entering[name] = array
            else:
                key.append((array.shape, dtype))
                entering[name] = HostRef(name, dtype, array.shape)

        def make() -> Pieces:
            count_steps(NEW_SHAPES)
            try:
                return Pieces(make_schedule(self.body, entering, self.context.settings), self.context)
            except OmniconvError as error:
                if not self.body.place:
                    raise
                raise locate(error, self.body) from error

        return self.kept.find(tuple(key), make)

    def take(self, values: Mapping[str, Array]) -> Arrays:
        """The inputs of the body that are values around it."""
        return {name: values[source] for name, source in self.body.sources.items()}

    def run(self, values: Arrays) -> list[Array]:
        """The results, in order, for inputs by name."""
        found = self.find(values).run(values)
        return [found[name] for name in self.body.outputs]

    def executables(self) -> Iterator[Executable]:
        """Everything that is kept."""
        for pieces in self.kept.all:
            yield from pieces.executables()

    def explain(self, title: str) -> list[str]:
        """The pieces used last."""
        last = self.kept.last
        if last is None:
            return [f"{title}: compiled when its shapes are known"]
        return [title, *(f"  {line}" for line in last.explain())]


def _make_runner(step: ScheduleStep, context: Context) -> Runner:
    match step:
        case Stretch():
            return StretchRunner(step, context)
        case HostStep():
            return HostRunner(step, context)
        case BranchStep():
            then, otherwise = (CompiledBody(item.body, context, item) for item in (step.then, step.otherwise))
            return BranchRunner(step, then, otherwise)
        case LoopStep():
            return LoopRunner(step, CompiledBody(step.body.body, context, step.body), context)
    raise TypeError(step)


class Pieces:
    """A schedule that can be run. Thread-safe, as its executables are."""

    def __init__(self, schedule: Schedule, context: Context) -> None:
        self.schedule = schedule
        steps = [step for step in schedule.steps if not isinstance(step, RestStep)]
        self.runners = [_make_runner(step, context) for step in steps]
        self.rest = None if schedule.rest is None else CompiledBody(schedule.rest.body, context)
        self._constants = {
            name: protect(context.raise_(value))
            for name, value in schedule.outputs.items()
            if isinstance(value, np.ndarray)
        }
        self._values = {
            name: value.name for name, value in schedule.outputs.items() if not isinstance(value, np.ndarray)
        }
        last = {name: index for index, step in enumerate(schedule.steps) for name in step.reads}
        kept = set(self._values.values())
        self._dead: list[list[str]] = [[] for _ in schedule.steps]
        for name, index in last.items():
            if name not in kept:
                self._dead[index].append(name)

    @property
    def arena_bytes(self) -> int:
        """Working memory of each concurrent caller [bytes]."""
        return sum(item.arena_bytes for item in self.executables())

    @property
    def constant_bytes(self) -> int:
        """Weights and tables [bytes]."""
        return sum(item.constant_bytes for item in self.executables())

    @property
    def layers(self) -> list[LayerInfo]:
        """The layers of everything that has been compiled, in order."""
        return [layer for item in self.executables() for layer in item.layers]

    def executables(self) -> Iterator[Executable]:
        """Everything that has been compiled."""
        for runner in self.runners:
            yield from runner.executables()
        if self.rest is not None:
            yield from self.rest.executables()

    def run(self, values: Arrays) -> Arrays:
        """The outputs by name, for arrays by name that are in the types that are kept."""
        return self._run(values, lambda runner, known: runner.run(known))

    def profile(self, values: Arrays, repeat: int) -> tuple[list[StepProfile], Arrays]:
        """What each step takes, and the outputs."""
        found: list[StepProfile] = []
        results = self._run(values, lambda runner, known: found.extend(runner.profile(known, repeat)))
        return found, results

    def _run(self, values: Arrays, work: Callable[[Runner, Arrays], None]) -> Arrays:
        """The rests one behind the other are a loop here, however many there are."""
        pieces, values = self, dict(values)
        results: Arrays = {}
        while True:
            for runner, dead in zip(pieces.runners, pieces._dead, strict=False):
                count_piece()
                work(runner, values)
                for name in dead:
                    del values[name]
            results |= pieces._constants
            results |= {name: values[kept] for name, kept in pieces._values.items() if kept in values}
            if pieces.rest is None:
                return results
            values = pieces.rest.take(values)
            pieces = pieces.rest.find(values)

    def explain(self) -> list[str]:
        """Every step, line by line."""
        lines = [line for runner in self.runners for line in runner.explain()]
        if self.rest is not None:
            lines += self.rest.explain(f"behind shapes that depend on values: {len(self.rest.body.nodes)} nodes")
        return lines
