"""The walk in tiers: each node of a graph is folded, compiled into a stretch, or left to the host.

A node joins the earliest stretch behind what it reads, so that there are as many stretches as compiled nodes and steps
on the host alternate on the longest way through the graph, and no more. Values whose shapes depend on values put off
every node behind them: those are the rest, which is walked once more when the shapes are known.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from omniconv.errors import LimitError, ModelError, OmniconvError, UnsupportedError
from omniconv.graph.builder import Builder
from omniconv.graph.expand import CONTROL, Expander, Scan, check_branch, check_loop
from omniconv.graph.fold_constants import fold_node
from omniconv.graph.host_checks import BOUNDS
from omniconv.graph.host_operator import HostOperator
from omniconv.graph.inference import infer, make_type, read_shape
from omniconv.graph.lower import place, undo
from omniconv.graph.memory import Budget
from omniconv.graph.nodes import AnyArray, Node, Subgraph
from omniconv.graph.operands import Ref
from omniconv.graph.registry import find_operator
from omniconv.graph.schedule import (
    Body,
    BranchStep,
    Computed,
    HostRef,
    HostStep,
    LoopStep,
    Prepared,
    RestStep,
    Schedule,
    Step,
    Stretch,
    Unknown,
    Value,
)
from omniconv.graph.schema import check_node
from omniconv.graph.scope import collect_names
from omniconv.graph.tensors import DTYPES, name_dtype
from omniconv.program.element import Element
from omniconv.program.passes import run_passes
from omniconv.program.program import Program

DECIDES_SHAPE: Final = {
    "AffineGrid": (1,), "BlackmanWindow": (0,), "CenterCropPad": (1,), "Col2Im": (1, 2), "ConstantOfShape": (0,),
    "CumProd": (1,), "CumSum": (1,), "DFT": (1, 2), "Dropout": (2,), "Expand": (1,), "HammingWindow": (0,),
    "HannWindow": (0,), "MaxUnpool": (2,), "MelWeightMatrix": (0, 1, 2, 3, 4), "OneHot": (1,), "Pad": (1, 3),
    "Range": (0, 1, 2), "Reshape": (1,), "Resize": (1, 2, 3), "STFT": (1, 3), "Split": (1,), "Squeeze": (1,),
    "Tile": (1, 2), "TopK": (1,), "Unsqueeze": (1,), "Upsample": (1,),
    **dict.fromkeys(
        "ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum "
        "ReduceSumSquare".split(), (1,)
    ),
}  # fmt: skip
"""Inputs whose values decide the shape of a result, or the code: a computed one is waited for."""
KEEPS_SHAPE: Final = frozenset({"GroupNormalization", "MeanVarianceNormalization"})
"""Operators whose result is like their first input, which ONNX has no rule for."""
MOST_DECIDING: Final = 64
"""Elements of such an input; a longer one is refused."""
MOST_RESTS: Final = 64
"""Rests behind one another."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What every walk of a model has in common: the memory limit [bytes], what is computed with, the model's floats."""

    limit: int
    element: Element
    given: Element


def make_schedule(body: Body, entering: Mapping[str, HostRef | AnyArray], settings: Settings) -> Schedule:
    """Walk the nodes of a body.

    Args:
        body: the nodes.
        entering: for each input of the body its type and shape; an array for one that enters as a constant.
        settings: see there.

    Raises:
        OmniconvError: whatever a node breaks, with the node's place in ``at``.
    """
    return _Walk(body, entering, settings).run()


class _Walk:
    """One walk. ``home`` says for each value behind which stretch it is known; -1 for before the first."""

    def __init__(self, body: Body, entering: Mapping[str, HostRef | AnyArray], settings: Settings) -> None:
        self.body, self.settings = body, settings
        self.budget = Budget(settings.limit, sum(array.nbytes for array in body.constants.values()))
        self.values: dict[str, Value] = {**body.constants, **entering}
        self.entering = tuple(item for item in entering.values() if isinstance(item, HostRef))
        for item in self.entering:
            self.budget.check(item.shape, max(item.dtype.itemsize, settings.element.bytes), f"input {item.name[:80]!r}")
        self.hosted: dict[str, HostRef] = {item.name: item for item in self.entering}
        self.home: dict[str, int] = dict.fromkeys(self.hosted, -1)
        names = {*self.values, *body.outputs, *collect_names(body.nodes)}
        self.taken = names
        self.expander = Expander(names)
        self.programs: list[Program] = []
        self.nodes_in: list[int] = []
        self.host: list[tuple[int, HostStep | BranchStep | LoopStep]] = []
        self.deferred: list[Node] = []
        self.by_value: set[str] = set()
        self.folded = 0

    def run(self) -> Schedule:
        queue = deque(self.body.nodes)
        while queue:
            node = queue.popleft()
            try:
                found = self._visit(node)
            except OmniconvError as error:
                raise place(error, node) from error
            if found is not None:
                queue.extendleft(reversed(found))
        return self._finish()

    # -- one node

    def _visit(self, node: Node) -> list[Node] | None:
        """Do something with a node; or return the nodes that stand for it."""
        reads = [self.values[name] for name in node.reads]
        deciding = [name for name in self._find_deciding(node) if not isinstance(self.values[name], np.ndarray)]
        if deciding or any(isinstance(item, Unknown) for item in reads):
            self._defer(node, deciding)
            return None
        expanded = self.expander.expand(node, self.values)
        if expanded is not None:
            nodes, constants = expanded
            self.values.update(constants)
            return nodes
        operands = [self._find(name) for name in node.inputs]
        if not node.domain and node.op == "Identity" and len(operands) == 1 and operands[0] is not None:
            self.values[node.outputs[0]] = operands[0]
            return None
        if not node.domain and node.op in CONTROL:
            self._control(node, operands)
            return None
        try:
            self._compile(node, operands)
        except UnsupportedError as error:
            self._leave(node, operands, error)
        return None

    def _find(self, name: str) -> Computed | AnyArray | None:
        value = self.values[name] if name else None
        assert not isinstance(value, Unknown)
        return value

    def _find_deciding(self, node: Node) -> list[str]:
        """The inputs of a node that decide shapes."""
        positions = DECIDES_SHAPE.get(node.op, ()) if not node.domain else ()
        return [node.inputs[index] for index in positions if index < len(node.inputs) and node.inputs[index]]

    def _defer(self, node: Node, deciding: Sequence[str]) -> None:
        """Put a node off until the shapes are known."""
        for name in deciding:
            value = self.values[name]
            if isinstance(value, Ref | HostRef):
                if int(np.prod(value.shape, dtype=np.float64)) > MOST_DECIDING:
                    raise LimitError(
                        f"a computed value of shape {value.shape} decides a shape",
                        need=f"at most {MOST_DECIDING} elements",
                    )
                self.by_value.add(name)
        self.deferred.append(node)
        self.values.update({name: Unknown(name, None) for name in node.outputs if name})

    def _compile(self, node: Node, operands: Sequence[Computed | AnyArray | None]) -> None:
        """Fold a node, or append it to a stretch.

        Raises:
            UnsupportedError: it has to be left to the host; nothing has been changed then.
        """
        operator, given = find_operator(node), self.settings.given
        of_shapes = node.op in ("Shape", "Size")
        wanted: list[Ref | AnyArray | None] = []
        phase = 0
        for item in operands:
            if isinstance(item, HostRef):
                if not of_shapes and (item.dtype != given.dtype or 0 in item.shape):
                    what = f"{item.dtype} values" if item.dtype != given.dtype else f"values of shape {item.shape}"
                    raise UnsupportedError(f"{node.op} of {what}", need=f"{given} values with no empty axis")
                phase = max(phase, self.home[item.name] + 1)
                wanted.append(Ref(item.name, item.shape))
            else:
                phase = max(phase, self.home[item.name] if isinstance(item, Ref) else 0)
                wanted.append(item)
        inputs = check_node(node, wanted, given)
        constant = not any(isinstance(item, Ref) for item in inputs)
        results: Any
        if constant and operator.fold is not None:
            arrays = [item for item in inputs if not isinstance(item, Ref)]
            results = fold_node(operator.fold, node, arrays, self.budget)
        elif operator.lower is None:
            raise UnsupportedError(f"{node.op} of a value computed while the model runs", need="constant inputs")
        else:
            results = self._lower(operator.lower, node, inputs, 0 if of_shapes else phase)
        results = results if isinstance(results, Sequence) else (results,)
        computed = False
        for name, result in zip(node.outputs, results, strict=False):
            if name:
                self.values[name] = self.hosted.get(result.name, result) if isinstance(result, Ref) else result
                computed = computed or isinstance(result, Ref)
        if computed:
            self.nodes_in[phase] += 1
        else:
            self.folded += 1

    def _lower(self, lower: Any, node: Node, inputs: Sequence[Any], phase: int) -> Any:
        while len(self.programs) <= phase:
            self.programs.append(Program((), element=self.settings.element))
            self.nodes_in.append(0)
        program = self.programs[phase]
        for item in inputs:
            if isinstance(item, Ref) and item.name not in program.shapes:
                program.inputs += (item.name,)
                program.shapes[item.name] = item.shape
        done = len(program.steps)
        try:
            results = lower(node, inputs, Builder(program, self.budget, self.taken, node, self.settings.given))
        except UnsupportedError:
            undo(program, done)
            raise
        for step in program.steps[done:]:
            self.home[step.y] = phase
        return results

    def _leave(self, node: Node, operands: Sequence[Computed | AnyArray | None], why: UnsupportedError) -> None:
        """Leave a node to the host, or fold it there where it reads constants only."""
        given = self.settings.given.dtype
        dtypes = [None if item is None else item.dtype if not isinstance(item, Ref) else given for item in operands]
        try:
            operator = HostOperator(node, dtypes)
        except UnsupportedError as error:
            raise UnsupportedError(
                f"{why.problem}, and {error.problem}", need=why.need, fix=why.fix, at=node.place
            ) from None
        padded = check_node(node, operands, self.settings.given)
        types = {
            name: make_type(dtype, item.shape)
            for name, item, dtype in zip(node.inputs, operands, dtypes, strict=True)
            if item is not None
        }
        data = {name: item for name, item in zip(node.inputs, operands, strict=True) if isinstance(item, np.ndarray)}
        kinds = dict(infer(node, types, data))
        if node.op in KEEPS_SHAPE:
            kinds[node.outputs[0]] = types[node.inputs[0]]
        results = [self._expect(node, name, kinds.get(name)) if name else None for name in node.outputs]
        if all(item is None or isinstance(item, np.ndarray) for item in padded):
            arrays = [item for item in padded if not isinstance(item, Ref | HostRef)]
            expected = [item.shape if isinstance(item, HostRef) else None for item in results]
            for name, array in zip(node.outputs, operator.run(arrays, self.settings.limit, expected), strict=True):
                self.budget.take(array.shape, array.dtype.itemsize, "a constant")
                if name:
                    self.values[name] = array
            self.folded += 1
            return
        if any(isinstance(item, Unknown) for item in results) and node.op not in BOUNDS:
            raise UnsupportedError(
                f"{node.op} on the host: the size of its result is not known before it runs", need="known sizes"
            )
        self._host(HostStep(node, operator, tuple(padded), tuple(results), why.problem), operands)

    def _expect(self, node: Node, name: str, kind: Any) -> HostRef | Unknown:
        """What is known of a result on the host."""
        number = kind.tensor_type.elem_type if kind is not None and kind.HasField("tensor_type") else 0
        if (kind is not None and not kind.HasField("tensor_type")) or (number and number not in DTYPES):
            what = name_dtype(number) if number else "no tensor"
            raise UnsupportedError(f"the result of {node.op} is {what}", need="tensors of " + _known_types())
        shape = read_shape(kind)
        if not number or shape is None:
            return Unknown(name, DTYPES.get(number))
        self.budget.check(shape, max(DTYPES[number].itemsize, self.settings.element.bytes), "the result")
        return HostRef(name, DTYPES[number], shape)

    def _host(
        self, step: HostStep | BranchStep | LoopStep, operands: Sequence[Any], captured: Sequence[str] = ()
    ) -> None:
        """Append a step on the host behind what it reads."""
        names = [item.name for item in operands if isinstance(item, Ref | HostRef)]
        phase = max((self.home[name] for name in [*names, *captured]), default=-1)
        self.host.append((phase, step))
        for name, result in zip(step.node.outputs, step.results, strict=True):
            if name and result is not None:
                self.values[name] = result
                self.home[name] = phase
                if isinstance(result, HostRef):
                    self.hosted[name] = result

    # -- branches and loops on the host

    def _control(self, node: Node, operands: Sequence[Computed | AnyArray | None]) -> None:
        check_node(node, operands, self.settings.given)
        if node.op == "If":
            self._branch(node, operands)
        elif node.op == "Loop":
            self._loop(node, operands)
        else:
            self._scan(node, operands)

    def _branch(self, node: Node, operands: Sequence[Computed | AnyArray | None]) -> None:
        condition = operands[0]
        if isinstance(condition, Ref) or condition is None or np.prod(condition.shape) != 1 or condition.dtype != bool:
            raise ModelError("the condition of an If is no single bool", need="one bool")
        if not isinstance(condition, HostRef):
            raise LimitError("an If with a known condition is too large to be put in its place", need="fewer nodes")
        prepared = [self._prepare(node, check_branch(node, key), {}, key) for key in ("then_branch", "else_branch")]
        sides = [_describe_outputs(item, self.settings) for item in prepared]
        results = [
            _meet(name, one, other) if name else None for name, one, other in zip(node.outputs, *sides, strict=True)
        ]
        step = BranchStep(node, condition.name, prepared[0], prepared[1], tuple(results), "its condition is computed")
        self._host(step, operands, step.reads)

    def _loop(self, node: Node, operands: Sequence[Computed | AnyArray | None]) -> None:
        graph, carried = check_loop(node)
        names = [info.name for info in graph.inputs]
        state = [_as_host(item, self.settings) for item in operands[2:]]
        entering = [HostRef(names[0], np.dtype(np.int64), ()), HostRef(names[1], np.dtype(bool), ())]
        entering += [replace(item, name=name) for item, name in zip(state, names[2:], strict=True)]
        prepared = self._prepare(node, graph, dict(zip(names, entering, strict=True)), "body")
        found = _describe_outputs(prepared, self.settings)[1:]
        results: list[HostRef | Unknown | None] = []
        same = all(
            isinstance(item, HostRef) and (item.dtype, item.shape) == (given.dtype, given.shape)
            for item, given in zip(found[:carried], state, strict=True)
        )
        for index, name in enumerate(node.outputs):
            if index < carried and same:
                results.append(HostRef(name, state[index].dtype, state[index].shape) if name else None)
            else:
                dtype = state[index].dtype if index < carried else found[index].dtype
                results.append(Unknown(name, dtype) if name else None)
        why = "its number of steps is computed or large"
        step = LoopStep(node, prepared, tuple(names), tuple(operands), tuple(results), why)
        self._host(step, operands, step.reads)

    def _scan(self, node: Node, operands: Sequence[Computed | AnyArray | None]) -> None:
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
        for index, (name, item) in enumerate(
            zip(node.outputs, _describe_outputs(prepared, self.settings), strict=True)
        ):
            if not name:
                results.append(None)
            elif not isinstance(item, HostRef):
                results.append(Unknown(name, item.dtype))
            elif index < scan.states:
                results.append(replace(item, name=name))
            else:
                rank = len(item.shape) + 1
                axis = scan.output_axes[index - scan.states] % rank
                shape = (*item.shape[:axis], steps, *item.shape[axis:])
                self.budget.check(shape, max(item.dtype.itemsize, self.settings.element.bytes), "the result")
                results.append(HostRef(name, item.dtype, shape))
        step = LoopStep(node, prepared, tuple(names), tuple(operands), tuple(results), "it has many steps")
        self._host(step, operands, step.reads)

    def _prepare(self, node: Node, graph: Subgraph, own: Mapping[str, HostRef], key: str) -> Prepared:
        """A graph in an attribute as a body, with its schedule for values of these types."""
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
            graph.nodes, inputs, outputs, constants, sources, place=f"{key} of {node.place}", depth=self.body.depth
        )
        schedule = make_schedule(body, entering, self.settings)
        return Prepared(
            body, {item.name: item.shape for item in entering.values() if isinstance(item, HostRef)}, schedule
        )

    # -- the end

    def _finish(self) -> Schedule:
        outputs = {name: self.values[name] for name in self.body.outputs}
        order: list[Step] = []
        for phase in range(-1, max([len(self.programs) - 1, *(at for at, _ in self.host)], default=-1) + 1):
            if 0 <= phase < len(self.programs):
                order.append(Stretch(self.programs[phase], self.nodes_in[phase]))
            order += [step for at, step in self.host if at == phase]
        rest = self._make_rest()
        if rest is not None:
            order.append(rest)
        needed = {item.name for item in outputs.values() if not isinstance(item, np.ndarray)}
        kept: list[Step] = []
        for step in reversed(order):
            if isinstance(step, Stretch):
                program = _narrow(step.program, needed)
                if program is None:
                    continue
                step = Stretch(run_passes(program), step.nodes)
            elif not isinstance(step, RestStep) and needed.isdisjoint(
                item.name for item in step.results if item is not None
            ):
                continue
            needed.update(step.reads)
            kept.append(step)
        return Schedule(self.entering, tuple(reversed(kept)), outputs, self.folded)

    def _make_rest(self) -> RestStep | None:
        """The nodes that were put off, as a body."""
        if not self.deferred:
            return None
        if self.body.depth >= MOST_RESTS:
            raise LimitError(
                f"shapes depend on values {self.body.depth + 1} times in a row", need=f"at most {MOST_RESTS} times",
                at=self.deferred[0].place,
            )  # fmt: skip
        produced = {name for node in self.deferred for name in node.outputs}
        reads = dict.fromkeys(name for node in self.deferred for name in node.reads if name not in produced)
        constants: dict[str, AnyArray] = {}
        inputs: dict[str, np.dtype[Any] | None] = {}
        sources: dict[str, str] = {}
        for name in reads:
            value = self.values[name]
            if isinstance(value, np.ndarray):
                constants[name] = value
            else:
                inputs[name] = self.settings.given.dtype if isinstance(value, Ref) else value.dtype
                sources[name] = value.name
        outputs = tuple(name for name in dict.fromkeys(self.body.outputs) if name in produced)
        alive = set(outputs)
        if not alive:
            return None
        return RestStep(
            Body(
                tuple(self.deferred), inputs, outputs, constants, sources, frozenset(self.by_value & reads.keys()),
                self.body.place, self.body.depth + 1,
            )
        )  # fmt: skip


def _narrow(program: Program, needed: set[str]) -> Program | None:
    """The part of a program that computes what is needed; ``None`` where that is nothing."""
    outputs = tuple(step.y for step in program.steps if step.y in needed)
    if not outputs:
        return None
    wanted, kept = set(outputs), []
    for index in range(len(program.steps) - 1, -1, -1):
        step = program.steps[index]
        if step.y in wanted:
            wanted.update(step.reads)
            kept.append(index)
    inputs = tuple(name for name in program.inputs if name in wanted)
    new = Program(inputs, outputs, {name: program.shapes[name] for name in inputs}, element=program.element)
    for index in reversed(kept):
        step = program.steps[index]
        new.add(step, program.shapes[step.y], program.labels[index], checked=True)
    return new


def _as_host(value: Any, settings: Settings) -> HostRef:
    """Type and shape of a value."""
    if isinstance(value, HostRef):
        return value
    if isinstance(value, Ref):
        return HostRef(value.name, settings.given.dtype, value.shape)
    if value is None:
        raise ModelError("an input is left out", need="each input")
    return HostRef("", value.dtype, tuple(value.shape))


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


def _known_types() -> str:
    return ", ".join(name_dtype(number) for number in DTYPES)
