"""`OpenPrograms`: the programs of one graph for inputs of many shapes, lowered once for all that ask the same of them.

A graph is lowered, and its passes are run, with the sizes of its inputs open (:mod:`omniconv.open_size`). Shapes become
expressions, and every question that an operator or a pass asks of a size becomes a guard. For other sizes for which all
guards hold, the program is the same with the expressions evaluated; its steps, weights folded and all, are the very
same objects wherever no size is in them. Otherwise the graph is lowered again.

It must not fire on: graphs in which an operator that has not been made for open sizes
(:attr:`~omniconv.graph.operator.Operator.open_sizes`) reads what depends on the inputs. These are lowered for each
shape.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any, Final, TypeAlias

import numpy as np

from omniconv.errors import OmniconvError
from omniconv.graph.nodes import Graph
from omniconv.graph.program import Lowered, lower_graph
from omniconv.graph.registry import has_operator
from omniconv.open_size import RELATIONS, Formulas, Later, Opener, OpenSize, Trace
from omniconv.program.element import Element
from omniconv.program.program import Program
from omniconv.spec import Shape

MOST_VARIANTS: Final = 8
"""Programs that are kept of a graph. One whose sizes keep asking for others is lowered for each shape from then on."""
Form: TypeAlias = tuple[tuple[bool, ...], ...]
"""For each axis of each input whether its size was opened."""


class OpenPrograms:
    """The programs of a graph. Thread-safe: what two threads make at once is made twice.

    Args:
        graph: inputs have the sizes that are the same for all programs, and no others.
        memory_limit, element: as for :func:`omniconv.graph.program.to_program`.
    """

    def __init__(self, graph: Graph, memory_limit: int | None, element: Element) -> None:
        self._graph, self._limit, self._element = graph, memory_limit, element
        self._variants: list[_OpenProgram] = []
        self._opens = _is_open(graph)

    def find(self, shapes: Mapping[str, Shape]) -> Lowered:
        """The program for inputs of these shapes.

        Raises:
            OmniconvError: as :func:`omniconv.graph.program.to_program`.
        """
        if self._opens:
            form, sizes = self._read(shapes)
            for variant in tuple(self._variants):
                found = variant.fix(form, sizes)
                if found is not None:
                    return found
            if len(self._variants) < MOST_VARIANTS:
                made = self._open(shapes, form)
                found = None if made is None else made.fix(form, sizes)
                if made is not None and found is not None:
                    self._variants.append(made)
                    return found
        return lower_graph(self._graph, shapes, self._limit, self._element)

    def _read(self, shapes: Mapping[str, Shape]) -> tuple[Form, list[int]]:
        """Which sizes are opened, and what these are. An axis of size 1 is one that is not there."""
        form: Form = tuple(
            tuple(
                size > 1 and (info.dims is None or not isinstance(info.dims[axis], int))
                for axis, size in enumerate(shape)
            )
            for info, shape in zip(self._graph.inputs, shapes.values(), strict=True)
        )
        opened = zip(form, shapes.values(), strict=True)
        return form, [size for axes, shape in opened for size, is_opened in zip(shape, axes, strict=True) if is_opened]

    def _open(self, shapes: Mapping[str, Shape], form: Form) -> _OpenProgram | None:
        """The program with its sizes open; ``None`` where something asks what cannot be written down, and for sizes
        that are refused, about which an error has to speak in numbers.
        """
        trace = Trace(keys=False)
        opener = Opener(trace)
        opened = {
            name: tuple(opener(size) if is_opened else size for size, is_opened in zip(shape, axes, strict=True))
            for axes, (name, shape) in zip(form, shapes.items(), strict=True)
        }
        try:
            lowered = lower_graph(self._graph, opened, self._limit, self._element)
        except TypeError:
            # A `KeyOfOpenSizeError`, or something that takes nothing but integers. A fault of another kind shows again
            # where the graph is lowered for these very sizes.
            self._opens = False
            return None
        except OmniconvError:
            return None
        return _OpenProgram(form, trace, lowered)


class _OpenProgram:
    """A program with open sizes, and what has to hold of these."""

    def __init__(self, form: Form, trace: Trace, lowered: Lowered) -> None:
        self._form, self._lowered = form, lowered
        program, formulas = lowered.program, Formulas()
        self._formulas = formulas
        self._guards = [
            (RELATIONS[relation], formulas.add(a), formulas.add(b), answer) for relation, a, b, answer in trace.guards
        ]
        self._shapes = {name: _closing(shape, formulas) for name, shape in program.shapes.items()}
        self._steps = [(step, _closing(step, formulas)) for step in program.steps]

    def fix(self, form: Form, sizes: list[int]) -> Lowered | None:
        """The program for given sizes; ``None`` where it is not right for them."""
        if form != self._form:
            return None
        try:
            values = self._formulas.evaluate(sizes)
        except ZeroDivisionError:
            return None
        if any(relation(values[a], values[b]) != answer for relation, a, b, answer in self._guards):
            return None
        program = self._lowered.program
        closed = Program(
            program.inputs,
            program.outputs,
            {name: program.shapes[name] if close is None else close(values) for name, close in self._shapes.items()},
            [step if close is None else close(values) for step, close in self._steps],
            list(program.labels),
            program.element,
        )
        return replace(self._lowered, program=closed)


def _closing(item: Any, formulas: Formulas) -> Callable[[list[int]], Any] | None:
    """What puts values in the place of the open sizes inside of something; ``None`` where it has none."""
    if isinstance(item, OpenSize):
        place = formulas.add(item.tree)
        return lambda values: values[place]
    if isinstance(item, Later):
        given = _closing(item.args, formulas)
        return lambda values: item.make(*(item.args if given is None else given(values)))
    if isinstance(item, tuple):
        parts = [(each, _closing(each, formulas)) for each in item]
        if all(close is None for _, close in parts):
            return None
        return lambda values: tuple(each if close is None else close(values) for each, close in parts)
    if is_dataclass(item) and not isinstance(item, type | np.ndarray):
        inner = {each.name: _closing(getattr(item, each.name), formulas) for each in fields(item)}
        changed = {name: close for name, close in inner.items() if close is not None}
        if changed:
            return lambda values: replace(item, **{name: close(values) for name, close in changed.items()})
    return None


def _is_open(graph: Graph) -> bool:
    """Whether every operator that reads what depends on the inputs has been made for open sizes."""
    computed = {info.name for info in graph.inputs}
    for node in graph.nodes:
        if computed.isdisjoint(node.reads):
            continue
        operator = has_operator(node)
        if operator is None or not operator.open_sizes:
            return False
        computed.update(filter(None, node.outputs))
    return True
