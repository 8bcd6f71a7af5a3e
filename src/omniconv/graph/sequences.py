"""Pass: sequences of tensors whose elements are known one by one become those tensors.

Exporters write a split as ``SplitToSequence`` and a ``SequenceAt`` for each part, and a loop over a list as
constructions, insertions and a ``ConcatFromSequence``. Nothing of that is computed with: an element is a value with a
name of its own.

It must not fire on: a sequence that is an input, or comes from a branch or a loop; a position that is computed; a split
by a size rather than by sizes, whose number of parts depends on a shape. These nodes stay, and are refused by name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import field
from typing import Any, Final

import numpy as np

from omniconv.errors import ModelError
from omniconv.graph.nodes import AnyArray, Node
from omniconv.graph.scope import alias, collect_names, make_name, stack
from omniconv.records import dataclass

MOST_ELEMENTS: Final = 2**12
"""Of all sequences of a graph together."""
_HANDLED: Final = frozenset(
    "ConcatFromSequence SequenceAt SequenceConstruct SequenceEmpty SequenceErase SequenceInsert SequenceLength "
    "SplitToSequence".split()
)


def write_out_sequences(nodes: list[Node], constants: Mapping[str, AnyArray]) -> tuple[list[Node], dict[str, AnyArray]]:
    """The nodes, with sequences replaced by their elements where these are known, and constants that this takes.

    Nodes whose sequences nobody reads any more are still there.

    Args:
        nodes: in execution order.
        constants: of the graph.

    Raises:
        ModelError: a position outside its sequence, or an empty sequence that is joined.
    """
    if not any(node.op in _HANDLED and not node.domain for node in nodes):
        return nodes, {}
    listing = _Listing(collect_names(nodes) | set(constants), dict(constants))
    return [item for node in nodes for item in listing.rewrite(node)], listing.made


@dataclass(slots=True)
class _Listing:
    """Goes through a graph from its beginning.

    Attributes:
        taken: names in use.
        known: arrays that are known, by name.
        made: constants that were added.
        sequences: names of the elements of every sequence that is known.
        left: elements that may still be listed.
    """

    taken: set[str]
    known: dict[str, AnyArray]
    made: dict[str, AnyArray] = field(default_factory=dict)
    sequences: dict[str, tuple[str, ...]] = field(default_factory=dict)
    left: int = MOST_ELEMENTS

    def rewrite(self, node: Node) -> list[Node]:
        """What takes the place of a node."""
        if node.domain or not node.outputs:
            return [node]
        value = node.attributes.get("value")
        if node.op == "Constant" and isinstance(value, np.ndarray):
            self.known[node.outputs[0]] = value
        elif node.op == "Identity" and node.inputs and node.inputs[0] in self.sequences:
            self.sequences[node.outputs[0]] = self.sequences[node.inputs[0]]
        elif node.op in _HANDLED:
            return self._make(node) if node.op in ("SequenceConstruct", "SequenceEmpty") else self._use(node)
        return [node]

    def _make(self, node: Node) -> list[Node]:
        if all(node.inputs):
            self._keep(node, node.inputs)
        return [node]

    def _use(self, node: Node) -> list[Node]:
        if node.op == "SplitToSequence":
            return self._split(node)
        elements = self.sequences.get(node.inputs[0]) if node.inputs else None
        if elements is None:
            return [node]
        output = node.outputs[0]
        if node.op == "ConcatFromSequence":
            return self._join(node, elements)
        if node.op == "SequenceLength":
            self.made[output] = self.known[output] = np.array(len(elements), np.int64)
            return []
        inserts = node.op == "SequenceInsert"
        position = self._position(node, 2 if inserts else 1, len(elements))
        if position is None or (inserts and not node.inputs[1:2]):
            return [node]
        if node.op == "SequenceAt":
            return [alias(elements[position], output, node.version)]
        rest = elements[position if inserts else position + 1 :]
        self._keep(node, (*elements[:position], *((node.inputs[1],) if inserts else ()), *rest))
        return [node]

    def _keep(self, node: Node, elements: Iterable[str]) -> None:
        found = tuple(elements)
        if len(found) <= self.left:
            self.left -= len(found)
            self.sequences[node.outputs[0]] = found

    def _position(self, node: Node, index: int, length: int) -> int | None:
        """The position that an input says, counted from the front: behind the last one to insert, else the last."""
        inserts = node.op == "SequenceInsert"
        name = node.inputs[index] if len(node.inputs) > index else ""
        given = self.known.get(name) if name else np.array(length if inserts else length - 1)
        if given is None or given.size != 1 or given.dtype.kind != "i":
            return None
        position = int(given.reshape(-1)[0])
        if not -length <= position < length + inserts:
            raise ModelError(
                f"position {position} in a sequence of {length} tensors",
                need=f"-{length} to {length - 1 + inserts}",
                at=node.place,
            )
        return position + length if position < 0 else position

    def _split(self, node: Node) -> list[Node]:
        sizes = self.known.get(node.inputs[1]) if len(node.inputs) > 1 else None
        if sizes is None or sizes.ndim != 1 or not 0 < sizes.size <= self.left:
            return [node]
        names = tuple(make_name(f"{node.label}/{part}", self.taken) for part in range(sizes.size))
        self._keep(node, names)
        attributes: dict[str, Any] = {"axis": node.integer("axis", 0)}
        inputs = node.inputs[:1]
        if node.version < 13:  # sizes were an attribute
            attributes["split"] = tuple(int(size) for size in sizes)
        else:
            inputs = (*inputs, make_name(f"{node.label}/sizes", self.taken))
            self.made[inputs[1]] = sizes.astype(np.int64)
        return [node, Node("Split", "", node.label, inputs, names, attributes, node.version)]

    def _join(self, node: Node, elements: tuple[str, ...]) -> list[Node]:
        if not elements:
            raise ModelError("an empty sequence is joined", need="at least one tensor", at=node.place)
        axis, output = node.integer("axis"), node.outputs[0]
        if not node.integer("new_axis", 0):
            return [Node("Concat", "", node.label, elements, (output,), {"axis": axis}, node.version)]
        stacked = stack(elements, axis, output, node.label, self.taken, node.version)
        self.made.update(stacked.constants)
        return list(stacked.nodes)
