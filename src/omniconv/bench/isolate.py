"""One layer of a program by itself, in the layouts that it has there, run often enough to be timed."""

from __future__ import annotations

import math
from dataclasses import replace

from omniconv.compiler.memory.storage import plan_arena
from omniconv.compiler.planning.options import Options
from omniconv.compiler.planning.plan import VIEWS, Plan, plan
from omniconv.compiler.problem.problem import Problem
from omniconv.compiler.problem.tuning import Tuning
from omniconv.program.layers import describe_step
from omniconv.program.program import Program
from omniconv.program.steps import MapStep
from omniconv.records import dataclass
from omniconv.target.model import Target


@dataclass(frozen=True, slots=True)
class Site:
    """A convolution problem, and a place where it is met.

    Attributes:
        problem: what a kernel is chosen for.
        default: text of what is chosen by itself.
        layer: the layer's problem line, for tables; ``name`` is what the program calls it.
        program: that layer with what it reads; ``step`` is its index there.
        layout: of the program's inputs and outputs.
    """

    problem: Problem
    default: str
    layer: str
    name: str
    program: Program
    step: int
    layout: str

    @property
    def surrounded(self) -> bool:
        """Whether values are copied before or after the layer."""
        return any(isinstance(step, MapStep) for index, step in enumerate(self.program.steps) if index != self.step)

    def plan(self, target: Target, choice: str, times: int = 1) -> Plan:
        """The plan with a choice for the problem, and the layer done so many times."""
        tuning = Tuning(target, {self.problem.text(): choice})
        return repeat_step(plan(self.program, target, Options(layout=self.layout, tuning=tuning)), self.step, times)

    def takes(self, target: Target, choice: str) -> bool:
        """Whether the layer can be told a choice here; where it cannot, its plan has the default."""
        decisions = (call.decision for call in self.plan(target, choice).calls if call.step == self.step)
        return any(made is not None and made.choice == choice for made in decisions)


def find_sites(program: Program, target: Target, layout: str) -> list[Site]:
    """The distinct problems of a program, each where it is met first and has the same layouts when it is alone."""
    found: dict[str, Site] = {}
    options = Options(layout=layout)
    for call in plan(program, target, options).calls:
        decision = call.decision
        if decision is None or decision.problem.text() in found:
            continue
        alone, step = isolate(program, call.step)
        decided = (other.decision for other in plan(alone, target, options).calls)
        if any(other is not None and other.problem == decision.problem for other in decided):
            layer = describe_step(program, call.step)
            text = layer.text or f"{layer.kind} {layer.input_shape} to {layer.output_shape}"
            site = Site(decision.problem, decision.choice, text, layer.name, alone, step, layout)
            found[decision.problem.text()] = site
    return list(found.values())


def isolate(program: Program, index: int) -> tuple[Program, int]:
    """The program of one step, and the index of the step in it.

    What the step reads and writes lies as it does in the whole program: a value that comes from another step is copied
    from an input first, views of it (slices, shuffles) are made anew, and a result that another step reads is copied
    into an output afterwards. (An order of channels that a depthwise layer hands on from a shuffle is not kept.)
    """
    producers = {step.y: number for number, step in enumerate(program.steps)}
    wanted = program.steps[index]
    needed: list[int] = []
    sources: list[str] = []
    queue = list(wanted.reads)
    for name in queue:
        number = producers.get(name)
        if number is not None and isinstance(program.steps[number], VIEWS):
            if number not in needed:
                needed.append(number)
                queue += program.steps[number].reads
        elif name not in sources:
            sources.append(name)
    inputs = {name: name if name in program.inputs else f"{name}.given" for name in sources}
    alone = Program(tuple(inputs.values()), shapes={new: program.shapes[name] for name, new in inputs.items()})
    for name, new in inputs.items():
        if name != new:
            alone.add(MapStep(new, name, ()), program.shapes[name])
    for number in (*sorted(needed), index):
        step = program.steps[number]
        alone.add(step, program.shapes[step.y], program.labels[number])
    at = len(alone.steps) - 1
    result = wanted.y
    if result not in program.outputs:
        result = alone.add(MapStep(result, f"{result}.taken", ()), program.shapes[result])
    alone.outputs = (result,)
    return alone, at


def repeat_step(whole: Plan, step: int, times: int) -> Plan:
    """A plan in which the calls of one step follow one another so many times. Results are the same."""
    if times == 1:
        return whole
    inside = [number for number, call in enumerate(whole.calls) if call.step == step]
    first, last = inside[0], inside[-1] + 1
    calls = (*whole.calls[:first], *whole.calls[first:last] * times, *whole.calls[last:])
    buffers = tuple(replace(buffer, first=-1, last=-1) for buffer in whole.buffers)
    for number, call in enumerate(calls):
        for ref in call.args:
            buffers[ref.buffer].touch(number)
    offsets, total = plan_arena(buffers)
    return replace(whole, calls=calls, buffers=buffers, offsets=tuple(offsets), arena_bytes=total)


def count_repeats(seconds: float, wanted: float, *, surrounded: bool) -> int:
    """How often to do a layer in a call, so that neither the call itself nor copies around it matter."""
    return max(4 if surrounded else 1, min(256, math.ceil(wanted / max(seconds, 1e-9))))
