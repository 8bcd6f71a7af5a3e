"""Runs of grouped layers between layers that mix all channels: which inputs each run lets its outputs see."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from omniconv.analysis import Connectivity, Record, connectivity
from omniconv.program.program import Program
from omniconv.program.steps import (
    ChannelStep,
    ConvStep,
    MapStep,
    PadStep,
    PoolStep,
    Posted,
    ProgramStep,
    ResizeStep,
)
from omniconv.records import dataclass


@dataclass(frozen=True, eq=False)
class GroupedRun(Record):
    """Grouped convolutions one behind the other.

    Attributes:
        layers: their names.
        groups: of each of them.
        shuffled: whether channels are moved between them.
        found: from the input of the first to the output of the last.
    """

    layers: tuple[str, ...]
    groups: tuple[int, ...]
    shuffled: bool
    found: Connectivity


def is_grouped(step: ProgramStep) -> bool:
    """Whether a step mixes channels, but only within groups."""
    if not isinstance(step, ConvStep):
        return False
    return 1 < step.spec.groups < max(step.spec.in_channels, step.spec.out_channels) and not step.spec.is_depthwise


def find_runs(program: Program) -> tuple[GroupedRun, ...]:
    """Runs of at least two grouped convolutions, with nothing between that mixes all channels."""
    return tuple(_judge(program, run) for run in _walk(program))


def _walk(program: Program) -> Iterator[list[int]]:
    producer = {step.y: index for index, step in enumerate(program.steps)}
    runs: dict[int, list[int]] = {}
    inner: set[int] = set()
    for index, step in enumerate(program.steps):
        if not is_grouped(step):
            continue
        run, current = [index], _input(step)
        while current in producer:
            before = program.steps[producer[current]]
            local = isinstance(before, ConvStep) and before.spec.groups > 1
            if not local and not isinstance(before, MapStep | ChannelStep | PoolStep | PadStep | ResizeStep):
                break
            run.insert(0, producer[current])
            if is_grouped(before):
                inner.add(producer[current])
            current = _input(before)
        while not is_grouped(program.steps[run[0]]):
            run.pop(0)
        runs[index] = run
    for index, run in runs.items():
        if index not in inner and sum(is_grouped(program.steps[place]) for place in run) > 1:
            yield run


def _input(step: ProgramStep) -> str:
    return getattr(step, "x", "")


def _judge(program: Program, run: list[int]) -> GroupedRun:
    first = _input(program.steps[run[0]])
    part = Program((first,), (), {first: program.shapes[first]})
    for index in run:
        step = program.steps[index]
        if isinstance(step, ConvStep | MapStep):
            step = replace(step, post=())
        for name in step.factors if isinstance(step, Posted) else ():
            if name not in part.shapes:
                part.inputs += (name,)
                part.shapes[name] = program.shapes[name]
        part.add(step, program.shapes[step.y], program.labels[index])
    part.outputs = (part.steps[-1].y,)
    steps = [program.steps[index] for index in run]
    convs = [(program.labels[index], step) for index, step in zip(run, steps, strict=True) if is_grouped(step)]
    groups = tuple(step.spec.groups for _, step in convs if isinstance(step, ConvStep))
    shuffled = any(isinstance(step, ChannelStep) for step in steps)
    return GroupedRun(tuple(label for label, _ in convs), groups, shuffled, connectivity(part))
