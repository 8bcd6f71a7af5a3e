"""Names and costs of steps, for tables."""

from __future__ import annotations

from omniconv.program.program import Program
from omniconv.program.steps import ConvStep, QuantisedConvStep
from omniconv.records import dataclass
from omniconv.spec import Shape


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


def describe_step(program: Program, index: int) -> LayerInfo:
    """The record of one step."""
    step = program.steps[index]
    shape, result = (program.shapes[name] for name in ((*step.reads, step.y)[0], step.y))
    kind, text = (
        (step.spec.label, step.spec.text(shape)) if isinstance(step, ConvStep | QuantisedConvStep) else (step.word, "")
    )
    work = step.work(program.shapes)
    return LayerInfo(program.labels[index], kind, text, shape, result, work.parameters, work.macs)
