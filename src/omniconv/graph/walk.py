"""The walk in tiers: each node of a graph is folded, compiled into a stretch, or left to the host.

A node joins the earliest stretch behind what it reads, so that there are as many stretches as compiled nodes and steps
on the host alternate on the longest way through the graph, and no more. Values whose shapes depend on values put off
every node behind them: those are the rest, which is walked once more when the shapes are known.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from omniconv.errors import LimitError, ModelError, OmniconvError, UnsupportedError
from omniconv.graph.bodies import Bodies
from omniconv.graph.builder import Builder
from omniconv.graph.expand import CONTROL, Expander
from omniconv.graph.expected import expect
from omniconv.graph.fold_constants import fold_node
from omniconv.graph.host_checks import BOUNDS
from omniconv.graph.host_operator import HostOperator
from omniconv.graph.lower import apply, place, undo
from omniconv.graph.memory import Budget
from omniconv.graph.nodes import AnyArray, Node
from omniconv.graph.operands import Ref
from omniconv.graph.operator import Operator
from omniconv.graph.registry import find_operator
from omniconv.graph.schedule import (
    Body,
    BranchStep,
    Computed,
    HostRef,
    HostStep,
    LoopStep,
    RestStep,
    Schedule,
    ScheduleStep,
    Settings,
    Stretch,
    Unknown,
    Value,
)
from omniconv.graph.schema import check_node
from omniconv.graph.scope import collect_names
from omniconv.program.passes import run_passes
from omniconv.program.program import Program

DECIDES_SHAPE: Final = {
    "AffineGrid": (1,), "BlackmanWindow": (0,), "CenterCropPad": (1,), "Col2Im": (1, 2), "ConstantOfShape": (0,),
    "CumProd": (1,), "CumSum": (1,), "DFT": (1, 2), "Dropout": (2,), "Expand": (1,), "GRU": (4,), "HammingWindow": (0,),
    "HannWindow": (0,), "LSTM": (4,), "MaxUnpool": (2,), "MelWeightMatrix": (0, 1, 2, 3, 4), "OneHot": (1,),
    "Pad": (1, 3), "RNN": (4,), "Range": (0, 1, 2), "Reshape": (1,), "Resize": (1, 2, 3), "STFT": (1, 3), "Split": (1,),
    "Squeeze": (1,), "Tile": (1, 2), "TopK": (1,), "Unsqueeze": (1,), "Upsample": (1,),
    **dict.fromkeys(
        "ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum "
        "ReduceSumSquare".split(), (1,)
    ),
}  # fmt: skip
"""Inputs whose values decide the shape of a result, or the code: a computed one is waited for."""
_OF_SHAPES: Final = ("Shape", "Size")
"""Operators that read shapes alone."""
MOST_DECIDING: Final = 64
"""Elements of such an input; a longer one is refused."""
MOST_RESTS: Final = 64
"""Rests behind one another."""


def make_schedule(body: Body, entering: Mapping[str, HostRef | AnyArray], settings: Settings) -> Schedule:
    """Walk the nodes of a body.

    Args:
        body: the nodes.
        entering: for each input of the body its type and shape; an array for one that enters as a constant.
        settings: see there.

    Raises:
        OmniconvError: whatever a node breaks, with the node's place in ``at``.
    """
    return _TierWalk(body, entering, settings).run()


class _TierWalk:
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
        self.truths: set[str] = set()
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
            check_node(node, operands, self.settings.given)
            bodies = Bodies(self.values, self.settings, self.body.depth, self.body.changing, self._schedule)
            step = bodies.make(node, operands)
            self._host(step, operands, step.reads)
            return None
        if self._fold_empty(node, operands):
            return None
        try:
            if not (self.body.changing and self._avoid(node, operands)):
                self._compile(node, operands)
        except UnsupportedError as error:
            self._leave(node, operands, error)
        return None

    def _fold_empty(self, node: Node, operands: Sequence[Computed | AnyArray | None]) -> bool:
        """Results without elements, as of a batch of no images, are constants: their types and shapes say all."""
        if not any(item is not None and 0 in item.shape for item in operands):
            return False
        try:
            results = expect(node, operands, self.settings, self.budget)
        except (ModelError, UnsupportedError):
            return False  # whoever computes the node, or refuses it, knows more than the rule
        wanted = [item for item in results if item is not None]
        if not wanted or not all(isinstance(item, HostRef) and 0 in item.shape for item in wanted):
            return False
        check_node(node, operands, self.settings.given)
        self.values.update(
            {item.name: np.empty(item.shape, item.dtype) for item in wanted if isinstance(item, HostRef)}
        )
        self.folded += 1
        return True

    def _avoid(self, node: Node, operands: Sequence[Computed | AnyArray | None]) -> bool:
        """Leave a computed node of a body whose shapes change to the host, if it runs there."""
        if not any(isinstance(item, Ref | HostRef) for item in operands) or node.op in _OF_SHAPES:
            return False
        try:
            self._leave(node, operands, UnsupportedError("its shapes change from step to step"))
        except UnsupportedError:
            return False
        return True

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
        of_shapes = node.op in _OF_SHAPES
        wanted: list[Ref | AnyArray | None] = []
        phase = 0
        for item in operands:
            if isinstance(item, HostRef):
                readable = item.dtype in (given.dtype, np.bool_)
                if not of_shapes and (not readable or 0 in item.shape):
                    what = f"values of shape {item.shape}" if readable else f"{item.dtype} values"
                    raise UnsupportedError(f"{node.op} of {what}", need=f"{given} values with no empty axis")
                phase = max(phase, self.home[item.name] + 1)
                wanted.append(Ref(item.name, item.shape, item.dtype == np.bool_))
                if item.dtype == np.bool_:
                    self.truths.add(item.name)
            else:
                phase = max(phase, self.home[item.name] if isinstance(item, Ref) else 0)
                wanted.append(item)
        inputs = check_node(node, wanted, given)
        constant = not any(isinstance(item, Ref) for item in inputs)
        results: Sequence[Any]
        if constant and operator.fold is not None:
            arrays = [item for item in inputs if not isinstance(item, Ref)]
            results = fold_node(operator.fold, node, arrays, self.budget)
        else:
            results = self._lower(operator, node, inputs, 0 if of_shapes else phase)
        computed = False
        for name, result in zip(node.outputs, results, strict=False):
            if name:
                self.values[name] = self.hosted.get(result.name, result) if isinstance(result, Ref) else result
                computed = computed or isinstance(result, Ref)
        if computed:
            self.nodes_in[phase] += 1
        else:
            self.folded += 1

    def _lower(self, operator: Operator, node: Node, inputs: Sequence[Any], phase: int) -> Sequence[Any]:
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
            build = Builder(program, self.budget, self.taken, node, self.settings.given, self.truths)
            results = apply(operator, node, inputs, build)
        except UnsupportedError:
            undo(program, done)
            raise
        for step in program.steps[done:]:
            self.home[step.y] = phase
        return results

    def _leave(self, node: Node, operands: Sequence[Computed | AnyArray | None], why: UnsupportedError) -> None:
        """Leave a node to the host, or fold it there where it reads constants only."""
        dtypes = [None if item is None else self.settings.dtype_of(item) for item in operands]
        try:
            operator = HostOperator(node, dtypes)
        except UnsupportedError as error:
            raise UnsupportedError(
                f"{why.problem}, and {error.problem}", need=why.need, fix=why.fix, at=node.place
            ) from None
        padded = check_node(node, operands, self.settings.given)
        results = expect(node, operands, self.settings, self.budget)
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

    def _schedule(self, body: Body, entering: Mapping[str, HostRef | AnyArray]) -> Schedule:
        return make_schedule(body, entering, self.settings)

    # -- the end

    def _finish(self) -> Schedule:
        outputs = {name: self.values[name] for name in self.body.outputs}
        order: list[ScheduleStep] = []
        for phase in range(-1, max([len(self.programs) - 1, *(at for at, _ in self.host)], default=-1) + 1):
            if 0 <= phase < len(self.programs):
                order.append(Stretch(self.programs[phase], self.nodes_in[phase]))
            order += [step for at, step in self.host if at == phase]
        rest = self._make_rest()
        if rest is not None:
            order.append(rest)
        needed = {item.name for item in outputs.values() if not isinstance(item, np.ndarray)}
        kept: list[ScheduleStep] = []
        for step in reversed(order):
            if isinstance(step, Stretch):
                program = _narrow(step.program, needed)
                if program is None:
                    continue
                step = Stretch(run_passes(program), step.nodes, frozenset(self.truths.intersection(program.outputs)))
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
                f"shapes depend on values {self.body.depth + 1} times in a row",
                need=f"at most {MOST_RESTS} times",
                at=self.deferred[0].place,
            )
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
                inputs[name] = self.settings.dtype_of(value)
                sources[name] = value.name
        outputs = tuple(name for name in dict.fromkeys(self.body.outputs) if name in produced)
        alive = set(outputs)
        if not alive:
            return None
        return RestStep(
            Body(
                tuple(self.deferred),
                inputs,
                outputs,
                constants,
                sources,
                frozenset(self.by_value & reads.keys()),
                self.body.place,
                self.body.depth + 1,
                self.body.changing,
            )
        )


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
