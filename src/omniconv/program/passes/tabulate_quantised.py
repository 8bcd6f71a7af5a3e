"""Pass: elementwise operations on one quantised value become a table.

A value of 8 bits has 256 integers at most, so that what is computed of it alone is known for all of them: a sigmoid,
rounded to levels, times the value that it is of, rounded again, is one table. Each operation is computed in float64 and
rounded to float32, as the operations of a quantised step are; functions are the nearest float32 numbers then, where
kernels are some roundings away: a result may differ by one step next to the middle between two.

It must not fire on: values whose integers are not known, that are more than 256, or that are repeated along an axis;
constants with several numbers; floats; steps without operations, which are as quick as a table.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from omniconv.program.evaluate import EVALUATED, evaluate_op
from omniconv.program.levels import Levels
from omniconv.program.passes.drop_dead import drop_dead
from omniconv.program.program import Program
from omniconv.program.rewrite import Item, rebuild, with_labels
from omniconv.program.steps import ProgramStep, QuantisedMapStep, QuantisedTableStep
from omniconv.program.steps.quantised_table import ENTRIES

Float64: TypeAlias = npt.NDArray[np.float64]


class _Tabulated(NamedTuple):
    """A value that is a function of another: its integers for those of the root, in order."""

    root: str
    integers: npt.NDArray[np.int16]


def tabulate_quantised(program: Program) -> Program:
    """The program with tables; the program itself where there is nothing to tabulate."""
    levels: dict[str, Levels] = {}
    known: dict[str, _Tabulated] = {}
    items: list[Item] = []
    for step, label in with_labels(program):
        found = _tabulate(step, known, program)
        if found is not None:
            known[step.y] = found
            if isinstance(step, QuantisedMapStep) and step.post and step.levels is not None:
                table = QuantisedTableStep(found.root, step.y, levels[found.root], found.integers, step.levels)
                levels[step.y] = step.levels
                items.append((table, label))
                continue
        made = getattr(step, "levels", None)
        if made is not None:
            levels[step.y] = made
            if found is None and made.high - made.low < ENTRIES:
                known[step.y] = _Tabulated(step.y, np.arange(made.low, made.high + 1, dtype=np.int16))
        items.append((step, label))
    if all(step is old for (step, _), old in zip(items, program.steps, strict=True)):
        return program
    return drop_dead(rebuild(program, items))


def _tabulate(step: ProgramStep, known: dict[str, _Tabulated], program: Program) -> _Tabulated | None:
    """A step as a function of the root of what it reads."""
    if not isinstance(step, QuantisedMapStep) or step.levels is None or step.x_scale is None:
        return None
    shape, roots = program.shapes[step.y], {known[name].root for name in step.reads if name in known}
    if len(roots) != 1 or any(name not in known or program.shapes[name] != shape for name in step.reads):
        return None
    if None in step.scales or any(op.op not in EVALUATED for op in step.post):
        return None
    if any(isinstance(op.operand, np.ndarray) and op.operand.size != 1 for op in step.post):
        return None
    (root,) = roots
    return _Tabulated(root, _compute(step, step.levels, known))


def _compute(step: QuantisedMapStep, levels: Levels, known: dict[str, _Tabulated]) -> npt.NDArray[np.int16]:
    """The integers of a step's result."""

    def read(name: str, scale: float | None) -> Float64:
        assert scale is not None
        return _round(known[name].integers.astype(np.float64) * scale)

    scales = iter(step.scales)
    with np.errstate(all="ignore"):
        value = read(step.x, step.x_scale)
        for op in step.post:
            match op.operand:
                case str(name):
                    operand = read(name, next(scales))
                case None:
                    operand = value
                case array:
                    operand = array.astype(np.float64).reshape(1)
            value = _round(evaluate_op(op, value, operand))
        steps = np.clip(np.rint(_round(value / levels.scale)), levels.low, levels.high)
    return np.where(np.isnan(steps), levels.low, steps).astype(np.int16)


def _round(value: Float64) -> Float64:
    """The nearest numbers of float32."""
    return value.astype(np.float32).astype(np.float64)
