"""`Pieces`: a schedule with its machine code, one runner a step, on arrays by name.

An array is kept in the type that is computed with where the model's own float type is meant, so that stretches take it
as it is; steps on the host are given the model's type.
"""

from __future__ import annotations

import statistics
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from omniconv.errors import ModelError, OmniconvError, ShapeError
from omniconv.graph.expand import Scan
from omniconv.graph.host_operator import HostOperator
from omniconv.graph.memory import Budget
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
    Step,
    Stretch,
    Unknown,
)
from omniconv.graph.tiers import Settings, make_schedule
from omniconv.program.layers import LayerInfo
from omniconv.program.program import Program
from omniconv.runtime.executable import Executable
from omniconv.runtime.kept import Kept
from omniconv.runtime.report import StepProfile

Array: TypeAlias = npt.NDArray[Any]
Arrays: TypeAlias = dict[str, Array]


@dataclass(frozen=True, slots=True)
class Context:
    """How programs become executables, and the settings of the walk that made the schedule."""

    build: Callable[[Program], Executable]
    settings: Settings

    def lower(self, array: Array, dtype: np.dtype[Any] | None) -> Array:
        """An array that is kept, in the type that it has in the model."""
        given = self.settings.given.dtype
        return array.astype(given) if dtype == given != array.dtype else array

    def raise_(self, array: Array) -> Array:
        """An array of a type of the model as it is kept."""
        given, kept = self.settings.given.dtype, self.settings.element.dtype
        return array.astype(kept) if array.dtype == given != kept else array


class Runner(ABC):
    """One step: reads values by name and adds its results."""

    @abstractmethod
    def run(self, values: Arrays) -> None:
        """Add the results to the values."""

    @abstractmethod
    def profile(self, values: Arrays, repeat: int) -> list[StepProfile]:
        """Run, and say what it took."""

    @abstractmethod
    def explain(self) -> list[str]:
        """What it is, line by line."""

    def executables(self) -> Iterator[Executable]:
        """Everything that has been compiled for it."""
        return iter(())


class StretchRunner(Runner):
    """A compiled program."""

    def __init__(self, step: Stretch, context: Context) -> None:
        self.step, self.executable = step, context.build(step.program)

    def run(self, values: Arrays) -> None:
        values.update(self.executable.run({name: values[name] for name in self.step.reads}))

    def profile(self, values: Arrays, repeat: int) -> list[StepProfile]:
        found = self.executable.profile({name: values[name] for name in self.step.reads}, repeat)
        self.run(values)
        return found

    def explain(self) -> list[str]:
        lines = self.executable.explain().splitlines()
        return [f"compiled: {self.step.nodes} nodes; {lines[0]}", *(f"  {line}" for line in lines[1:])]

    def executables(self) -> Iterator[Executable]:
        yield self.executable


class HostRunner(Runner):
    """One operator in NumPy."""

    def __init__(self, step: HostStep, context: Context) -> None:
        self.step, self.context = step, context
        self.operator: HostOperator = step.operator
        self.expected = [item.shape if isinstance(item, HostRef) else None for item in step.results]

    def run(self, values: Arrays) -> None:
        given = self.context.settings.given.dtype
        arrays = [
            self.context.lower(values[item.name], given if isinstance(item, Ref) else item.dtype)
            if isinstance(item, Ref | HostRef) else item
            for item in self.step.operands
        ]  # fmt: skip
        results = self.operator.run(arrays, self.context.settings.limit, self.expected)
        for item, found in zip(self.step.results, results, strict=False):
            if item is not None:
                if item.dtype is not None and found.dtype != item.dtype:
                    raise ModelError(
                        f"{self.step.node.op} produced {found.dtype}", need=f"{item.dtype}, as ONNX infers",
                        at=self.step.node.place,
                    )  # fmt: skip
                values[item.name] = self.context.raise_(found)

    def profile(self, values: Arrays, repeat: int) -> list[StepProfile]:
        return [_measure(self, values, repeat)]

    def explain(self) -> list[str]:
        return [_title(self.step), f"    {self.step.why}"]


class Part:
    """A body that is compiled for every set of shapes that it comes in."""

    def __init__(self, body: Body, context: Context, prepared: Prepared | None = None) -> None:
        self.body, self.context = body, context
        self.kept: Kept[Pieces] = Kept(context.settings.limit)
        if prepared is not None and prepared.schedule is not None:
            schedule = prepared.schedule
            key = tuple((prepared.shapes[name], str(dtype)) for name, dtype in body.inputs.items())
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
                key.append((array.shape, str(dtype)))
                entering[name] = HostRef(name, dtype, array.shape)

        def make() -> Pieces:
            try:
                return Pieces(make_schedule(self.body, entering, self.context.settings), self.context)
            except OmniconvError as error:
                if not self.body.place:
                    raise
                at = f"{error.at}, in the {self.body.place}" if error.at else self.body.place
                raise type(error)(error.problem, need=error.need, fix=error.fix, at=at) from error

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


class BranchRunner(Runner):
    """An If: the branch that is taken runs."""

    def __init__(self, step: BranchStep, context: Context) -> None:
        self.step = step
        self.then = Part(step.then.body, context, step.then)
        self.otherwise = Part(step.otherwise.body, context, step.otherwise)

    def _choose(self, values: Arrays) -> Part:
        return self.then if bool(values[self.step.condition].reshape(-1)[0]) else self.otherwise

    def _finish(self, values: Arrays, results: Sequence[Array]) -> None:
        for item, found in zip(self.step.results, results, strict=True):
            if item is not None:
                values[item.name] = found

    def run(self, values: Arrays) -> None:
        part = self._choose(values)
        self._finish(values, part.run(part.take(values)))

    def profile(self, values: Arrays, repeat: int) -> list[StepProfile]:
        part = self._choose(values)
        inner = part.take(values)
        found, results = part.find(inner).profile(inner, repeat)
        self._finish(values, [results[name] for name in part.body.outputs])
        return found

    def explain(self) -> list[str]:
        lines = [_title(self.step), f"    {self.step.why}"]
        return lines + self.then.explain("    then:") + self.otherwise.explain("    else:")

    def executables(self) -> Iterator[Executable]:
        yield from self.then.executables()
        yield from self.otherwise.executables()


class LoopRunner(Runner):
    """A Loop or a Scan: its body runs once for every step."""

    def __init__(self, step: LoopStep, context: Context) -> None:
        self.step, self.context = step, context
        self.part = Part(step.body.body, context, step.body)

    def run(self, values: Arrays) -> None:
        given = [
            values[item.name]
            if isinstance(item, Ref | HostRef)
            else None
            if item is None
            else self.context.raise_(item)
            for item in self.step.operands
        ]
        captured = self.part.take(values)
        works = self._run_scan if self.step.node.op == "Scan" else self._run_loop
        try:
            results = works(given, captured)
        except OmniconvError as error:
            if self.step.node.place in error.at:
                raise
            at = f"{error.at}, in {self.step.node.place}" if error.at else self.step.node.place
            raise type(error)(error.problem, need=error.need, fix=error.fix, at=at) from error
        for item, found in zip(self.step.results, results, strict=True):
            if item is not None:
                values[item.name] = found

    def _run_loop(self, given: Sequence[Array | None], captured: Arrays) -> list[Array]:
        trips = None if given[0] is None else int(given[0].reshape(-1)[0])
        goes_on = given[1] is None or bool(given[1].reshape(-1)[0])
        state = [item for item in given[2:] if item is not None]
        types = [item.dtype for item in state]
        rows = _Rows(len(self.step.results) - len(state), self.context.settings.limit)
        step = 0
        while goes_on and (trips is None or step < trips):
            inner = dict(captured)
            inner.update(zip(self.step.names, [np.array(step, np.int64), np.array(True), *state], strict=True))
            found = self.part.run({name: inner[name] for name in self.part.body.inputs})
            goes_on, state = bool(found[0].reshape(-1)[0]), found[1 : 1 + len(state)]
            if [item.dtype for item in state] != types:
                raise ModelError("a step changes the type of what it carries", need="equal types")
            rows.add(found[1 + len(state) :])
            step += 1
        return state + [
            rows.stack(index, 0, False, self._describe(1 + len(state) + index)) for index in range(rows.count)
        ]

    def _run_scan(self, given: Sequence[Array | None], captured: Arrays) -> list[Array]:
        scan = Scan.of(self.step.node)
        arrays = [item for item in given if item is not None]
        state, scanned = arrays[: scan.states], arrays[scan.states :]
        axes = scan.input_axes([item.ndim for item in scanned])
        rows = _Rows(len(self.step.results) - scan.states, self.context.settings.limit)
        steps = scan.count([item.shape for item in scanned])
        for step in range(steps):
            slices = [
                np.take(item, steps - 1 - step if backwards else step, axis)
                for item, axis, backwards in zip(scanned, axes, scan.directions, strict=True)
            ]
            inner = {**captured, **dict(zip(self.step.names, [*state, *slices], strict=True))}
            found = self.part.run({name: inner[name] for name in self.part.body.inputs})
            state = found[: scan.states]
            rows.add(found[scan.states :])
        return state + [
            rows.stack(
                index, scan.output_axes[index], scan.output_directions[index], self._describe(scan.states + index)
            )
            for index in range(rows.count)
        ]

    def _describe(self, index: int) -> Array:
        """A result of the body that stands for those of no steps."""
        schedule = self.step.body.schedule
        value = None if schedule is None else schedule.outputs[self.part.body.outputs[index]]
        if value is None or isinstance(value, Unknown):
            raise ModelError("a loop of no steps has a result of unknown shape", need="at least one step")
        dtype = self.context.settings.given.dtype if isinstance(value, Ref) else value.dtype
        return self.context.raise_(np.zeros(value.shape, dtype))

    def profile(self, values: Arrays, repeat: int) -> list[StepProfile]:
        return [_measure(self, values, repeat)]

    def explain(self) -> list[str]:
        return [_title(self.step), f"    {self.step.why}", *self.part.explain("    body:")]

    def executables(self) -> Iterator[Executable]:
        yield from self.part.executables()


class _Rows:
    """What the steps of a loop produce, to be joined along a new axis. ``limit`` is for all of it [bytes]."""

    def __init__(self, count: int, limit: int) -> None:
        self.count, self._rows = count, [[] for _ in range(count)]  # type: ignore[var-annotated]
        self._budget = Budget(limit)

    def add(self, found: Sequence[Array]) -> None:
        for row, item in zip(self._rows, found, strict=True):
            self._budget.take(item.shape, 2 * item.dtype.itemsize, "what the steps produce together")
            row.append(item)

    def stack(self, index: int, axis: int, backwards: bool, empty: Array) -> Array:
        row: list[Array] = self._rows[index]
        if not row:
            return np.stack([empty], axis).take([], axis)
        if len({(item.shape, item.dtype) for item in row}) > 1:
            raise ShapeError("steps produce results of different shapes or types", need="equal ones")
        return np.stack(row[::-1] if backwards else row, axis)


def _title(step: HostStep | BranchStep | LoopStep) -> str:
    results = ", ".join(
        f"{item.dtype or '?'} {'of a shape that depends on values' if isinstance(item, Unknown) else item.shape}"
        for item in step.results
        if item is not None
    )
    return f"host: {step.node.place} -> {results}"


def _measure(runner: HostRunner | LoopRunner, values: Arrays, repeat: int) -> StepProfile:
    """Median time of a step that runs as a whole."""
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        runner.run(values)
        times.append(time.perf_counter() - start)
    node = runner.step.node
    return StepProfile(node.label, f"host {node.op}", "", statistics.median(times), 0, 0.0)


def _make_runner(step: Step, context: Context) -> Runner:
    match step:
        case Stretch():
            return StretchRunner(step, context)
        case HostStep():
            return HostRunner(step, context)
        case BranchStep():
            return BranchRunner(step, context)
        case LoopStep():
            return LoopRunner(step, context)
    raise TypeError(step)


class Pieces:
    """A schedule that can be run. Thread-safe, as its executables are."""

    def __init__(self, schedule: Schedule, context: Context) -> None:
        self.schedule = schedule
        steps = [step for step in schedule.steps if not isinstance(step, RestStep)]
        self.runners = [_make_runner(step, context) for step in steps]
        self.rest = None if schedule.rest is None else Part(schedule.rest.body, context)
        self._constants = {
            name: context.raise_(value) for name, value in schedule.outputs.items() if isinstance(value, np.ndarray)
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
        pieces, values, results = self, dict(values), {}
        while True:
            for runner, dead in zip(pieces.runners, pieces._dead, strict=False):
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
