"""Pass: an If whose condition is known becomes its branch, and a short Loop or Scan its body, once for every step.

It must not fire on: a condition or a number of steps that is computed, a body that decides by itself when to stop, more
than :data:`MOST_STEPS` steps, and what would make more than :data:`MOST_NODES` nodes of one graph.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from typing import Any, Final

import numpy as np

from omniconv.errors import ModelError, UnsupportedError
from omniconv.graph.nodes import AnyArray, Node, Subgraph
from omniconv.graph.operands import normalise_axis
from omniconv.graph.scope import alias, inline, make_name, stack
from omniconv.records import dataclass

CONTROL: Final = ("If", "Loop", "Scan")
"""Operators with graphs in their attributes."""
MOST_STEPS: Final = 64
MOST_NODES: Final = 2**12


@dataclass(slots=True)
class Expander:
    """Replaces nodes by the graphs in their attributes.

    Attributes:
        taken: names in use; see :func:`omniconv.graph.scope.collect_names`.
        left: nodes that may still be made.
    """

    taken: set[str]
    left: int = MOST_NODES
    _found: list[Node] = field(default_factory=list)
    _constants: dict[str, AnyArray] = field(default_factory=dict)

    def expand(self, node: Node, values: Mapping[str, Any]) -> tuple[list[Node], dict[str, AnyArray]] | None:
        """The nodes in place of a node, and constants that they read; ``None`` where it stays.

        Args:
            node: the node.
            values: what is known: arrays are constants, everything else has a ``shape`` or none.

        Raises:
            ModelError: graphs whose inputs and outputs do not fit the node.
        """
        if node.domain or not any(isinstance(item, Subgraph) for item in node.attributes.values()):
            return None
        if node.op not in CONTROL:
            return None
        self._found, self._constants = [], {}
        works: Callable[[Node, Mapping[str, Any]], bool] = {
            "If": self._branch,
            "Loop": self._loop,
            "Scan": self._scan,
        }[node.op]
        return (self._found, self._constants) if works(node, values) else None

    def _branch(self, node: Node, values: Mapping[str, Any]) -> bool:
        condition = values[node.inputs[0]] if node.inputs and node.inputs[0] else None
        if not isinstance(condition, np.ndarray):
            return False
        if condition.size != 1 or condition.dtype != bool:
            raise ModelError(f"the condition is {condition.dtype} of shape {condition.shape}", need="one bool")
        graph = check_branch(node, "then_branch" if condition.reshape(-1)[0] else "else_branch")
        if not self._spend(graph.size + len(node.outputs)):
            return False
        self._name(node, self._copy(graph, (), node), node.outputs)
        return True

    def _loop(self, node: Node, values: Mapping[str, Any]) -> bool:
        graph, carried = check_loop(node)
        trips = as_trips(values[node.inputs[0]] if node.inputs[0] else None)
        begins = values[node.inputs[1]] if node.inputs[1:] and node.inputs[1] else np.array(True)
        if trips is None or not isinstance(begins, np.ndarray) or begins.size != 1:
            return False
        goes_on = find_condition(graph, values)
        if goes_on is None:
            return False
        steps = 0 if not begins.reshape(-1)[0] else trips if goes_on else min(trips, 1)
        scanned = len(node.outputs) - carried
        if steps > MOST_STEPS or (not steps and scanned) or not self._spend(steps * (graph.size + len(graph.inputs))):
            return False
        state = list(node.inputs[2:])
        rows: list[list[str]] = [[] for _ in range(scanned)]
        for step in range(steps):
            given = [self._constant(node, np.array(step, np.int64)), self._constant(node, np.array(True)), *state]
            outputs = self._copy(graph, given, node)
            state = list(outputs[1 : 1 + carried])
            for row, name in zip(rows, outputs[1 + carried :], strict=True):
                row.append(name)
        self._name(node, state, node.outputs[:carried])
        for row, name in zip(rows, node.outputs[carried:], strict=True):
            self._stack(node, row, 0, name)
        return True

    def _scan(self, node: Node, values: Mapping[str, Any]) -> bool:
        scan = Scan.of(node)
        shapes = [getattr(values[name], "shape", None) for name in node.inputs[scan.states :]]
        if any(shape is None for shape in shapes):
            return False
        steps = scan.count([tuple(shape) for shape in shapes if shape is not None])
        if not 0 < steps <= MOST_STEPS:
            return False
        if not self._spend(steps * (scan.graph.size + 2 * len(scan.graph.inputs) + len(node.outputs))):
            return False
        state = list(node.inputs[: scan.states])
        rows: list[list[str]] = [[] for _ in node.outputs[scan.states :]]
        axes = scan.input_axes([len(shape) for shape in shapes if shape is not None])
        for step in range(steps):
            slices = []
            for name, axis, backwards in zip(node.inputs[scan.states :], axes, scan.directions, strict=True):
                index = self._constant(node, np.array(steps - 1 - step if backwards else step, np.int64))
                slices.append(self._node(node, "Gather", (name, index), {"axis": axis}))
            outputs = self._copy(scan.graph, [*state, *slices], node)
            state = list(outputs[: scan.states])
            for row, name in zip(rows, outputs[scan.states :], strict=True):
                row.append(name)
        self._name(node, state, node.outputs[: scan.states])
        for row, name, axis, backwards in zip(
            rows, node.outputs[scan.states :], scan.output_axes, scan.output_directions, strict=True
        ):
            self._stack(node, row[::-1] if backwards else row, axis, name)
        return True

    def _spend(self, nodes: int) -> bool:
        """Whether so many nodes may still be made; they are counted then."""
        if nodes > self.left:
            return False
        self.left -= nodes
        return True

    def _copy(self, graph: Subgraph, arguments: Sequence[str], node: Node) -> tuple[str, ...]:
        copy = inline(graph, arguments, node.label, self.taken, node.version)
        self._found += copy.nodes
        self._constants.update(copy.constants)
        return copy.outputs

    def _constant(self, node: Node, array: AnyArray) -> str:
        name = make_name(f"{node.label}/constant", self.taken)
        self._constants[name] = array
        return name

    def _node(self, node: Node, op: str, inputs: Sequence[str], attributes: Mapping[str, Any]) -> str:
        name = make_name(f"{node.label}/{op}", self.taken)
        self._found.append(Node(op, "", name, tuple(inputs), (name,), dict(attributes), node.version))
        return name

    def _name(self, node: Node, names: Sequence[str], outputs: Sequence[str]) -> None:
        """Give the values that were computed the names of the node's outputs."""
        self._found += [alias(x, y, node.version) for x, y in zip(names, outputs, strict=True) if y]

    def _stack(self, node: Node, names: Sequence[str], axis: int, output: str) -> None:
        """Join values along a new axis."""
        if not output:
            return
        stacked = stack(names, axis, output, node.label, self.taken, node.version)
        self._found += stacked.nodes
        self._constants.update(stacked.constants)


def check_branch(node: Node, key: str) -> Subgraph:
    """A branch of an If.

    Raises:
        ModelError: a branch with inputs, or with another number of outputs than the node.
    """
    graph = node.graph(key)
    if graph.inputs or len(graph.outputs) != len(node.outputs):
        raise ModelError(
            f"{key} has {len(graph.inputs)} inputs and {len(graph.outputs)} outputs",
            need=f"no inputs and {len(node.outputs)} outputs",
            at=node.place,
        )
    return graph


def check_loop(node: Node) -> tuple[Subgraph, int]:
    """The body of a Loop, and how many values it carries from step to step.

    Raises:
        ModelError: inputs and outputs that do not fit the node.
    """
    graph, carried = node.graph("body"), len(node.inputs) - 2
    if carried < 0 or len(graph.inputs) != 2 + carried or len(graph.outputs) != 1 + len(node.outputs):
        raise ModelError(
            f"the body has {len(graph.inputs)} inputs and {len(graph.outputs)} outputs, the node {len(node.inputs)} "
            f"and {len(node.outputs)}",
            need="as many inputs, and one output more: the condition",
            at=node.place,
        )
    if len(node.outputs) < carried or not all(node.inputs[2:]):
        raise ModelError(f"the node carries {carried} values", need="each of them given, and an output for it")
    return graph, carried


def as_trips(value: Any) -> int | None:
    """The number of steps of a Loop, where it is known."""
    if not isinstance(value, np.ndarray):
        return None
    if value.size != 1 or value.dtype != np.int64:
        raise ModelError(f"the trip count is {value.dtype} of shape {value.shape}", need="one int64")
    return max(int(value.reshape(-1)[0]), 0)


def find_condition(graph: Subgraph, values: Mapping[str, Any]) -> bool | None:
    """What the body of a Loop says about going on, where that is the same at every step."""
    producer = {name: node for node in graph.nodes for name in node.outputs if name}
    name = graph.outputs[0].name
    while name in producer and producer[name].op == "Identity" and producer[name].inputs:
        name = producer[name].inputs[0]
    if name == graph.inputs[1].name:
        return True
    known = graph.constants.get(name)
    if name in producer:
        node = producer[name]
        known = node.attributes.get("value") if node.op == "Constant" else None  # type: ignore[assignment]
    elif known is None:
        known = values.get(name)
    return bool(known.reshape(-1)[0]) if isinstance(known, np.ndarray) and known.size == 1 else None


@dataclass(frozen=True, slots=True)
class Scan:
    """What the attributes of a Scan say. Directions are true where an axis is gone through backwards."""

    graph: Subgraph
    states: int
    directions: tuple[bool, ...]
    output_axes: tuple[int, ...]
    output_directions: tuple[bool, ...]
    _axes: tuple[int, ...]

    @classmethod
    def of(cls, node: Node) -> Scan:
        """Read and check a node of opset 9 or newer.

        Raises:
            ModelError: inputs, outputs and attributes that do not fit one another.
        """
        if node.version < 9:
            raise UnsupportedError("Scan of opset 8", need="opset 9 or newer", at=node.place)
        graph, scanned = node.graph("body"), node.integer("num_scan_inputs")
        states = len(node.inputs) - scanned
        made = len(node.outputs) - states
        if (
            scanned < 1
            or states < 0
            or made < 0
            or not all(node.inputs)
            or len(graph.inputs) != len(node.inputs)
            or len(graph.outputs) != len(node.outputs)
        ):
            raise ModelError(
                f"the body has {len(graph.inputs)} inputs and {len(graph.outputs)} outputs, the node "
                f"{len(node.inputs)} and {len(node.outputs)}, num_scan_inputs={scanned}",
                need="equal numbers, and at least one axis to go along",
                at=node.place,
            )

        def read(key: str, count: int) -> tuple[int, ...]:
            found = node.integers(key)
            if found is not None and len(found) != count:
                raise ModelError(f"{key} lists {len(found)} numbers", need=f"{count}", at=node.place)
            return found or (0,) * count

        def backwards(key: str, count: int) -> tuple[bool, ...]:
            return tuple(bool(item) for item in read(key, count))

        return cls(
            graph,
            states,
            backwards("scan_input_directions", scanned),
            read("scan_output_axes", made),
            backwards("scan_output_directions", made),
            read("scan_input_axes", scanned),
        )

    def input_axes(self, ranks: Sequence[int]) -> tuple[int, ...]:
        """The axis of each scanned input, counted from the front."""
        return tuple(
            normalise_axis(axis, rank, "scan_input_axes") for axis, rank in zip(self._axes, ranks, strict=True)
        )

    def count(self, shapes: Sequence[Sequence[int]]) -> int:
        """The number of steps.

        Raises:
            ModelError: axes of different lengths.
        """
        axes = self.input_axes([len(shape) for shape in shapes])
        sizes = {shape[axis] for shape, axis in zip(shapes, axes, strict=True)}
        if len(sizes) != 1:
            raise ModelError(f"the scanned axes have lengths {sorted(sizes)}", need="equal lengths")
        return sizes.pop()
