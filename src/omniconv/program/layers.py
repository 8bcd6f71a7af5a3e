"""Names and costs of steps, for tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from omniconv.program.program import Program
from omniconv.program.steps import ConvStep, DenseStep, ProgramStep
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


WORDS: Final = {
    "PoolStep": "pool", "ReduceStep": "global_pool", "MapStep": "elementwise", "SoftmaxStep": "softmax",
    "LrnStep": "lrn", "ChannelStep": "shuffle", "ConcatStep": "concat", "RearrangeStep": "rearrange",
    "SliceStep": "slice", "PadStep": "pad", "ResizeStep": "resize", "DenseStep": "dense",
}  # fmt: skip
