"""The walk: each node of a `Graph` is folded where its inputs are constants, and lowered to steps where they are not.

Shapes are known at every node, because each step is appended with its shape; nothing is ever inferred twice.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence

from omniconv.errors import OmniconvError, UnsupportedError
from omniconv.graph.builder import Builder
from omniconv.graph.expand import Expander
from omniconv.graph.fold_constants import fold_node
from omniconv.graph.instead import INSTEAD
from omniconv.graph.memory import Budget
from omniconv.graph.nodes import AnyArray, Graph, Node, shorten
from omniconv.graph.operands import ByteForm, Operand, Operands, Ref
from omniconv.graph.operator import Operator
from omniconv.graph.ops._quantised import lower_layer
from omniconv.graph.partial import Gaps
from omniconv.graph.quantised import DOMAIN as INTEGERS
from omniconv.graph.registry import find_operator
from omniconv.graph.schema import check_node, check_truths
from omniconv.graph.scope import collect_names
from omniconv.program.element import FLOAT32, Element
from omniconv.program.program import Program
from omniconv.program.steps import MapStep
from omniconv.program.tiers import Tiers
from omniconv.spec import Shape


def lower(
    graph: Graph,
    shapes: Mapping[str, Shape],
    constants: Mapping[str, AnyArray],
    budget: Budget,
    element: Element = FLOAT32,
    given: Element = FLOAT32,
    booleans: set[str] | None = None,
    gaps: Gaps | None = None,
    tiers: Tiers | None = None,
) -> Program:
    """Lower every node.

    Args:
        graph: the checked graph.
        shapes: the fixed shape of every input that is not bound to a constant.
        constants: initialisers and bound inputs.
        budget: the memory limit.
        element: what the program computes with.
        given: the type of the model's floats.
        booleans: where given, names of outputs that are boolean to ONNX are added; in the program they are 0 and 1.
        gaps: where given, nodes that are not supported are left out and noted there.
        tiers: where given, nodes are counted there.

    Raises:
        OmniconvError: whatever a node breaks, with the node's place in ``at``.
    """
    for name, shape in shapes.items():
        budget.check_value(shape, element.bytes, shorten(f"input {name!r}"))
    program = Program(tuple(shapes), shapes=dict(shapes), element=element)
    values: dict[str, Operand] = dict(constants)
    values.update({name: Ref(name, shape) for name, shape in shapes.items()})
    truths: set[str] = set()
    forms: dict[str, ByteForm] = {}
    taken = set(values) | collect_names(graph.nodes)
    expander = Expander(taken)
    queue = deque(graph.nodes)
    while queue:
        node = queue.popleft()
        if gaps is not None and gaps.find_cause(node):
            values.update(gaps.leave(node, values, program))
            continue
        build = Builder(program, budget, taken, node, given, truths, forms)
        done = len(program.steps)
        try:
            expanded = expander.expand(node, values)
            if expanded is not None:
                nodes, more = expanded
                values.update(more)
                queue.extendleft(reversed(nodes))
                continue
            results = _lower_node(node, [values[name] if name else None for name in node.inputs], build)
        except OmniconvError as error:
            if gaps is None or not isinstance(error, UnsupportedError):
                raise place(error, node) from error
            undo(program, done)
            values.update(gaps.leave(node, values, program, error))
            continue
        values.update({name: result for name, result in zip(node.outputs, results, strict=False) if name})
        if tiers is not None:
            tiers.count(folded=not any(isinstance(item, Ref) for item in results))
    wanted = [info.name for info in graph.outputs]
    if gaps is not None and gaps.problems:
        wanted = _find_outputs(wanted, gaps, program, values)
    if booleans is not None:
        booleans.update(name for name in wanted if getattr(values[name], "truth", False))
    return _name_outputs(wanted, program, values)


def undo(program: Program, steps: int) -> None:
    """Take back what an operator appended before it gave up."""
    for step in program.steps[steps:]:
        del program.shapes[step.y]
        program.elements.pop(step.y, None)
    del program.steps[steps:], program.labels[steps:]


def _find_outputs(wanted: Sequence[str], gaps: Gaps, program: Program, values: Mapping[str, Operand]) -> list[str]:
    """What is known of the outputs, then what the nodes that were left out read."""
    found = [name for name in dict.fromkeys([*wanted, *gaps.read]) if isinstance(values.get(name), Ref)]
    computed = {step.y for step in program.steps}
    known = [name for name in found if getattr(values[name], "name", "") in computed]
    if not known:
        raise UnsupportedError(
            "nothing of the model can be analysed",
            need="a layer that is computed from an input of floats",
            fix="cut the model behind its unsupported operators",
            at=gaps.problems[0].where,
        )
    return known


def _lower_node(node: Node, given: Sequence[Operand], build: Builder) -> Sequence[Operand]:
    if node.domain == INTEGERS:
        return (lower_layer(node, given, build),)
    operator = find_operator(node)
    inputs = check_node(node, given, build.given)
    if operator.fold is not None and not any(isinstance(item, Ref) for item in inputs):
        return fold_node(operator.fold, node, [item for item in inputs if not isinstance(item, Ref)], build.budget)
    return apply(operator, node, inputs, build)


def apply(operator: Operator, node: Node, inputs: Operands, build: Builder) -> Sequence[Operand]:
    """Append the steps of a node whose inputs were checked; returns its outputs.

    Raises:
        UnsupportedError: an operator that is only ever folded, or that would take truths for numbers.
    """
    if operator.lower is None:
        raise refuse_computed(node)
    operator.check_truths(inputs)
    results = operator.lower(node, inputs, build)
    results = results if isinstance(results, Sequence) else (results,)
    check_truths(node, inputs, results)
    return results


def refuse_computed(node: Node) -> UnsupportedError:
    """The error of an operator that is only ever folded, and is given a computed value."""
    return UnsupportedError(
        f"{node.op} of a value computed while the model runs",
        need=f"constant inputs of {node.op}",
        fix=INSTEAD.get(node.op, ""),
    )


def place(error: OmniconvError, node: Node) -> OmniconvError:
    """The error with the node's place, where it does not name one yet."""
    if node.place in error.at:
        return error
    at = f"{node.place}: {error.at}" if error.at else node.place
    return error.but(at=at)


def _name_outputs(wanted: Sequence[str], program: Program, values: Mapping[str, Operand]) -> Program:
    """Give every output its own name: rename the value behind it, or copy where that has a name to keep."""
    names: dict[str, str] = {}
    copies: dict[str, Ref] = {}
    keep = {*program.inputs, *wanted}
    for name in wanted:
        value = values[name]
        if not isinstance(value, Ref):
            raise UnsupportedError(
                f"output {shorten(name)!r} is a constant",
                need="outputs computed from the inputs",
                at=shorten(f"output {name!r}"),
            )
        if value.form is not None:
            raise UnsupportedError(
                f"output {shorten(name)!r} is of {value.form.dtype}",
                need="outputs of floats",
                fix="a DequantizeLinear before it",
                at=shorten(f"output {name!r}"),
            )
        if value.name == name or name in copies:
            continue
        if value.name in keep or value.name in names:
            copies[name] = value
        else:
            names[value.name] = name
    new = Program(
        program.inputs,
        tuple(wanted),
        {name: program.shapes[name] for name in program.inputs},
        element=program.element,
    )
    for step, label in zip(program.steps, program.labels, strict=True):
        new.add(step.renamed(names), program.shapes[step.y], label, checked=True)
    for name, value in copies.items():
        new.add(MapStep(names.get(value.name, value.name), name, ()), value.shape, name)
    return new
