"""From a `Program` to a `Plan`: values get places in memory, steps become calls of kernels.

The rules are few. A value of rank 2 to 5 is stored channels last, its pixels a whole number of vectors apart. Slices,
shuffles and reshapes of a stored value are views. What a concatenation joins is produced in place, inside the joined
value. Outputs are produced in the caller's array where its layout allows. A step that needs another layout than it
finds gets a copy. How each kind of step becomes calls is in :mod:`omniconv.compiler.planning.table`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from omniconv.compiler.fusion.runs import count_lifetimes, fuse
from omniconv.compiler.lowering.arrange import copy_value
from omniconv.compiler.memory.layout import Layout, channels_last, row_major
from omniconv.compiler.memory.planner import Call, Group, Planner
from omniconv.compiler.memory.storage import Buffer, Stored, plan_arena, whole_lines
from omniconv.compiler.planning.options import Options, is_channels_last
from omniconv.compiler.planning.shared import Shared
from omniconv.compiler.planning.table import lower
from omniconv.compiler.problem.problem import USUAL
from omniconv.errors import SpecError
from omniconv.program.bfloat16 import is_bfloat16
from omniconv.program.element import BFLOAT16, FLOAT32
from omniconv.program.passes.keep_bfloat16 import keep_bfloat16
from omniconv.program.passes.keep_exact_weights import keep_exact_weights
from omniconv.program.program import Program
from omniconv.program.steps import ChannelStep, ConcatStep, RearrangeStep, SliceStep
from omniconv.records import dataclass
from omniconv.spec import Shape
from omniconv.target.model import Target

VIEWS = (ChannelStep, RearrangeStep, SliceStep)
DEFAULTS: Final = Options()


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that is needed to run, except machine code and memory.

    Attributes:
        inputs, outputs: layouts of the caller's arrays; ``row_major`` names those that are so in any layout.
        exact: whether it keeps to direct sums.
        precision: what values between layers and weights are kept in.
        float32_layers: labels of layers that stay in float32.
        accuracy: how far filtering may go.
    """

    program: Program
    target: Target
    calls: tuple[Call, ...]
    groups: tuple[Group, ...]
    buffers: tuple[Buffer, ...]
    offsets: tuple[int, ...]
    arena_bytes: int
    zero_bytes: int
    scratch_bytes: int
    inputs: dict[str, Layout]
    outputs: dict[str, Layout]
    row_major: frozenset[str] = frozenset()
    exact: bool = False
    precision: str = FLOAT32.name
    float32_layers: frozenset[str] = frozenset()
    accuracy: str = USUAL

    @property
    def filtered(self) -> dict[int, int]:
        """Multiplications that minimal filtering leaves of a layer, by the index of its step; no others are here."""
        decisions = ((call.step, call.decision) for call in self.calls if call.decision is not None)
        return {step: made.multiplications for step, made in decisions if made.multiplications is not None}

    @property
    def narrow_steps(self) -> set[int]:
        """The indices of steps with constants that are kept as bfloat16."""
        return {
            call.step
            for call in self.calls
            if any(self.buffers[place.buffer].kind == "constant" for place in call.args if place.element is BFLOAT16)
        }

    @property
    def constant_bytes(self) -> int:
        """Size of weights and tables [bytes]."""
        return sum(buffer.size for buffer in self.buffers if buffer.kind == "constant")


def plan(program: Program, target: Target, options: Options = DEFAULTS, shared: Shared | None = None) -> Plan:
    """Lay a program out in memory and turn its steps into kernel calls. Nothing is allocated or compiled here,
    but with ``shared`` a thread begins to compile kernels that no size has had before.

    Args:
        program: what is computed.
        target: the machine.
        options: what is asked of the plan.
        shared: what plans of the same network for images of other sizes have in common with this one, if there are any.

    Raises:
        SpecError: the tuning is for another target; a precision that the program's element does not have.
    """
    planner = open_planner(program, target, options, shared)
    program, target, threads = planner.program, planner.target, planner.threads
    inputs, outputs = lay_out(planner, options)
    if shared is None:
        calls, groups = fuse(planner.calls, planner.groups, planner.buffers, target, threads, options.cache)
    else:
        shared.name_packed(planner.calls, planner.buffers, program)
        calls, groups = shared.open(planner.calls, planner.buffers, target), tuple(planner.groups)
        count_lifetimes(calls, groups, planner.buffers)
    offsets, total = plan_arena(planner.buffers)
    return Plan(
        program,
        target,
        calls,
        groups,
        tuple(planner.buffers),
        tuple(offsets),
        total,
        planner.buffers[planner.zero].size,
        whole_lines(planner.buffers[planner.scratch].size),
        inputs,
        outputs,
        options.row_major,
        options.exact,
        options.precision,
        options.float32_layers,
        options.accuracy,
    )


def open_planner(program: Program, target: Target, options: Options, shared: Shared | None) -> Planner:
    """The planner of a program.

    Raises:
        SpecError: the tuning is for another target; a precision that the program's element does not have.
    """
    target = target.of(program.element)
    if options.precision == BFLOAT16.name:
        program = keep_bfloat16(program, options.float32_layers)
    else:
        program = keep_exact_weights(program, is_bfloat16 if shared is None else shared.is_exact)
    tuning = options.tuning
    if tuning is not None and tuning.target != target:
        raise SpecError(f"the tuning is for {tuning.target}", need=f"one for {target}")
    return Planner(program, target, options.exact, tuning, options.threads, shared, options.accuracy)


def lay_out(planner: Planner, options: Options) -> tuple[dict[str, Layout], dict[str, Layout]]:
    """Give all values their places and make all calls; returns the layouts of inputs and outputs."""
    program = planner.program
    inputs: dict[str, Layout] = {}
    outputs: dict[str, Layout] = {}
    for index, name in enumerate(program.inputs):
        inputs[name] = _boundary(options, name, program.shapes[name])
        buffer = planner.add_buffer("input", inputs[name].extent, index=index)
        planner.stored[name] = Stored(buffer, 0, inputs[name])
    slots = []
    results = tuple(dict.fromkeys(program.outputs))  # a damaged model may name one twice
    for index, name in enumerate(results):
        outputs[name] = _boundary(options, name, program.shapes[name])
        slots.append(planner.add_buffer("output", outputs[name].extent, index=index))
    _place(planner, outputs, slots)
    for index, step in enumerate(program.steps):
        planner.step = index
        lower(planner, step)
    planner.step = -1
    for slot, name in zip(slots, results, strict=True):
        if planner.stored[name].buffer != slot:
            copy_value(planner, planner.stored[name], Stored(slot, 0, outputs[name]))
    return inputs, outputs


def _boundary(options: Options, name: str, shape: Shape) -> Layout:
    """Layout of the caller's array for a value: without gaps, channels first or last."""
    if is_channels_last(options.layout, options.row_major, name, len(shape)):
        return channels_last(shape)
    return row_major(shape)


def _place(planner: Planner, outputs: dict[str, Layout], slots: Sequence[int]) -> None:
    """Decide, before anything is lowered, which values are produced inside others or inside the caller's arrays."""
    program = planner.program
    producers = {step.y: step for step in program.steps}
    for slot, (name, layout) in zip(slots, outputs.items(), strict=True):
        step = producers.get(name)
        if step is None or isinstance(step, ChannelStep | SliceStep) or name in planner.places:
            continue
        # A rearrangement that is no view is a copy to any layout.
        if layout.channels_last or math.prod(layout.shape[2:]) == 1 or isinstance(step, RearrangeStep):
            planner.places[name] = (slot, 0, layout, None)
        else:
            planner.wanted[name] = Stored(slot, 0, layout)
    for step in reversed(program.steps):
        if not isinstance(step, ConcatStep) or step.axis != 1 or not 2 <= len(program.shapes[step.y]) <= 5:
            continue
        members = [
            name
            for name in dict.fromkeys(step.xs)
            if name in producers
            and not isinstance(producers[name], VIEWS)
            and name not in planner.places
            and planner.element_of(name) is planner.element_of(step.y)
        ]
        if not members:
            continue
        if step.y not in planner.places:
            whole = planner.fresh(program.shapes[step.y], planner.element_of(step.y))
            planner.places[step.y] = (whole.buffer, 0, whole.layout, whole.element)
        buffer, offset, layout, element = planner.places[step.y]
        for position, name in enumerate(step.xs):
            if name in members and step.xs.index(name) == position:
                first = sum(program.shapes[x][1] for x in step.xs[:position])
                part = replace(layout, shape=program.shapes[name], tail=False)
                planner.places[name] = (buffer, offset + first * layout.strides[1], part, element)
