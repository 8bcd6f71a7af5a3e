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

from collections.abc import Mapping
from dataclasses import replace
from typing import Final, NamedTuple, TypeAlias

from omniconv.errors import OmniconvError
from omniconv.graph.nodes import Graph
from omniconv.graph.program import Lowered, lower_graph
from omniconv.graph.registry import has_operator
from omniconv.open_size import Opener, Trace
from omniconv.program.element import Element
from omniconv.program.open_program import OpenOrigin, OpenProgram
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
        self._variants: list[_Variant] = []
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

    def _read(self, shapes: Mapping[str, Shape]) -> tuple[Form, tuple[int, ...]]:
        """Which sizes are opened, and what these are. An axis of size 1 is one that is not there."""
        form: Form = tuple(
            tuple(
                size > 1 and (info.dims is None or not isinstance(info.dims[axis], int))
                for axis, size in enumerate(shape)
            )
            for info, shape in zip(self._graph.inputs, shapes.values(), strict=True)
        )
        opened = zip(form, shapes.values(), strict=True)
        return form, tuple(
            size for axes, shape in opened for size, is_opened in zip(shape, axes, strict=True) if is_opened
        )

    def _open(self, shapes: Mapping[str, Shape], form: Form) -> _Variant | None:
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
        return _Variant(form, lowered, OpenProgram(lowered.program, trace))


class _Variant(NamedTuple):
    """A program with open sizes, which are opened, and what else is known of it."""

    form: Form
    lowered: Lowered
    program: OpenProgram

    def fix(self, form: Form, sizes: tuple[int, ...]) -> Lowered | None:
        """The program for given sizes; ``None`` where it is not right for them."""
        found = self.program.fix(sizes) if form == self.form else None
        return None if found is None else replace(self.lowered, program=found, origin=OpenOrigin(self.program, sizes))


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
