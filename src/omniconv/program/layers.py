"""Names and costs of steps, for tables."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from omniconv.program.program import Program
from omniconv.program.steps import ConvStep, DenseStep, ProductStep, ProgramStep, operands, weight_arrays
from omniconv.spec import Shape

KINDS: Final = {
    "PoolStep": "pool", "ReduceStep": "global_pool", "MapStep": "elementwise", "SoftmaxStep": "softmax",
    "LrnStep": "lrn", "ChannelStep": "shuffle", "ConcatStep": "concat", "RearrangeStep": "rearrange",
    "SliceStep": "slice", "PadStep": "pad", "ResizeStep": "resize", "DenseStep": "dense",
    "ProductStep": "product", "ConstantStep": "constant",
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
    result = program.shapes[step.y]
    shape = program.shapes[next(operands(step), step.y)]
    text, macs = "", 0
    if isinstance(step, ConvStep):
        text, macs = step.spec.text(shape), step.spec.count_macs(shape)
    elif isinstance(step, DenseStep | ProductStep):
        macs = math.prod(result) * shape[-1]
    parameters = sum(0 if array is None else array.size for array in weight_arrays(step))
    return LayerInfo(program.labels[index], kind_of(step), text, shape, result, parameters, macs)


WORDS: Final = {
    "PoolStep": "pool", "ReduceStep": "global_pool", "MapStep": "elementwise", "SoftmaxStep": "softmax",
    "LrnStep": "lrn", "ChannelStep": "shuffle", "ConcatStep": "concat", "RearrangeStep": "rearrange",
    "SliceStep": "slice", "PadStep": "pad", "ResizeStep": "resize", "DenseStep": "dense",
    "ProductStep": "product", "ConstantStep": "constant",
}  # fmt: skip
