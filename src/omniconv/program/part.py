"""`cut_program`: the program that computes boxes of values, from the boxes of its inputs that exist and are needed.

Boxes are carried back from the results, step by step (:mod:`omniconv.program.cut`). A value that several steps read is
computed once, on the smallest box around what they need, and each takes its part. What is computed is what the whole
program computes there, for every input: each step of the part reads the same positions as the step of the whole does,
and padding where that one reads padding.
"""

from __future__ import annotations

from collections.abc import Mapping

from omniconv.errors import UnsupportedError
from omniconv.program.cut import Box, Cut, box_shape, hull
from omniconv.program.keep_axes import expand
from omniconv.program.program import Program
from omniconv.program.steps import SliceStep
from omniconv.records import dataclass


@dataclass(frozen=True, slots=True, eq=False)
class ProgramPart:
    """Boxes of values.

    Attributes:
        program: its outputs are the boxes that were asked for, in that order; its inputs are those that they depend on.
        reads: for each input, the box that it is given.
        boxes: of every value that is computed or read.
    """

    program: Program
    reads: dict[str, Box]
    boxes: dict[str, Box]


def cut_program(program: Program, wanted: Mapping[str, Box]) -> ProgramPart:
    """The part of a program that computes a box of each value that is named.

    Raises:
        UnsupportedError: a step that cannot be computed in parts; its label is in ``at``.
    """
    held: dict[str, Box] = dict(wanted)
    cuts: list[tuple[Cut, str]] = []
    for step, label in zip(reversed(program.steps), reversed(program.labels), strict=True):
        if step.y not in held:
            continue
        try:
            cut = step.cut(program.shapes, held[step.y])
        except UnsupportedError as error:
            raise error.but(at=label) from None
        held[step.y] = cut.box
        cuts.append((cut, label))
        for name, need in zip(step.reads, cut.reads, strict=True):
            held[name] = hull(held[name], need) if name in held else need
    inputs = tuple(name for name in program.inputs if name in held)
    part = Program(inputs, shapes={name: box_shape(held[name]) for name in inputs}, element=program.element)
    part.elements.update({name: program.elements[name] for name in inputs if name in program.elements})
    for cut, label in reversed(cuts):
        names = [
            _take(part, name, held[name], need, label) for name, need in zip(cut.step.reads, cut.reads, strict=True)
        ]
        for step, shape in expand(cut.step.reading(names), part.shapes, box_shape(cut.box)):
            part.add(step, shape, label)
    part.outputs = tuple(_take(part, name, held[name], box, "tile") for name, box in wanted.items())
    return ProgramPart(part, {name: held[name] for name in inputs}, held)


def _take(part: Program, name: str, held: Box, need: Box, label: str) -> str:
    """The name of a box of a value in a part that holds a larger one."""
    if held == need:
        return name
    found = f"{name} {need}"
    if found not in part.shapes:
        starts = tuple(want[0] - have[0] for want, have in zip(need, held, strict=True))
        part.add(SliceStep(name, found, starts, (1,) * len(starts)), box_shape(need), label)
    return found
