"""RotaryEmbedding (opset 23): pairs of features turned by an angle that grows with the position.

``(a, b) -> (cos a - sin b, sin a + cos b)``; a and b are the two halves of the turned features, or with ``interleaved``
every other one. ``position_ids`` are constant; the caches are constants or computed values.
"""

from __future__ import annotations

import numpy as np

from omniconv.errors import ShapeError
from omniconv.graph.builder import Builder
from omniconv.graph.nodes import Node
from omniconv.graph.operands import Operand, Operands, Ref, as_constant, as_weights, shape_of
from omniconv.graph.operator import register
from omniconv.graph.ops._slices import take_slice
from omniconv.graph.ops.gather import normalise_indices, pick
from omniconv.program.steps import ConcatStep, PostOp
from omniconv.spec import Shape


def _read_cache(operand: Operand, name: str, inputs: Operands, wanted: Shape, form: Shape, build: Builder) -> PostOp:
    """A factor: the cache at the positions, of shape ``wanted`` (batch, positions, half), read as ``form``."""
    shape = shape_of(operand, name)
    found = shape
    source = None
    if inputs[3] is not None:
        positions = as_constant(inputs[3], "position_ids")
        if len(shape) != 2 or positions.shape != wanted[:2]:
            raise ShapeError(
                f"{name} of shape {shape} at positions of shape {positions.shape}",
                need=f"(positions, features / 2) and {wanted[:2]}",
            )
        source = normalise_indices(positions, shape[0]).reshape(-1)
        found = (*positions.shape, shape[1])
    if found != wanted:
        raise ShapeError(f"{name} gives shape {found}", need=f"{wanted}: batch, positions, turned features / 2")
    if isinstance(operand, Ref):
        value = (
            operand
            if source is None
            else build.value(pick(operand, 1, source, wanted, build, y=build.fresh(name)), name)
        )
        return PostOp("mul", build.rearrange(value, form, y=build.fresh(name)).name)
    array = as_weights(operand, name)
    build.budget.take(wanted, build.program.element.bytes, name)
    return PostOp("mul", np.reshape(array if source is None else array[source], form))


def _lower(node: Node, inputs: Operands, build: Builder) -> Operand:
    x = build.value(inputs[0], "the input X", rank=3)
    given = x.shape
    heads = node.integer("num_heads", 0)
    if x.rank == 3 and heads > 0 and not given[2] % heads:
        x = build.rearrange(x, (*given[:2], heads, given[2] // heads), y=build.fresh("heads"))
    elif x.rank != 4:
        raise ShapeError(
            f"X of shape {given} with num_heads={heads}",
            need="(batch, heads, positions, features), or (batch, positions, heads * features) with num_heads",
        )
    place = 1 if len(given) == 3 else 2
    size = x.shape[3]
    turned = node.integer("rotary_embedding_dim", 0) or size
    if turned % 2 or not 2 <= turned <= size:
        raise ShapeError(f"rotary_embedding_dim={turned} of {size} features", need="an even number of them")
    half = turned // 2
    wanted = (x.shape[0], x.shape[place], half)
    form = (x.shape[0], x.shape[1] if place == 1 else 1, x.shape[2] if place == 2 else 1, half)
    cos, sin = (
        _read_cache(inputs[i], name, inputs, wanted, form, build) for i, name in ((1, "cos_cache"), (2, "sin_cache"))
    )
    interleaved = bool(node.integer("interleaved", 0))
    cuts = [(0, 2, half), (1, 2, half)] if interleaved else [(0, 1, half), (half, 1, half)]
    a, b = (build.value(take_slice(x, {3: cut}, build, build.fresh("side")), "a side") for cut in cuts)
    parts = []
    for one, other, op in ((a, b, "sub"), (b, a, "add")):
        share = build.map(other, sin, y=build.fresh("share"))
        parts.append(build.map(one, cos, PostOp(op, share.name), y=build.fresh("turned")))
    if interleaved:
        thin = (*a.shape, 1)
        parts = [build.rearrange(part, thin, y=build.fresh("thin")) for part in parts]
    names = tuple(part.name for part in parts)
    joined = build.add(ConcatStep(names, build.fresh("joined"), 4 if interleaved else 3), _doubled(parts[0].shape))
    result = build.rearrange(joined, (*x.shape[:3], turned), y=build.fresh("joined"))
    rest = take_slice(x, {3: (turned, 1, size - turned)}, build, build.fresh("rest"))
    if isinstance(rest, Ref):
        result = build.add(ConcatStep((result.name, rest.name), build.fresh("whole"), 3), x.shape)
    return build.rearrange(result, given)


def _doubled(shape: Shape) -> Shape:
    """A shape with its last axis twice as long."""
    return (*shape[:-1], 2 * shape[-1])


register("RotaryEmbedding", lower=_lower, since=23)
