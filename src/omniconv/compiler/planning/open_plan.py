"""`OpenPlan`: a plan with open sizes, which becomes the plan for other sizes.

A program is planned with its sizes open (:mod:`omniconv.open_size`): places, strides and sizes of kernels become
expressions, and what lowerings ask of sizes becomes guards. Two things are no expressions, and are done for each size:
the choice of a kernel for each layer, and the places of values in the arena. Choices have to be of the forms that they
had; what is loose in a tile, such as how many are in a unit of work, is one more open size.

Forms and slabs of a filtered layer follow from each size, and so do its calls and the memory between these: they are
made for each size, from a layer whose values have their places.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from omniconv.closing import Close, Conditions, close, describe, find_close, list_open, pin
from omniconv.compiler.fusion.runs import count_lifetimes
from omniconv.compiler.lowering.family import Choice
from omniconv.compiler.lowering.layer import Layer
from omniconv.compiler.memory.planner import Call, Decision, Planner
from omniconv.compiler.memory.storage import Buffer, BufferRef, plan_arena, whole_lines
from omniconv.compiler.planning.choice import choose
from omniconv.compiler.planning.convolution import fits_weights
from omniconv.compiler.planning.options import Options
from omniconv.compiler.planning.plan import Plan, lay_out, open_planner
from omniconv.compiler.planning.shared import Shared
from omniconv.compiler.problem.problem import Facts, Problem
from omniconv.open_size import Formulas, Opener, Trace, is_of, substitute, tree_of
from omniconv.program.open_program import OpenOrigin
from omniconv.records import dataclass
from omniconv.target.model import Target


class _Question(NamedTuple):
    """A choice that was made while sizes were open: for what, and what came out."""

    step: int
    asked: tuple[Problem, Facts]
    choice: Choice[Any]


class _Left(NamedTuple):
    """A filtered layer whose calls are left to each size.

    Attributes:
        first: how many calls come before those.
        question: the number of its choice.
    """

    first: int
    question: int
    layer: Layer


@dataclass(slots=True)
class _Questions:
    """All of them, and the layers whose calls are left to each size."""

    opener: Opener
    found: list[_Question] = field(default_factory=list)
    left: list[_Left] = field(default_factory=list)

    def open(self, step: int, choice: Choice[Any], problem: Problem, facts: Facts) -> Choice[Any]:
        """The choice for the sizes at hand with its sizes opened, and those of the layer that it is for; of a filtered
        layer one that makes no calls.
        """
        family = choice.family
        if family.settle:
            self.found.append(_Question(step, (problem, facts), choice))
            leave = partial(self._leave, len(self.found) - 1)
            return replace(choice, family=replace(family, lower=leave), problem=problem)
        layer = facts.merged if family.merges and facts.merged is not None else problem
        if layer.rows != choice.problem.rows:
            layer = replace(layer, rows=choice.problem.rows)
        tile = choice.tile.opened(self.opener)
        self.found.append(_Question(step, (problem, facts), choice))
        return replace(choice, tile=tile, problem=layer, text=choice.tile.text())

    def _leave(self, question: int, planner: Planner, layer: Layer, _choice: Choice[Any]) -> None:
        """Lower a layer without making its calls."""
        self.left.append(_Left(len(planner.calls), question, layer))


@dataclass(frozen=True, slots=True)
class _OpenCall:
    """A call, and what puts sizes into it.

    Attributes:
        question: the number of the choice that it comes from, if it says so.
    """

    call: Call
    units: int | None
    args: Close | None
    moved: Close | None
    question: int | None

    def fix(self, values: Sequence[int], choices: Sequence[Choice[Any]], planner: Planner) -> None:
        """Append the call for some sizes."""
        planner.calls.append(self._make(values, choices))

    def _make(self, values: Sequence[int], choices: Sequence[Choice[Any]]) -> Call:
        call = self.call
        recipe: Any = call.recipe
        if self.units is not None:
            recipe = replace(recipe, units=values[self.units])
        args = call.args if self.args is None else self.args(values)
        moved = call.moved if self.moved is None else self.moved(values)
        if self.question is None:
            return Call(recipe, args, call.step, call.what, call.why, None, call.how, call.fixed, moved)
        choice = choices[self.question]
        decision = Decision(choice.problem, choice.tile.text(), choice.tuned)
        why = choice.rejected if call.why else ()
        return Call(recipe, args, call.step, call.what, why, decision, call.how, call.fixed, moved)


@dataclass(frozen=True, slots=True)
class _OpenLayer:
    """A filtered layer whose calls are left to each size, and what puts that into it."""

    layer: Layer
    close: Close | None
    step: int
    question: int
    shared: Shared

    def fix(self, values: Sequence[int], choices: Sequence[Choice[Any]], planner: Planner) -> None:
        """Append its calls for some sizes."""
        layer = self.layer if self.close is None else self.close(values)
        choice, first, known = choices[self.question], len(planner.calls), len(planner.buffers)
        planner.step = self.step
        choice.family.lower(planner, layer, choice)
        made = planner.calls[first:]
        self.shared.name_packed(made, planner.buffers, planner.program, known)
        planner.calls[first:] = self.shared.open(made, planner.buffers, planner.target)


class OpenPlan:
    """A plan with open sizes.

    Args:
        origin: the program with its sizes open, and the sizes at hand, which it is right for.
        target, options, shared: as for :func:`omniconv.compiler.planning.plan.plan`.

    Raises:
        TypeError: something takes nothing but integers, or looks sizes up in a dictionary.
    """

    def __init__(self, origin: OpenOrigin, target: Target, options: Options, shared: Shared) -> None:
        trace = Trace(keys=False)
        opener = Opener(trace, list(origin.sizes))
        self._options, self._shared, questions = options, shared, _Questions(opener)
        planner = open_planner(origin.program.open(trace, origin.sizes), target, options, shared)
        planner.asked = questions
        layouts = lay_out(planner, options)
        self._target = planner.target
        shared.name_packed(planner.calls, planner.buffers, planner.program)
        calls = self._open_calls(planner, trace)
        self._formulas = formulas = Formulas()
        # What is asked of a layer follows from the sizes of the program alone, and is known before any choice is.
        self._layers, count = Formulas(), len(origin.sizes)
        alike: dict[Any, int] = {}
        numbers = [alike.setdefault(describe(each.asked), len(alike)) for each in questions.found]
        firsts = (questions.found[numbers.index(number)].asked for number in range(len(alike)))
        self._asked = [(asked, find_close(asked, self._layers)) for asked in firsts]
        self._questions = list(zip(questions.found, numbers, strict=True))
        early = {guard for guard in trace.guards if is_of(guard[1], count) and is_of(guard[2], count)}
        self._before = Conditions(early, (), self._layers)
        if not self._layers.is_of(count):
            raise TypeError("a layer depends on the tile of another one")
        self._steps: list[_OpenCall | _OpenLayer] = [self._make(call, units) for call, units in calls]
        for left in reversed(questions.left):
            step = questions.found[left.question].step
            layer = _OpenLayer(left.layer, find_close(left.layer, formulas), step, left.question, shared)
            self._steps.insert(left.first, layer)
        self._buffers = [
            (each, formulas.add(tree_of(each.size)), find_close(each.make, formulas)) for each in planner.buffers
        ]
        self._layouts = [[(name, each, find_close(each, formulas)) for name, each in item.items()] for item in layouts]
        self._zero, self._scratch = planner.zero, planner.scratch
        self._conditions = Conditions([each for each in trace.guards if each not in early], trace.questions, formulas)
        trace.over = True

    def _open_calls(self, planner: Planner, trace: Trace) -> list[tuple[Call, int]]:
        """The calls with kernels that read their sizes when they run, which a new buffer holds, and the units of work
        of each.
        """
        sizes: list[int] = []
        table, words = len(planner.buffers), 8 // planner.target.element.bytes
        places: dict[tuple[str, tuple[Any, ...]], int] = {}
        found: list[tuple[Call, int]] = []
        for call in planner.calls:
            opened = None if call.fixed else self._open_recipe(call, planner, trace)
            if opened is None:
                recipe: Any = call.recipe
                found.append((replace(call, recipe=pin(recipe)), 0))
                continue
            kernel, given = opened
            key = kernel.text, tuple(map(tree_of, given))
            if key not in places:
                places[key] = len(sizes)
                sizes += given
            found.append((call.open(kernel, BufferRef(table, words * places[key])), call.recipe.units))
        planner.buffers.append(Buffer("constant", 8 * len(sizes), make=partial(np.asarray, tuple(sizes), np.int64)))
        return found

    def _open_recipe(self, call: Call, planner: Planner, trace: Trace) -> tuple[Any, list[int]] | None:
        """The kernel of a call, and the sizes that it is given, which are open; ``None`` where it has none."""
        recipe: Any = call.recipe
        opened = self._shared.open_recipe(call, close(recipe), planner.target)
        if opened is None:
            return None
        opener = Opener(Trace())
        for size in list_open(recipe.opened(opener)):
            if size.trace is trace:
                int(size)  # what stays in the code
        trees = [tree_of(size) for size in opener.values]
        for relation, a, b, answer in opened.guards:
            trace.guards.setdefault((relation, substitute(a, trees), substitute(b, trees), answer))
        return opened.kernel, opener.values

    def _make(self, call: Call, units: int) -> _OpenCall:
        formulas, question = self._formulas, None
        if call.decision is not None:
            question = next(number for number, each in enumerate(self._questions) if each[0].step == call.step)
        return _OpenCall(
            call,
            formulas.add(tree_of(units)) if list_open((units,)) else None,
            find_close(call.args, formulas),
            find_close(call.moved, formulas),
            question,
        )

    def fix(self, sizes: Sequence[int], planner: Planner) -> Plan | None:
        """The plan for some sizes; ``None`` where it is not right for them.

        Args:
            sizes: those that were opened.
            planner: of the program for these sizes.
        """
        try:
            choices = self._choose(sizes, planner)
            if choices is None:
                return None
            loose = [size for choice in choices if not choice.family.settle for size in choice.tile.sizes]
            values = self._formulas.evaluate([*sizes, *loose])
        except ZeroDivisionError:
            return None
        return self._put(planner, values, choices) if self._conditions.hold(values) else None

    def _choose(self, sizes: Sequence[int], planner: Planner) -> list[Choice[Any]] | None:
        """The choices for some sizes; ``None`` where they are not of the forms that they were."""
        values = self._layers.evaluate(sizes)
        if not self._before.hold(values):
            return None
        layers: list[tuple[Problem, Facts]] = [
            asked if inner is None else inner(values) for asked, inner in self._asked
        ]
        chosen = [choose(problem, self._target, facts, planner.find_tuned) for problem, facts in layers]
        found = []
        for question, number in self._questions:
            choice = self._shared.agree(question.step, chosen[number], question.choice, self._target)
            if choice is None:
                return None
            step: Any = planner.program.steps[question.step]
            if choice.family.settle and not fits_weights(planner, choice, step.w):
                return None
            found.append(choice)
        return found

    def _put(self, planner: Planner, values: Sequence[int], choices: Sequence[Choice[Any]]) -> Plan:
        planner.buffers = buffers = [
            Buffer(each.kind, values[size], each.index, each.make if make is None else make(values), each.packed)
            for each, size, make in self._buffers
        ]
        for each in self._steps:
            each.fix(values, choices, planner)
        count_lifetimes(planner.calls, planner.groups, buffers)
        offsets, total = plan_arena(buffers)
        inputs, outputs = (
            {name: layout if inner is None else inner(values) for name, layout, inner in item} for item in self._layouts
        )
        return Plan(
            planner.program,
            self._target,
            tuple(planner.calls),
            tuple(planner.groups),
            tuple(buffers),
            tuple(offsets),
            total,
            buffers[self._zero].size,
            whole_lines(buffers[self._scratch].size),
            inputs,
            outputs,
            self._options.row_major,
            self._options.exact,
            self._options.precision,
            self._options.float32_layers,
            self._options.accuracy,
        )
