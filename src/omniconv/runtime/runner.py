"""`Runner`: what runs one step of a schedule, and what all of them have in common.

An array is kept in the type that is computed with where the model's own float type is meant, so that stretches take it
as it is; steps on the host are given the model's type.
"""

from __future__ import annotations

import statistics
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from omniconv.graph.nodes import Node
from omniconv.graph.schedule import BranchStep, HostStep, LoopStep, Settings, Unknown
from omniconv.program.program import Program
from omniconv.records import dataclass
from omniconv.runtime.executable import Executable
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
        settings = self.settings
        if settings.given is settings.element or dtype != settings.given.dtype:
            return array
        return array.astype(dtype, copy=False)

    def raise_(self, array: Array) -> Array:
        """An array of a type of the model as it is kept."""
        settings = self.settings
        if settings.given is settings.element or array.dtype != settings.given.dtype:
            return array
        return array.astype(settings.element.dtype, copy=False)


def protect(array: Array) -> Array:
    """An array that nobody writes to: who wants to, copies it."""
    view = array.view()
    view.flags.writeable = False
    return view


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


def describe(step: HostStep | BranchStep | LoopStep) -> str:
    """A step on the host in one line: the node, and what it produces."""
    results = ", ".join(
        f"{item.dtype or '?'} {'of a shape that depends on values' if isinstance(item, Unknown) else item.shape}"
        for item in step.results
        if item is not None
    )
    return f"host: {step.node.place} -> {results}"


def measure(runner: Runner, node: Node, values: Arrays, repeat: int) -> StepProfile:
    """Median time of a step that runs as a whole."""
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        runner.run(values)
        times.append(time.perf_counter() - start)
    return StepProfile(node.label, f"host {node.op}", "", statistics.median(times), 0, 0.0)
