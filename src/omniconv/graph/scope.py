"""Graphs in attributes, copied into the graph around them under names that nobody else has."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from omniconv.graph.nodes import AnyArray, Node, Subgraph, shorten
from omniconv.records import dataclass


@dataclass(frozen=True, slots=True)
class Inlined:
    """A copy of a graph: its nodes, its constants, and the names of its outputs there."""

    nodes: tuple[Node, ...]
    constants: Mapping[str, AnyArray]
    outputs: tuple[str, ...]


def collect_names(nodes: Iterable[Node]) -> set[str]:
    """Every name that nodes, and graphs inside them, give to a value or read."""
    found: set[str] = set()
    for node in nodes:
        found.update(node.inputs, node.outputs)
        for item in node.attributes.values():
            if isinstance(item, Subgraph):
                found.update(item.constants, (info.name for info in (*item.inputs, *item.outputs)))
                found |= collect_names(item.nodes)
    return found


def make_name(wanted: str, taken: set[str]) -> str:
    """A name that is not taken, made from ``wanted``; it is taken then."""
    name = wanted = shorten(wanted)
    number = len(taken)
    while name in taken:
        name, number = f"{wanted}.{number}", number + 1
    taken.add(name)
    return name


def inline(graph: Subgraph, arguments: Sequence[str], prefix: str, taken: set[str], version: int) -> Inlined:
    """Copy a graph.

    Args:
        graph: what is copied.
        arguments: for each of its inputs the value outside.
        prefix: for the names of its values and nodes.
        taken: names that are in use, also inside graphs; those of the copy are added.
        version: of ONNX's operators.
    """
    own = [*(info.name for info in graph.inputs), *graph.constants]
    own += [name for node in graph.nodes for name in node.outputs if name]
    names = {name: make_name(f"{prefix}/{name}", taken) for name in own}
    nodes = [alias(given, names[info.name], version) for info, given in zip(graph.inputs, arguments, strict=True)] + [
        _rename(node, names, prefix) for node in graph.nodes
    ]
    constants = {names[name]: array for name, array in graph.constants.items()}
    return Inlined(tuple(nodes), constants, tuple(names.get(info.name, info.name) for info in graph.outputs))


def alias(x: str, y: str, version: int) -> Node:
    """A node that gives the value ``x`` the further name ``y``."""
    return Node("Identity", "", y, (x,), (y,), {}, version)


def stack(names: Sequence[str], axis: int, output: str, prefix: str, taken: set[str], version: int) -> Inlined:
    """Nodes that join values of one shape along a new axis.

    Args:
        names: the values.
        axis: of the result.
        output: its name.
        prefix, taken, version: as for :func:`inline`.
    """
    constants: dict[str, AnyArray] = {}
    if version >= 13:  # axes are an input
        constants[make_name(f"{prefix}/axes", taken)] = np.array([axis], np.int64)
    attributes = {} if constants else {"axes": (axis,)}
    rows = [make_name(f"{prefix}/Unsqueeze", taken) for _ in names]
    nodes = [
        Node("Unsqueeze", "", row, (name, *constants), (row,), attributes, version)
        for name, row in zip(names, rows, strict=True)
    ]
    joined = Node("Concat", "", output, tuple(rows), (output,), {"axis": axis}, version)
    return Inlined((*nodes, joined), constants, (output,))


def _rename(node: Node, names: Mapping[str, str], prefix: str = "") -> Node:
    attributes = {
        key: _rename_captured(item, names) if isinstance(item, Subgraph) else item
        for key, item in node.attributes.items()
    }
    return Node(
        node.op,
        node.domain,
        f"{prefix}/{node.name}" if prefix and node.name else node.name,
        tuple(names.get(name, name) for name in node.inputs),
        tuple(names.get(name, name) for name in node.outputs),
        attributes,
        node.version,
    )


def _rename_captured(graph: Subgraph, names: Mapping[str, str]) -> Subgraph:
    """The graph with other names for what it takes from outside. Its own values keep theirs, which nobody else has."""
    inner = {name: names[name] for name in graph.captured if name in names}
    if not inner:
        return graph
    outputs = tuple(replace(info, name=inner.get(info.name, info.name)) for info in graph.outputs)
    nodes = tuple(_rename(node, inner) for node in graph.nodes)
    return replace(
        graph, outputs=outputs, nodes=nodes, captured=tuple(inner.get(name, name) for name in graph.captured)
    )
