"""Backwards through a `Program`: from what is demanded of one value to what that demands of every value before it.

A demand is an array of the value's full shape. As booleans it is the exact set of entries that something depends on;
as numbers it is the weight with which paths from each entry reach it. One rule for each form serves both, because
adding booleans is *or* (see :mod:`omniconv.analysis.taps`). Every weight of a layer is taken to differ from zero: what
is found is the structure, which weights that happen to vanish can only make smaller.

As numbers a path carries the product of what its steps give it, by :data:`MODES`:

- ``"count"``: 1 everywhere, the number of paths through taps and channels;
- ``"mean"``: 1 for each tap, and the mean over the input channels of a group: the number of paths through taps;
- ``"weights"``: ``|w|`` of each weight, a mean's divisor, equal shares through a maximum, a softmax or weights that
  are computed; activations and elementwise products of two activations carry 1.
"""

from __future__ import annotations

from typing import Final

from omniconv.analysis.pull import pull
from omniconv.analysis.subject import needed_steps
from omniconv.analysis.taps import AnyArray
from omniconv.program.program import Program

MODES: Final = ("count", "mean", "weights")


def trace(
    program: Program, tensor: str, demand: AnyArray, *, mode: str = "count", gates: bool = True
) -> dict[str, AnyArray]:
    """What ``demand`` of ``tensor`` demands of every value it is computed from, inputs included.

    Args:
        program: the steps.
        tensor: name of a value.
        demand: array of that value's shape; bool or float64.
        mode: what paths carry, see :data:`MODES`; booleans take ``"count"``.
        gates: follow operands that are spread over whole spatial axes (squeeze-and-excitation gates).
    """
    demands: dict[str, AnyArray] = {tensor: demand}
    for index in reversed(needed_steps(program, tensor)):
        step = program.steps[index]
        held = demands.get(step.y)
        if held is None:
            continue
        if step.y not in (*program.outputs, tensor):
            del demands[step.y]
        for part in program.dependence(step).local(gates):
            x = held
            for form in reversed(part.forms):
                x = pull(form, x, mode)
            demands[part.name] = demands[part.name] + x if part.name in demands else x
    return demands
