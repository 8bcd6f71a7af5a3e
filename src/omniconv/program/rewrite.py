"""What passes over a `Program` share: readers, and building a program anew."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TypeAlias

from omniconv.program.program import Program
from omniconv.program.steps import ProgramStep

Item: TypeAlias = tuple[ProgramStep, str]
"""A step and its label."""


def count_readers(program: Program) -> Counter[str]:
    """How often each value is read; being an output counts as reading."""
    readers: Counter[str] = Counter(program.outputs)
    for step in program.steps:
        readers.update(step.reads)
    return readers


def is_touched(step: ProgramStep, names: Mapping[str, str]) -> bool:
    """Whether renaming would change what the step reads."""
    return any(name in names for name in step.reads)


def rebuild(program: Program, items: Iterable[Item]) -> Program:
    """A program of the same inputs, outputs and shapes with other steps, whose order is checked again; the program
    itself where the steps are its own.
    """
    wanted = list(items)
    if len(wanted) == len(program.steps) and all(
        step is own and label == called
        for (step, label), own, called in zip(wanted, program.steps, program.labels, strict=True)
    ):
        return program
    new = Program(
        program.inputs,
        program.outputs,
        {name: program.shapes[name] for name in program.inputs},
        element=program.element,
        elements={name: program.elements[name] for name in program.inputs if name in program.elements},
    )
    kept = {id(step) for step in program.steps}
    for step, label in wanted:
        new.add(step, program.shapes[step.y], label, checked=id(step) in kept)
    return new


def with_labels(program: Program) -> Iterable[Item]:
    """Steps and their labels."""
    return zip(program.steps, program.labels, strict=True)
