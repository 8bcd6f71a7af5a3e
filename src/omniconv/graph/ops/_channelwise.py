"""Scales and biases of norms: one value a channel, a constant or a computed value, as operands that broadcast."""

from __future__ import annotations

from omniconv.errors import ModelError
from omniconv.graph.builder import Builder
from omniconv.graph.operands import Operand, Ref, as_weights, shape_of
from omniconv.program.steps import PostOp


def scale_channels(op: str, operand: Operand, name: str, x: Ref, build: Builder) -> PostOp:
    """The operation with one value of ``operand`` for each channel of ``x``.

    Raises:
        ModelError: another number of values.
    """
    what, channels = f"the input {name}", x.shape[1]
    if shape_of(operand, what) != (channels,):
        problem = f"{what} has shape {shape_of(operand, what)}"
        raise ModelError(problem, need=f"({channels},), one value a channel")
    form = (1, channels, *(1,) * (x.rank - 2))
    if isinstance(operand, Ref):
        return PostOp(op, build.rearrange(operand, form, y=build.fresh(name)).name)
    return PostOp(op, as_weights(operand, what).reshape(form))
