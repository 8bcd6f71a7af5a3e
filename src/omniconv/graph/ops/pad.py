"""Pad: constant, reflect, edge and wrap. Negative pads crop."""

from __future__ import annotations

from omniconv.errors import ModelError, ShapeError, UnsupportedError
from omniconv.graph.builder import Builder
from omniconv.graph.nodes import Node
from omniconv.graph.operands import Operand, Operands, as_integers, as_scalar, normalise_axes
from omniconv.graph.operator import register
from omniconv.graph.ops._slices import take_slice
from omniconv.program.steps import PadStep
from omniconv.spec.conv import LIMIT


def _lower(node: Node, inputs: Operands, build: Builder) -> Operand:
    x = build.value(inputs[0], "the input data", rank=1)
    mode = node.text("mode", "constant")
    if mode not in ("constant", "reflect", "edge", "wrap"):
        raise ModelError(f"mode={mode[:40]!r}", need="constant, reflect, edge or wrap")
    axes = tuple(range(x.rank))
    if node.version < 11:
        pads, value = node.integers("pads") or (), node.number("value", 0.0)
    else:
        pads = as_integers(inputs[1], "the input pads")
        value = 0.0 if inputs[2] is None else as_scalar(inputs[2], "the input constant_value")
        if len(inputs) > 3 and inputs[3] is not None:
            axes = normalise_axes(as_integers(inputs[3], "the input axes"), x.rank)
    if len(pads) != 2 * len(axes) or any(abs(pad) > LIMIT for pad in pads):
        raise ModelError(f"pads={pads[:32]} for {len(axes)} axes", need="two sizes for each axis")
    pairs = [(0, 0)] * x.rank
    for axis, before, after in zip(axes, pads[: len(axes)], pads[len(axes) :], strict=True):
        pairs[axis] = (before, after)
    if any(pad < 0 for pad in pads):
        if mode != "constant":
            raise UnsupportedError(f"negative pads with mode={mode}", need="mode=constant", fix="a Slice node")
        cuts = {
            axis: (max(-before, 0), 1, size - max(-before, 0) - max(-after, 0))
            for axis, ((before, after), size) in enumerate(zip(pairs, x.shape, strict=True))
        }
        pairs = [(max(before, 0), max(after, 0)) for before, after in pairs]
        x = take_slice(x, cuts, build, build.fresh("cropped") if any(map(any, pairs)) else build.out())
    if not any(map(any, pairs)):
        return x
    for size, pair in zip(x.shape, pairs, strict=True):
        widest = {"reflect": size - 1, "wrap": size}.get(mode)
        if widest is not None and max(pair) > widest:
            raise ShapeError(f"{mode} padding {pair} of an axis of size {size}", need=f"at most {widest}")
    shape = (size + sum(pair) for size, pair in zip(x.shape, pairs, strict=True))
    return build.add(PadStep(x.name, build.out(), tuple(pairs), mode, value), shape)


register("Pad", lower=_lower, since=2)
