"""Backwards through a `Program` with sets of positions: the boxes of every value that an output demands."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from dataclasses import field
from fractions import Fraction
from typing import Final, TypeAlias

from omniconv.analysis.box import Nothing, back
from omniconv.analysis.hull import Reach, everything, merge
from omniconv.analysis.regrouping import couples
from omniconv.analysis.subject import needed_steps
from omniconv.analysis.terms import Box, add_box
from omniconv.program.dependence import Form, Part, Product, Regroup, Window
from omniconv.program.program import Program
from omniconv.records import dataclass

Link: TypeAlias = tuple[str, str, Part]
"""A result, the label of its step, and how it depends on one value."""

MOST_PHASES: Final = 64
"""Output phases whose fields are worked out one by one."""


@dataclass(slots=True)
class Demand:
    """What one output position demands.

    Attributes:
        boxes: of every value, by name.
        period: moving the output by so many positions moves all it reads, in every value, by whole positions.
        coupled: the positions on several axes decided together what is read, by holes or by a choice of channels.
        exact: there were never too many boxes.
    """

    boxes: dict[str, list[Box]]
    period: int = 1
    coupled: bool = False
    exact: bool = True

    def add(self, name: str, box: Box | Nothing) -> None:
        """Add a box to what is demanded of a value."""
        if isinstance(box, Nothing):
            self.coupled |= box is Nothing.HOLE  # what another operand holds is no hole
            return
        for item in box:
            if item.moves and item.rate is not None:
                self.period = math.lcm(self.period, item.rate.denominator)
        if not add_box(self.boxes.setdefault(name, []), box):
            self.exact = False


@dataclass(slots=True)
class Phases:
    """What the output positions of one period demand.

    Attributes:
        period: see :class:`Demand`.
        exact: every position that counts was worked out.
        demands: by position.
    """

    period: int = 1
    exact: bool = True
    demands: dict[tuple[int, ...], Demand] = field(default_factory=dict)

    def on_axis(self, source: str, axis: int) -> list[Reach | None]:
        """For each output phase what is read on one axis of a value, whatever the position on other output axes."""
        found: list[Reach | None] = [None] * (1 + max(max(position, default=0) for position in self.demands))
        for position, demand in self.demands.items():
            for box in demand.boxes.get(source, ()):
                item = box[axis]
                phase = position[(item.origin or 2) - 2] if position else 0
                old = found[phase]
                found[phase] = item if old is None else merge(old, item)
        return found


def find_phases(program: Program, tensor: str, *, gates: bool = True, most: int = MOST_PHASES) -> Phases:
    """What the outputs of one period demand of every value; at most ``most`` of them are worked out.

    Position o on every axis at once stands for position o on each of them, as long as axes do not depend on one
    another; where they do, all positions of one period are worked out.
    """
    rank = max(len(program.shapes[tensor]) - 2, 0)
    links = find_links(program, tensor, gates=gates)
    found = Phases()
    coupled = False
    while True:
        period = found.period
        places = [(o,) * rank for o in range(min(period, most))]
        if coupled and rank > 1 and period > 1:
            if period**rank <= most:
                places = list(itertools.product(range(period), repeat=rank))
            else:
                found.exact = False
        fresh = [place for place in places if place not in found.demands]
        for place in fresh:
            demand = demand_of(program, tensor, place, links)
            found.demands[place] = demand
            found.period = math.lcm(found.period, demand.period)
            found.exact &= demand.exact
            coupled |= demand.coupled
        if not fresh:
            found.exact &= found.period <= most
            return found


def find_links(program: Program, tensor: str, *, gates: bool = True) -> list[Link]:
    """All dependences on the way to a value, last step first."""
    return [
        (program.steps[index].y, program.labels[index], part)
        for index in reversed(needed_steps(program, tensor))
        for part in program.dependence(program.steps[index]).local(gates)
    ]


def demand_of(program: Program, tensor: str, position: tuple[int, ...], links: Iterable[Link]) -> Demand:
    """What one output position demands of every value, all its channels and all of the batch."""
    shape = program.shapes[tensor]
    if len(shape) < 3:
        first: Box = tuple(everything(size) for size in shape)
    else:
        moving = (Reach(((o, o),), Fraction(1), origin=axis) for axis, o in enumerate(position, 2))
        first = (everything(shape[0]), everything(shape[1]), *moving)
    demand = Demand({tensor: [first]})
    for result, label, part in links:
        for held in tuple(demand.boxes.get(result, ())):
            box: Box | Nothing = held
            for form in reversed(part.forms):
                if not isinstance(box, Nothing):
                    _note(demand, form, box)
                    box = back(form, box, label)
            demand.add(part.name, box)
    return demand


def _note(demand: Demand, form: Form, held: Box) -> None:
    """Note what a form does to the period, also where this position falls into a hole of it."""
    if isinstance(form, Regroup) and couples(form, held):
        demand.coupled = True
    windows = form.windows if isinstance(form, Product) else (form,) if isinstance(form, Window) else ()
    for window in windows:
        item = held[window.axis]
        if window.taps.transposed and item.moves and item.rate is not None:
            demand.period = math.lcm(demand.period, (item.rate / window.taps.stride).denominator)
