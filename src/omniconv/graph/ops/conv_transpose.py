"""ConvTranspose: the adjoint of Conv, with weights ``(in_channels, out_channels / group, *kernel)``.

Weights and bias are constants or computed values.

Per axis ``output = (input - 1) * stride + output_padding + extent - total_padding``. ``auto_pad`` asks for an output of
``input * stride`` and leaves the total padding to be computed; where that is negative it is 0. ``output_shape`` may
also ask for an output longer than the taps reach; the surplus becomes output padding.
"""

from __future__ import annotations

from omniconv.errors import ModelError, UnsupportedError
from omniconv.graph.builder import Builder
from omniconv.graph.nodes import Node
from omniconv.graph.operands import Operand, Operands
from omniconv.graph.operator import register
from omniconv.graph.ops._window import WindowAttributes, read_sizes, read_window
from omniconv.graph.ops.conv import read_bias, read_weight
from omniconv.program.steps import ConvStep
from omniconv.spec import Conv, Shape
from omniconv.spec.geometry import Pair


def _plan_padding(
    window: WindowAttributes, sizes: Shape, extra: Shape, wanted: Shape
) -> tuple[tuple[Pair, ...], Shape]:
    """Padding and output padding for which the outputs have the ``wanted`` sizes."""
    pairs: list[Pair] = []
    surplus: list[int] = []
    for axis, size, more, output in zip(window.axes(), sizes, extra, wanted, strict=True):
        total = axis.stride * (size - 1) + more + axis.extent - output
        small, large = max(total, 0) // 2, max(total, 0) - max(total, 0) // 2
        pairs.append((small, large) if window.auto_pad == "SAME_UPPER" else (large, small))
        surplus.append(more - min(total, 0))
        if total < 0 and surplus[-1] >= max(axis.stride, axis.dilation):
            raise UnsupportedError(
                f"output size {output}, the taps reach {output + total}",
                need="less than a stride beyond the last tap",
                fix="a Pad node after a smaller ConvTranspose",
            )
    return tuple(pairs), tuple(surplus)


def _lower(node: Node, inputs: Operands, build: Builder) -> Operand:
    x = build.value(inputs[0], "the input X", rank=3)
    w, form = read_weight(inputs[1])
    groups = node.integer("group", 1)
    if groups < 1 or len(form) != x.rank or x.shape[1] != form[0] or x.shape[1] % groups or not all(form):
        raise ModelError(
            f"the weight W has shape {form} for an input of shape {x.shape} and group={groups}",
            need="(in_channels, out_channels / group, *kernel) with in_channels a multiple of group",
        )
    dims, sizes = x.rank - 2, x.shape[2:]
    window = read_window(node, dims, form[2:])
    extra = read_sizes(node, "output_padding", dims, minimum=0, default=0) or (0,) * dims
    given = node.integers("output_shape")
    wanted = read_sizes(node, "output_shape", dims if given is None or len(given) <= dims else dims + 2, minimum=1)
    pairs = window.pads or ((0, 0),) * dims
    if wanted:
        pairs, extra = _plan_padding(window, sizes, extra, wanted[-dims:])
    elif window.auto_pad in ("SAME_UPPER", "SAME_LOWER"):
        target = tuple(
            min(size * axis.stride, (size - 1) * axis.stride + axis.extent + more)
            for size, axis, more in zip(sizes, window.axes(), extra, strict=True)
        )
        pairs, extra = _plan_padding(window, sizes, extra, target)
    elif window.auto_pad == "VALID":
        pairs = ((0, 0),) * dims
    channels = form[1] * groups
    spec = Conv.of(
        x.shape[1],
        channels,
        window.kernel,
        stride=window.stride,
        dilation=window.dilation,
        padding=pairs,
        groups=groups,
        transposed=True,
        output_padding=extra,
        dims=dims,
    )
    shape = spec.output_shape(x.shape)
    return build.add(ConvStep(x.name, build.out(), spec, w, read_bias(inputs[2], channels)), shape)


register("ConvTranspose", lower=_lower, open_sizes=True)
