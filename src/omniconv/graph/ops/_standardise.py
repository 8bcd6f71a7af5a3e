"""What the normalisations share: ``(x - mean) / sqrt(variance + epsilon)`` over all axes after the first two."""

from __future__ import annotations

from omniconv.graph.builder import Builder
from omniconv.graph.operands import Ref
from omniconv.graph.ops._constants import scalar
from omniconv.program.steps import PostOp, ReduceStep
from omniconv.spec import Activation


def standardise(x: Ref, epsilon: float, build: Builder, *post: PostOp, y: str | None = None) -> Ref:
    """Append the standardised x, of at least three axes, with further operations ``post`` on it.

    The variance is the mean of the squared differences: it is never negative, unlike ``mean(x^2) - mean(x)^2``.
    """
    small = (*x.shape[:2], *(1,) * (x.rank - 2))
    mean = build.add(ReduceStep(x.name, build.fresh("mean"), "mean"), small)
    centred = build.map(x, PostOp("sub", mean.name), y=build.fresh("centred"))
    squares = build.map(centred, PostOp("mul", centred.name), y=build.fresh("squares"))
    variance = build.add(ReduceStep(squares.name, build.fresh("variance"), "mean"), small)
    root = PostOp("act", activation=Activation.of("sqrt"))
    deviation = build.map(variance, PostOp("add", scalar(epsilon)), root, y=build.fresh("deviation"))
    return build.map(centred, PostOp("div", deviation.name), *post, y=y)
