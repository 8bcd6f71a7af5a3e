"""If, Loop and Scan on the host: which body runs, how often, and on what."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from omniconv.errors import ModelError, OmniconvError, ShapeError
from omniconv.graph.expand import Scan
from omniconv.graph.memory import Budget
from omniconv.graph.operands import Ref
from omniconv.graph.schedule import BranchStep, HostRef, LoopStep, Unknown
from omniconv.runtime.executable import Executable
from omniconv.runtime.patience import count_steps, counted
from omniconv.runtime.report import StepProfile
from omniconv.runtime.runner import Array, Arrays, Context, Runner, describe, measure, protect

if TYPE_CHECKING:
    from omniconv.runtime.pieces import CompiledBody


class BranchRunner(Runner):
    """An If: the branch that is taken runs."""

    def __init__(self, step: BranchStep, then: CompiledBody, otherwise: CompiledBody) -> None:
        self.step, self.then, self.otherwise = step, then, otherwise

    def _choose(self, values: Arrays) -> CompiledBody:
        taken = bool(values[self.step.condition].reshape(-1)[0])
        refusal = (self.step.then if taken else self.step.otherwise).refusal
        if refusal is not None:
            raise refusal.or_else(f"inputs for which the {'else' if taken else 'then'}_branch is taken")
        return self.then if taken else self.otherwise

    def _finish(self, values: Arrays, results: Sequence[Array]) -> None:
        for item, found in zip(self.step.results, results, strict=True):
            if item is not None:
                values[item.name] = found

    def run(self, values: Arrays) -> None:
        """See `Runner`."""
        part = self._choose(values)
        self._finish(values, part.run(part.take(values)))

    def profile(self, values: Arrays, repeat: int) -> list[StepProfile]:
        """See `Runner`."""
        part = self._choose(values)
        inner = part.take(values)
        found, results = part.find(inner).profile(inner, repeat)
        self._finish(values, [results[name] for name in part.body.outputs])
        return found

    def explain(self) -> list[str]:
        """See `Runner`."""
        lines = [describe(self.step), f"    {self.step.why}"]
        for title, branch, part in (("then", self.step.then, self.then), ("else", self.step.otherwise, self.otherwise)):
            if branch.refusal is None:
                lines += part.explain(f"    {title}:")
            else:
                lines.append(f"    {title}: refused when it is taken: {branch.refusal}")
        return lines

    def executables(self) -> Iterator[Executable]:
        """See `Runner`."""
        yield from self.then.executables()
        yield from self.otherwise.executables()


class LoopRunner(Runner):
    """A Loop or a Scan: its body runs once for every step."""

    def __init__(self, step: LoopStep, part: CompiledBody, context: Context) -> None:
        self.step, self.part, self.context = step, part, context

    def run(self, values: Arrays) -> None:
        """See `Runner`."""
        given = [
            values[item.name]
            if isinstance(item, Ref | HostRef)
            else None
            if item is None
            else protect(self.context.raise_(item))
            for item in self.step.operands
        ]
        captured = self.part.take(values)
        works = self._run_scan if self.step.node.op == "Scan" else self._run_loop
        try:
            with counted():
                results = works(given, captured)
        except OmniconvError as error:
            if self.step.node.place in error.at:
                raise
            at = f"{error.at}, in {self.step.node.place}" if error.at else self.step.node.place
            raise error.but(at=at) from error
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
            count_steps(1)
            inner = dict(captured)
            inner.update(zip(self.step.names, [np.array(step, np.int64), np.array(True), *state], strict=True))
            found = self.part.run({name: inner[name] for name in self.part.body.inputs})
            goes_on, state = bool(found[0].reshape(-1)[0]), found[1 : 1 + len(state)]
            if [item.dtype for item in state] != types:
                raise ModelError("a step changes the type of what it carries", need="equal types")
            rows.add(found[1 + len(state) :])
            step += 1
        return state + [
            rows.stack(index, 0, False, partial(self._describe, 1 + len(state) + index)) for index in range(rows.count)
        ]

    def _run_scan(self, given: Sequence[Array | None], captured: Arrays) -> list[Array]:
        scan = Scan.of(self.step.node)
        arrays = [item for item in given if item is not None]
        state, scanned = arrays[: scan.states], arrays[scan.states :]
        axes = scan.input_axes([item.ndim for item in scanned])
        rows = _Rows(len(self.step.results) - scan.states, self.context.settings.limit)
        steps = scan.count([item.shape for item in scanned])
        count_steps(steps)
        for step in range(steps):
            slices = [
                np.asarray(np.take(item, steps - 1 - step if backwards else step, axis))
                for item, axis, backwards in zip(scanned, axes, scan.directions, strict=True)
            ]
            inner = {**captured, **dict(zip(self.step.names, [*state, *slices], strict=True))}
            found = self.part.run({name: inner[name] for name in self.part.body.inputs})
            state = found[: scan.states]
            rows.add(found[scan.states :])
        return state + [
            rows.stack(
                index,
                scan.output_axes[index],
                scan.output_directions[index],
                partial(self._describe, scan.states + index),
            )
            for index in range(rows.count)
        ]

    def _describe(self, index: int) -> Array:
        """A result of the body that stands for those of no steps."""
        schedule = self.step.body.schedule
        value = None if schedule is None else schedule.outputs[self.part.body.outputs[index]]
        if value is None or isinstance(value, Unknown):
            raise ModelError("a loop of no steps has a result of unknown shape", need="at least one step")
        return self.context.raise_(np.zeros(value.shape, self.context.settings.dtype_of(value)))

    def profile(self, values: Arrays, repeat: int) -> list[StepProfile]:
        """See `Runner`."""
        return [measure(self, self.step.node, values, repeat)]

    def explain(self) -> list[str]:
        """See `Runner`."""
        return [describe(self.step), f"    {self.step.why}", *self.part.explain("    body:")]

    def executables(self) -> Iterator[Executable]:
        """See `Runner`."""
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

    def stack(self, index: int, axis: int, backwards: bool, describe_row: Callable[[], Array]) -> Array:
        row: list[Array] = self._rows[index]
        if not row:
            return np.stack([describe_row()], axis).take([], axis)
        if len({(item.shape, item.dtype) for item in row}) > 1:
            raise ShapeError("steps produce results of different shapes or types", need="equal ones")
        return np.stack(row[::-1] if backwards else row, axis)
