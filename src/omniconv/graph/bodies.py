"""Branches and bodies that stay on the host: their schedules, and what is known of their results."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from omniconv.errors import LimitError, ModelError, OmniconvError
from omniconv.graph.expand import Scan, check_branch, check_loop
from omniconv.graph.memory import Budget
from omniconv.graph.nodes import AnyArray, Node, Subgraph
from omniconv.graph.operands import Ref, normalise_axis
from omniconv.graph.schedule import (
    Body,
    BranchStep,
    Computed,
    HostRef,
    LoopStep,
    Prepared,
    Schedule,
    Settings,
    Unknown,
    Value,
)
from omniconv.records import dataclass
from omniconv.spec import Shape


@dataclass(frozen=True, slots=True)
class Bodies:
    """Makes the steps of a walk that have graphs in their attributes.

    Attributes:
        values: what the walk knows.
        settings: of the walk.
        depth: rests around the walk.
        changing: whether the shapes of the walk are others each time.
        schedule: walks a body.
    """

    values: Mapping[str, Value]
    settings: Settings
    depth: int
    changing: bool
    schedule: Callable[[Body, Mapping[str, HostRef | AnyArray]], Schedule]

    def make(self, node: Node, operands: Sequence[Computed | AnyArray | None]) -> BranchStep | LoopStep:
        """The step for a node.

        Raises:
            ModelError: graphs that do not fit their node.
            OmniconvError: whatever a node inside breaks.
        """
        works: dict[str, Callable[..., BranchStep | LoopStep]] = {
            "If": self._branch,
            "Loop": self._loop,
            "Scan": self._scan,
        }
        return works[node.op](node, operands)

    def _branch(self, node: Node, operands: Sequence[Computed | AnyArray | None]) -> BranchStep:
        """The step for an If whose condition is computed."""
        condition = operands[0]
        if (
            condition is None
            or np.prod(condition.shape) != 1
            or self.settings.dtype_of(condition) != np.dtype(np.bool_)
        ):
            raise ModelError("the condition of an If is no single bool", need="one bool")
        if isinstance(condition, np.ndarray):
            raise LimitError("an If with a known condition is too large to be put in its place", need="fewer nodes")
        then, otherwise = (self._prepare_branch(node, key) for key in ("then_branch", "else_branch"))
        sides = [_describe_outputs(item, self.settings) for item in (then, otherwise) if item.refusal is None]
        if not sides:
            assert then.refusal is not None
            raise then.refusal
        results = [
            _meet(name, one, other) if name else None
            for name, one, other in zip(node.outputs, sides[0], sides[-1], strict=True)
        ]
        return BranchStep(node, condition.name, then, otherwise, tuple(results), "its condition is computed")

    def _prepare_branch(self, node: Node, key: str) -> Prepared:
        """A branch with its schedule, or with the reason for which it has none and is refused when it is taken."""
        body, entering = self._make_body(node, check_branch(node, key), {}, key)
        shapes = _shapes_of(entering)
        try:
            return Prepared(body, shapes, self.schedule(body, entering))
        except OmniconvError as error:
            return Prepared(body, shapes, None, locate(error, body))

    def _loop(self, node: Node, operands: Sequence[Computed | AnyArray | None]) -> LoopStep:
        """The step for a Loop that is not unrolled."""
        graph, carried = check_loop(node)
        names = [info.name for info in graph.inputs]
        state = [_as_host(item, self.settings) for item in operands[2:]]
        entering = [HostRef(names[0], np.dtype(np.int64), ()), HostRef(names[1], np.dtype(bool), ())]
        entering += [replace(item, name=name) for item, name in zip(state, names[2:], strict=True)]
        own = dict(zip(names, entering, strict=True))
        prepared = self._prepare(node, graph, own, "body")
        found = _describe_outputs(prepared, self.settings)[1:]
        results: list[HostRef | Unknown | None] = []
        same = _agree(found[:carried], state)
        if not same and not self._settles(node, graph, own, found[:carried]):
            prepared = self._prepare(node, graph, own, "body", changing=True)
        for index, name in enumerate(node.outputs):
            if index < carried and same:
                results.append(HostRef(name, state[index].dtype, state[index].shape) if name else None)
            else:
                dtype = state[index].dtype if index < carried else found[index].dtype
                results.append(Unknown(name, dtype) if name else None)
        why = "its number of steps is computed or large"
        return LoopStep(node, prepared, tuple(names), tuple(operands), tuple(results), why)

    def _scan(self, node: Node, operands: Sequence[Computed | AnyArray | None]) -> LoopStep:
        """The step for a Scan that is not unrolled."""
        scan = Scan.of(node)
        names = [info.name for info in scan.graph.inputs]
        given = [_as_host(item, self.settings) for item in operands]
        steps = scan.count([item.shape for item in given[scan.states :]])
        axes = scan.input_axes([len(item.shape) for item in given[scan.states :]])
        entering = [replace(item, name=name) for item, name in zip(given[: scan.states], names, strict=False)]
        for item, axis, name in zip(given[scan.states :], axes, names[scan.states :], strict=True):
            entering.append(HostRef(name, item.dtype, (*item.shape[:axis], *item.shape[axis + 1 :])))
        prepared = self._prepare(node, scan.graph, dict(zip(names, entering, strict=True)), "body")
        results: list[HostRef | Unknown | None] = []
        found = _describe_outputs(prepared, self.settings)
        for index, (name, made) in enumerate(zip(node.outputs, found, strict=True)):
            if not name:
                results.append(None)
            elif not isinstance(made, HostRef):
                results.append(Unknown(name, made.dtype))
            elif index < scan.states:
                if (made.dtype, made.shape) != (given[index].dtype, given[index].shape):
                    raise ModelError(
                        f"a step makes {made.dtype} {made.shape} of {given[index].dtype} {given[index].shape}",
                        need="a state of one type and shape",
                    )
                results.append(replace(made, name=name))
            else:
                axis = normalise_axis(scan.output_axes[index - scan.states], len(made.shape) + 1, "scan_output_axes")
                shape = (*made.shape[:axis], steps, *made.shape[axis:])
                Budget(self.settings.limit).check(
                    shape, max(made.dtype.itemsize, self.settings.element.bytes), "the result"
                )
                results.append(HostRef(name, made.dtype, shape))
        return LoopStep(node, prepared, tuple(names), tuple(operands), tuple(results), "it has many steps")

    def _settles(
        self, node: Node, graph: Subgraph, own: Mapping[str, HostRef], made: Sequence[HostRef | Unknown]
    ) -> bool:
        """Whether the second step of a Loop makes what the first one made, so that only the first is different."""
        state = [item for item in made if isinstance(item, HostRef)]
        if len(state) < len(made):
            return False
        names = list(own)[2:]
        again = {**own, **{name: replace(item, name=name) for name, item in zip(names, state, strict=True)}}
        found = _describe_outputs(self._prepare(node, graph, again, "body"), self.settings)[1:]
        return _agree(found[: len(state)], state)

    def _prepare(
        self, node: Node, graph: Subgraph, own: Mapping[str, HostRef], key: str, *, changing: bool = False
    ) -> Prepared:
        """A graph in an attribute as a body, with its schedule for values of these types."""
        body, entering = self._make_body(node, graph, own, key, changing=changing)
        return Prepared(body, _shapes_of(entering), self.schedule(body, entering))

    def _make_body(
        self, node: Node, graph: Subgraph, own: Mapping[str, HostRef], key: str, *, changing: bool = False
    ) -> tuple[Body, Mapping[str, HostRef | AnyArray]]:
        """A graph in an attribute as a body, and what enters it."""
        inputs: dict[str, np.dtype[Any] | None] = {name: item.dtype for name, item in own.items()}
        entering: dict[str, HostRef | AnyArray] = dict(own)
        constants, sources = dict(graph.constants), {}
        for name in graph.captured:
            value = self.values[name]
            if isinstance(value, np.ndarray):
                constants[name] = value
            else:
                typed = _as_host(value, self.settings)
                inputs[name], sources[name] = typed.dtype, typed.name
                entering[name] = replace(typed, name=name)
        outputs = tuple(info.name for info in graph.outputs)
        body = Body(
            graph.nodes,
            inputs,
            outputs,
            constants,
            sources,
            place=f"{key} of {node.place}",
            depth=self.depth,
            changing=changing or self.changing,
        )
        return body, entering


def locate(error: OmniconvError, body: Body) -> OmniconvError:
    """The error with the place of the body in which it was found."""
    return error.but(at=f"{error.at}, in the {body.place}" if error.at else body.place)


def _shapes_of(entering: Mapping[str, HostRef | AnyArray]) -> dict[str, Shape]:
    """The shapes of what enters a body and is not known."""
    return {item.name: item.shape for item in entering.values() if isinstance(item, HostRef)}


def _agree(made: Sequence[HostRef | Unknown], given: Sequence[HostRef]) -> bool:
    """Whether a step makes values of the types and shapes that it is given."""
    return all(
        isinstance(item, HostRef) and (item.dtype, item.shape) == (old.dtype, old.shape)
        for item, old in zip(made, given, strict=True)
    )


def _as_host(value: Any, settings: Settings) -> HostRef:
    """Type and shape of a value."""
    if isinstance(value, HostRef):
        return value
    if value is None:
        raise ModelError("an input is left out", need="each input")
    dtype = settings.dtype_of(value)
    assert dtype is not None, "a value of a known shape has a type"
    return HostRef(value.name if isinstance(value, Ref) else "", dtype, tuple(value.shape))


def _describe_outputs(prepared: Prepared, settings: Settings) -> list[HostRef | Unknown]:
    """What is known of the results of a body."""
    assert prepared.schedule is not None
    values = [prepared.schedule.outputs[name] for name in prepared.body.outputs]
    return [item if isinstance(item, Unknown) else _as_host(item, settings) for item in values]


def _meet(name: str, one: HostRef | Unknown, other: HostRef | Unknown) -> HostRef | Unknown:
    """What is known of a value that is one or the other.

    Raises:
        ModelError: values of different types.
    """
    if one.dtype is not None and other.dtype is not None and one.dtype != other.dtype:
        raise ModelError(f"branches produce {one.dtype} and {other.dtype}", need="equal types")
    if isinstance(one, HostRef) and isinstance(other, HostRef) and one.shape == other.shape:
        return HostRef(name, one.dtype, one.shape)
    return Unknown(name, one.dtype or other.dtype)
