"""InstanceNormalization: ``(x - mean) / sqrt(var + epsilon) * scale + B``, the statistics over the spatial axes."""

from __future__ import annotations

import numpy as np

from omniconv.errors import ModelError
from omniconv.graph.builder import Builder
from omniconv.graph.nodes import Node
from omniconv.graph.operands import Operand, Operands, shape_of
from omniconv.graph.operator import register
from omniconv.graph.ops._standardise import scale_by, standardise
from omniconv.program.steps import StandardiseStep


def _lower(node: Node, inputs: Operands, build: Builder) -> Operand:
    x = build.value(inputs[0], "the input", rank=3)
    scale, bias = shape_of(inputs[1], "the input scale"), shape_of(inputs[2], "the input B")
    if scale != (x.shape[1],) or bias != (x.shape[1],):
        raise ModelError(f"scale has shape {scale}, B {bias}", need=f"({x.shape[1]},) each")
    form = (1, x.shape[1], *(1,) * (x.rank - 2))
    scaled = (
        scale_by("mul", inputs[1], "the input scale", form, build),
        scale_by("add", inputs[2], "the input B", form, build),
    )
    epsilon = node.number("epsilon", 1e-5)
    if x.shape[1] > 1:
        return standardise(x, epsilon, build, *scaled)
    # One channel: what exporters make of a normalisation of whole images, with a scale of 1 and a bias of 0.
    plain = [isinstance(item, np.ndarray) and item.size == 1 for item in inputs[1:3]]
    kept = [op for op, one, neutral in zip(scaled, plain, (1, 0), strict=True) if not (one and op.operand == neutral)]
    step = StandardiseStep(x.name, build.fresh("standardised") if kept else build.out(), epsilon, x.rank - 2)
    done = build.add(step, x.shape)
    return build.map(done, *kept) if kept else done


register("InstanceNormalization", lower=_lower, since=6, open_sizes=True)
