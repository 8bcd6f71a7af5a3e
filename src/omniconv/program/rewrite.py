"""What passes over a `Program` share: readers, producers, renaming, and building a program anew."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TypeAlias

from omniconv.program.program import Program
from omniconv.program.steps import (
    WITH_POSTS,
    ConcatStep,
    ConstantStep,
    ConvStep,
    PostOp,
    ProductStep,
    ProgramStep,
    operands,
)

Item: TypeAlias = tuple[ProgramStep, str]
"""A step and its label."""


def count_readers(program: Program) -> Counter[str]:
    """How often each value is read; being an output counts as reading."""
    readers: Counter[str] = Counter(program.outputs)
    for step in program.steps:
        readers.update(operands(step))
    return readers


def _rename_post(post: tuple[PostOp, ...], names: Mapping[str, str]) -> tuple[PostOp, ...]:
    return tuple(
        replace(op, operand=names.get(op.operand, op.operand)) if isinstance(op.operand, str) else op for op in post
    )


def rename(step: ProgramStep, names: Mapping[str, str]) -> ProgramStep:
    """The step with its values, read and produced, renamed; values not in ``names`` stay."""
    y = names.get(step.y, step.y)
    if isinstance(step, ConcatStep):
        return replace(step, xs=tuple(names.get(x, x) for x in step.xs), y=y)
    if isinstance(step, ConstantStep):
        return replace(step, y=y)
    step = replace(step, x=names.get(step.x, step.x), y=y)
    if isinstance(step, WITH_POSTS):
        step = replace(step, post=_rename_post(step.post, names))
    if isinstance(step, ConvStep | ProductStep) and isinstance(step.w, str):
        step = replace(step, w=names.get(step.w, step.w))
    if isinstance(step, ConvStep) and isinstance(step.b, str):
        step = replace(step, b=names.get(step.b, step.b))
    return step


def is_touched(step: ProgramStep, names: Mapping[str, str]) -> bool:
    """Whether renaming would change what the step reads."""
    return any(name in names for name in operands(step))


def rebuild(program: Program, items: Iterable[Item]) -> Program:
    """A program of the same inputs, outputs and shapes with other steps; checks their order again."""
    new = Program(
        program.inputs,
        program.outputs,
        {name: program.shapes[name] for name in program.inputs},
        element=program.element,
    )
    for step, label in items:
        new.add(step, program.shapes[step.y], label)
    return new


def with_labels(program: Program) -> Iterable[Item]:
    """Steps and their labels."""
    return zip(program.steps, program.labels, strict=True)
