r"""Steps that go on along an axis with a state in place of all that they have read: recurrent layers and running sums.

Every position of their result depends on all before it, yet what they need of these is one state of fixed size:

.. math:: (y_t, s_t) = f(x_t, s_{t-1}) .

A run over positions a to b from :math:`s_{a-1}` gives those positions of the whole, with every sum in the same order.
"""

from __future__ import annotations

from dataclasses import replace

from omniconv.errors import UnsupportedError
from omniconv.program.steps import ConcatStep, CumSumStep, ProgramStep, RearrangeStep, RecurrentStep, SliceStep
from omniconv.program.steps.step import Shapes
from omniconv.records import dataclass
from omniconv.spec import Shape


@dataclass(frozen=True, slots=True)
class Carry:
    """What a step goes on with.

    Attributes:
        states: their shapes.
        first: for each, the value that it is before the first position; ``None`` for zeros.
        tail: positions of the result behind those of the input: the states in which it ends.
    """

    states: tuple[Shape, ...]
    first: tuple[str | None, ...]
    tail: int = 0


@dataclass(frozen=True, slots=True)
class Run:
    """Steps in place of one that goes on.

    Attributes:
        steps: with the shapes of what they produce, in order.
        states: the values that the next run begins with.
    """

    steps: tuple[tuple[ProgramStep, Shape], ...]
    states: tuple[str, ...]


def find_carry(step: ProgramStep, shapes: Shapes, axis: int) -> Carry | None:
    """What a step goes on with along an axis of its result; ``None`` where it is cut like any other.

    Raises:
        UnsupportedError: it would go on, if it did not begin at the end.
    """
    if isinstance(step, RecurrentStep) and axis == 0:
        if any(step.reverse):
            which = "bidirectional" if len(step.reverse) > 1 else "reversed"
            raise UnsupportedError(
                f"a {which} {step.cell.upper()} begins at the end",
                need="layers that run forward",
                fix="direction=forward",
            )
        if step.lengths is not None:
            raise UnsupportedError(
                f"an {step.cell.upper()} for sequences of given lengths ends where they say", need="no sequence_lens"
            )
        first = (step.h, step.c)[: step.states]
        return Carry((tuple(shapes[step.y][1:]),) * step.states, first, step.states)
    if isinstance(step, CumSumStep) and axis == step.axis % len(shapes[step.y]):
        if step.reverse:
            raise UnsupportedError("a running sum from the end begins there", need="sums that run forward")
        shape = shapes[step.y]
        return Carry(((*shape[:axis], 1, *shape[axis + 1 :]),), (None,))
    return None


def run_on(step: ProgramStep, x: str, shape: Shape, states: tuple[str, ...], axis: int, *, last: bool) -> Run:
    """The steps that compute positions of ``step.y`` from as many of x, and from the states before them.

    Args:
        step: one that has a `Carry`.
        x, shape: the positions of what it reads, at least one.
        states: before the first of them.
        axis: of the result.
        last: whether they are the last, so that the tail follows them.
    """
    count, y = shape[0] if isinstance(step, RecurrentStep) else shape[axis], step.y
    if isinstance(step, RecurrentStep):
        h, c = (*states, None)[:2]
        form = (len(step.reverse), shape[1], step.hidden)
        if last:
            run = replace(step, x=x, h=h, c=c)
            return Run(((run, (count + step.states, *form)),), ())
        whole = f"{y} run"
        steps: list[tuple[ProgramStep, Shape]] = [
            (replace(step, x=x, y=whole, h=h, c=c), (count + step.states, *form)),
            (SliceStep(whole, y, (0, 0, 0, 0), (1, 1, 1, 1)), (count, *form)),
        ]
        for number in range(step.states):
            one, after = f"{y} end {number}", f"{y} state {number} after"
            steps.append((SliceStep(whole, one, (count + number, 0, 0, 0), (1, 1, 1, 1)), (1, *form)))
            steps.append((RearrangeStep(one, after, (1, *form), (0, 1, 2, 3)), form))
        return Run(tuple(steps), tuple(f"{y} state {number} after" for number in range(step.states)))
    assert isinstance(step, CumSumStep)
    wide, whole, after = f"{y} and before", f"{y} run", f"{y} state 0 after"
    longer = (*shape[:axis], count + 1, *shape[axis + 1 :])
    single = (*shape[:axis], 1, *shape[axis + 1 :])
    ones, none = (1,) * len(shape), (0,) * len(shape)
    begin = none if step.exclusive else tuple(int(n == axis) for n in range(len(shape)))
    final = tuple(count * (n == axis) for n in range(len(shape)))
    return Run(
        (
            (ConcatStep((states[0], x), wide, axis), longer),
            (CumSumStep(wide, whole, axis), longer),
            (SliceStep(whole, y, begin, ones), shape),
            (SliceStep(whole, after, final, ones), single),
        ),
        (after,),
    )


def tail_of(step: ProgramStep, states: tuple[str, ...], form: Shape) -> tuple[tuple[ProgramStep, Shape], ...]:
    """The steps that lay the states down as the tail of a result that has no more positions."""
    wide = [(RearrangeStep(state, f"{state} row", form, (0, 1, 2)), (1, *form)) for state in states]
    rows = tuple(step.y for step, _ in wide)
    return (*wide, (ConcatStep(rows, step.y, 0), (len(states), *form)))
