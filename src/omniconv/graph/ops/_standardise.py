"""What the normalisations share: statistics over some axes, scales and biases."""

from __future__ import annotations

from omniconv.graph.builder import Builder
from omniconv.graph.operands import Operand, Ref, as_weights
from omniconv.graph.ops._constants import scalar
from omniconv.program.steps import PostOp, ReduceStep
from omniconv.spec import Activation, Shape

ROOT = PostOp("act", activation=Activation.of("sqrt"))


def standardise(x: Ref, epsilon: float, build: Builder, *post: PostOp, y: str | None = None) -> Ref:
    """Append ``(x - mean) / sqrt(variance + epsilon)``, the statistics over all axes of x, of at least three, after the
    first two, with further operations ``post`` on it.

    The variance is the mean of the squared differences: it is never negative, unlike ``mean(x^2) - mean(x)^2``.
    """
    small = (*x.shape[:2], *(1,) * (x.rank - 2))
    mean = build.add(ReduceStep(x.name, build.fresh("mean"), "mean"), small)
    centred = build.map(x, PostOp("sub", mean.name), y=build.fresh("centred"))
    squares = build.map(centred, PostOp("mul", centred.name), y=build.fresh("squares"))
    variance = build.add(ReduceStep(squares.name, build.fresh("variance"), "mean"), small)
    deviation = build.map(variance, PostOp("add", scalar(epsilon)), ROOT, y=build.fresh("deviation"))
    return build.map(centred, PostOp("div", deviation.name), *post, y=y)


def scale_by(op: str, item: Operand, what: str, form: Shape, build: Builder) -> PostOp:
    """The operation with a scale or bias, a constant or a value, whose elements are read in the shape ``form``."""
    if isinstance(item, Ref):
        return PostOp(op, build.rearrange(item, form, y=build.fresh("shaped")).name)
    return PostOp(op, as_weights(item, what).reshape(form))
