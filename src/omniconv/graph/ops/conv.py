"""Conv: cross-correlation, any number of groups, 1 to 3 axes; weights and bias are constants or computed values.

Explicit padding is resolved here (``auto_pad`` depends on the input size).
"""

from __future__ import annotations

from omniconv.errors import ModelError
from omniconv.graph.builder import Builder
from omniconv.graph.nodes import Node
from omniconv.graph.operands import Operand, Operands, Ref, as_weights
from omniconv.graph.operator import register
from omniconv.graph.ops._window import read_window
from omniconv.program.steps import Array, ConvStep
from omniconv.spec import Conv, Shape


def read_weight(operand: Operand) -> tuple[Array | str, Shape]:
    """The weight, a constant or the name of a value, and its shape."""
    if isinstance(operand, Ref):
        return operand.name, operand.shape
    w = as_weights(operand, "the weight W")
    return w, w.shape


def read_bias(operand: Operand, channels: int) -> Array | str | None:
    """The optional bias of ``channels`` values, a constant or the name of a value."""
    if operand is None:
        return None
    bias = operand if isinstance(operand, Ref) else as_weights(operand, "the bias B")
    if bias.shape != (channels,):
        raise ModelError(f"the bias B has shape {bias.shape}", need=f"({channels},), one value an output channel")
    return bias.name if isinstance(bias, Ref) else bias


def _lower(node: Node, inputs: Operands, build: Builder) -> Operand:
    x = build.value(inputs[0], "the input X", rank=3)
    w, form = read_weight(inputs[1])
    spec = read_spec(node, x, form)
    shape = spec.output_shape(x.shape)
    return build.add(ConvStep(x.name, build.out(), spec, w, read_bias(inputs[2], form[0])), shape)


def read_spec(node: Node, x: Ref, form: Shape) -> Conv:
    """The convolution of a node, of x with weights of a shape."""
    groups = node.integer("group", 1)
    if groups < 1 or len(form) != x.rank or x.shape[1] != form[1] * groups or form[0] % groups or not all(form):
        raise ModelError(
            f"the weight W has shape {form} for an input of shape {x.shape} and group={groups}",
            need="(out_channels, in_channels / group, *kernel) with out_channels a multiple of group",
        )
    window = read_window(node, x.rank - 2, form[2:])
    return Conv.of(
        x.shape[1],
        form[0],
        window.kernel,
        stride=window.stride,
        dilation=window.dilation,
        padding=window.resolve(x.shape[2:]),
        groups=groups,
        dims=x.rank - 2,
    )


register("Conv", lower=_lower, open_sizes=True)
