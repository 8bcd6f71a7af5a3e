"""Pass: values between layers, and the weights of layers, are kept as bfloat16.

A value is rounded once, where it is produced; whoever reads it computes with float32. Rounded are the results of
convolutions and dense layers, and what elementwise arithmetic, activations, pools, padding, resizing and moves make of
rounded values. A number moves by at most a relative :math:`2^{-8}`.

It must not fire on: inputs and outputs of the program; numbers that stand for positions, truths or counts, which a step
of a few digits would change (constants, results of comparisons and of rounding, sums, maxima of their places, and what
is made of those alone); what one number an image and channel remains of, which is small; integers. Weights that leave
the range of bfloat16's normal numbers, with which a layer would lose more than digits, stay as they are, and so does
the result of their layer; and so do results with finite constants that would become infinite, such as the largest
number of float32, by which masks stand for infinity without the NaN that it makes of a difference.
"""

from __future__ import annotations

from collections.abc import Collection, Container
from dataclasses import replace
from typing import Final

import numpy as np

from omniconv.errors import SpecError
from omniconv.program.element import BFLOAT16, FLOAT32, Element
from omniconv.program.program import Program
from omniconv.program.rewrite import with_labels
from omniconv.program.steps import (
    Array,
    ConvStep,
    DenseStep,
    MapStep,
    PadStep,
    PoolStep,
    PostOp,
    ProgramStep,
    ResizeStep,
)
from omniconv.program.steps.post import ARITHMETIC
from omniconv.program.steps.step import Move

SMALLEST: Final = 2.0**-126
"""Of bfloat16 with all of its digits; float32 has the same."""
LARGEST: Final = 2.0**128 * (1 - 2.0**-9)
"""From here on, a number is rounded to infinity."""


def keep_bfloat16(program: Program, exact: Container[str] = ()) -> Program:
    """The program with its values and weights kept as bfloat16.

    Args:
        program: in float32.
        exact: labels of layers whose weights and results stay as they are.

    Raises:
        SpecError: a program that computes with another element than float32.
    """
    if program.element != FLOAT32:
        raise SpecError(
            f"precision='bfloat16' with dtype={program.element.name!r}", need="dtype='float32'", fix="leave dtype out"
        )
    elements, rounded = dict(program.elements), set[str]()
    for step, label in with_labels(program):
        if isinstance(step, ConvStep | DenseStep) and label in exact:
            continue
        if isinstance(step, ConvStep | DenseStep) and isinstance(step.w, np.ndarray) and holds(step.w):
            rounded.add(step.y)
        if step.y not in program.outputs and step.y not in elements and _rounds(step, elements):
            elements[step.y] = BFLOAT16
    return replace(program, elements=elements, rounded=frozenset(rounded))


def holds(w: Array) -> bool:
    """Whether bfloat16 has all numbers of an array, up to a relative error of :math:`2^{-8}`."""
    size = np.abs(w)
    return bool(size.max(initial=0.0) < LARGEST and size.min(initial=1.0, where=size > 0) >= SMALLEST)


def _rounds(step: ProgramStep, elements: dict[str, Element]) -> bool:
    """Whether a result is rounded, given what is known of the values before it."""
    match step:
        case ConvStep() | DenseStep():
            return _smooth(step.post) and (not isinstance(step.w, np.ndarray) or holds(step.w))
        case MapStep():
            return elements.get(step.x) is BFLOAT16 and _smooth(step.post)
        case PadStep() if _overflows(step.value):
            return False
        case PoolStep() | PadStep() | ResizeStep() | Move():
            return all(elements.get(name) is BFLOAT16 for name in step.reads)
    return False


def _smooth(post: tuple[PostOp, ...]) -> bool:
    """Whether operations make numbers of numbers: neither truths nor whole numbers, nor what becomes infinite."""
    constants = [op.operand for op in post if isinstance(op.operand, np.ndarray) and op.op not in ("max", "min")]
    return all(op.op in (*ARITHMETIC, "act", "threshold") for op in post) and not any(map(_overflows, constants))


def _overflows(values: Array | float) -> bool:
    """Whether finite numbers become infinite."""
    size = np.abs(values)
    return bool(np.any((size >= LARGEST) & np.isfinite(size)))


def list_layers(program: Program) -> list[str]:
    """Labels of the layers whose weights, or results, :func:`keep_bfloat16` rounds."""
    return [label for step, label in with_labels(program) if isinstance(step, ConvStep | DenseStep)]


def check_layers(program: Program, names: Collection[str], at: str) -> None:
    """Refuse names that no layer has.

    Raises:
        SpecError: one of them, with the names that there are.
    """
    known = list_layers(program)
    for name in names:
        if name not in known:
            raise SpecError(f"float32_layers has {name!r}", need="one of " + ", ".join(dict.fromkeys(known)), at=at)


def describe_kept(program: Program, exact: Container[str] = ()) -> list[str]:
    """What :func:`keep_bfloat16` has made of a program: how much is kept as bfloat16, and which layers are not."""
    layers = [(step, label) for step, label in with_labels(program) if isinstance(step, ConvStep | DenseStep)]
    kept = sum(element is BFLOAT16 for element in program.elements.values())
    steps, rounded = len(program.steps), len(program.rounded)
    lines = [f"bfloat16: {kept} of {steps} values, the weights of {rounded} of {len(layers)} layers"]
    for step, label in layers:
        if step.y not in program.rounded:
            if label in exact:
                why = "that was asked for"
            elif isinstance(step.w, str):
                why = "its weights are computed"
            else:
                why = "its weights leave the range of bfloat16's normal numbers"
            lines.append(f"    {label}: float32, because {why}")
    return lines
