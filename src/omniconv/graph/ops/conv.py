"""Conv: cross-correlation with constant weights, any number of groups, 1 to 3 axes.

Explicit padding is resolved here (``auto_pad`` depends on the input size). Weights computed while the model runs are
not supported: the machine code is specialised to them.
"""

from __future__ import annotations

from omniconv.errors import ModelError
from omniconv.graph.builder import Builder
from omniconv.graph.nodes import Node
from omniconv.graph.operands import Operand, Operands, as_ref, as_weights
from omniconv.graph.operator import register
from omniconv.graph.ops._window import read_window
from omniconv.program.steps import Array, ConvStep
from omniconv.spec import Conv


def read_bias(operand: Operand, channels: int) -> Array | None:
    """The optional bias of ``channels`` values."""
    if operand is None:
        return None
    bias = as_weights(operand, "the bias B")
    if bias.shape != (channels,):
        raise ModelError(f"the bias B has shape {bias.shape}", need=f"({channels},), one value an output channel")
    return bias


def _lower(node: Node, inputs: Operands, build: Builder) -> Operand:
    x = as_ref(inputs[0], "the input X", rank=3)
    w = as_weights(inputs[1], "the weight W")
    groups = node.integer("group", 1)
    if groups < 1 or w.ndim != x.rank or x.shape[1] != w.shape[1] * groups or w.shape[0] % groups or not w.size:
        raise ModelError(
            f"the weight W has shape {w.shape} for an input of shape {x.shape} and group={groups}",
            need="(out_channels, in_channels / group, *kernel) with out_channels a multiple of group",
        )
    window = read_window(node, x.rank - 2, tuple(w.shape[2:]))
    spec = Conv.of(
        x.shape[1], w.shape[0], window.kernel, stride=window.stride, dilation=window.dilation,
        padding=window.resolve(x.shape[2:]), groups=groups, dims=x.rank - 2,
    )  # fmt: skip
    shape = spec.output_shape(x.shape)
    return build.add(ConvStep(x.name, build.out(), spec, w, read_bias(inputs[2], w.shape[0])), shape)


register("Conv", lower=_lower)
