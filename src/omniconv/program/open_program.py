"""`OpenProgram`: a program with open sizes, which becomes the program for other sizes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from omniconv.closing import Conditions, find_close
from omniconv.open_size import Formulas, Known, Trace
from omniconv.program.program import Program


class OpenProgram:
    """A program with open sizes, and what has to hold of these. Steps without sizes are the same objects for all.

    Args:
        program: with the sizes that were opened in it.
        trace: what was asked of them.
    """

    def __init__(self, program: Program, trace: Trace) -> None:
        self._program, self._formulas = program, Formulas()
        self._conditions = Conditions(trace.guards, trace.questions, self._formulas)
        self._shapes = {name: find_close(shape, self._formulas) for name, shape in program.shapes.items()}
        self._steps = [(step, find_close(step, self._formulas)) for step in program.steps]

    def fix(self, sizes: Sequence[int]) -> Program | None:
        """The program for given sizes; ``None`` where it is not right for them."""
        try:
            values = self._formulas.evaluate(sizes)
        except ZeroDivisionError:
            return None
        return self._put(values) if self._conditions.hold(values) else None

    def open(self, trace: Trace, sizes: Sequence[int]) -> Program:
        """The program with its sizes open again, for others to ask what these are; it has to be right for them."""
        return self._put(self._formulas.open(trace, sizes))

    def _put(self, values: Sequence[Known]) -> Program:
        program = self._program
        return Program(
            program.inputs,
            program.outputs,
            {name: program.shapes[name] if inner is None else inner(values) for name, inner in self._shapes.items()},
            [step if inner is None else inner(values) for step, inner in self._steps],
            list(program.labels),
            program.element,
            dict(program.elements),
        )


class OpenOrigin(NamedTuple):
    """Where the program for some sizes comes from."""

    program: OpenProgram
    sizes: tuple[int, ...]
