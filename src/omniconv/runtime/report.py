"""What a plan consists of, in records for tables: layers before a run, times after one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from omniconv.compiler.plan import Plan
from omniconv.compiler.planner import Call
from omniconv.compiler.program import ConvStep, DenseStep, Program, ProgramStep
from omniconv.spec import Shape

KINDS: Final = {
    "PoolStep": "pool", "ReduceStep": "global_pool", "MapStep": "elementwise", "SoftmaxStep": "softmax",
    "LrnStep": "lrn", "ChannelStep": "shuffle", "ConcatStep": "concat", "RearrangeStep": "rearrange",
    "SliceStep": "slice", "PadStep": "pad", "ResizeStep": "resize", "DenseStep": "dense",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class LayerInfo:
    """One step of a program.

    Attributes:
        name: of the layer or node it came from.
        kind: structural label of a convolution (``depthwise``, ``pointwise_grouped`` ...), or the operation.
        text: the one-line problem, for convolutions.
        input_shape, output_shape: logical, channels first.
        parameters: weights and biases.
        macs: nominal multiply-accumulates (1 MAC = 2 FLOP).
    """

    name: str
    kind: str
    text: str
    input_shape: Shape
    output_shape: Shape
    parameters: int
    macs: int


@dataclass(frozen=True, slots=True)
class StepProfile:
    """Time of one kernel call: name, kind and problem line of its layer, seconds, MACs, and share of the total."""

    name: str
    kind: str
    text: str
    seconds: float
    macs: int
    share: float


def kind_of(step: ProgramStep) -> str:
    """The word for a step in tables."""
    return step.spec.label if isinstance(step, ConvStep) else KINDS[type(step).__name__]


def describe_step(program: Program, index: int) -> LayerInfo:
    """The record of one step."""
    step = program.steps[index]
    source = step.xs[0] if hasattr(step, "xs") else step.x
    shape, result = program.shapes[source], program.shapes[step.y]
    text, parameters, macs = "", 0, 0
    if isinstance(step, ConvStep):
        text, macs = step.spec.text(shape), step.spec.count_macs(shape)
    elif isinstance(step, DenseStep):
        rows = 1
        for size in result[:-1]:
            rows *= size
        macs = rows * step.w.size
    if isinstance(step, ConvStep | DenseStep):
        parameters = step.w.size + (0 if step.b is None else step.b.size)
    return LayerInfo(program.labels[index], kind_of(step), text, shape, result, parameters, macs)


def merge_calls(plan: Plan) -> list[list[int]]:
    """Indices of the calls that make up one entry of a table: the same kernel of the same step, in order of the first.

    Calls at the boundary stay apart.
    """
    found: dict[object, list[int]] = {}
    for index, call in enumerate(plan.calls):
        found.setdefault((call.step, call.what) if call.step >= 0 else index, []).append(index)
    return list(found.values())


def describe_call(plan: Plan, call: Call, seconds: float, share: float) -> StepProfile:
    """The record of one kernel call; its layer's MACs belong to the call that does them."""
    if call.step < 0:
        return StepProfile("(boundary)", call.what, "", seconds, 0, share)
    layer = describe_step(plan.program, call.step)
    main = call.what in ("lane", "panel", "series")
    if not main and layer.macs:
        return StepProfile(layer.name, call.what, "", seconds, 0, share)
    return StepProfile(layer.name, layer.kind, layer.text, seconds, layer.macs, share)
