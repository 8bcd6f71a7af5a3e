"""Elementwise steps, softmax and local response normalisation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from omniconv.compiler import mapping
from omniconv.compiler.layout import Layout
from omniconv.compiler.lowering.posts import find_runs, follows_runs, has_operands, lower_posts, run_strides
from omniconv.compiler.lowering.windows import keep_order, restore_order
from omniconv.compiler.lrn import Lrn
from omniconv.compiler.mapping import Map
from omniconv.compiler.planner import Planner
from omniconv.compiler.program import LrnStep, MapStep, SoftmaxStep
from omniconv.compiler.softmax import Softmax
from omniconv.spec import Shape


def lower_map(planner: Planner, step: MapStep) -> None:
    """``y = post(x)``, channels last where x is, else row major."""
    shape, source = planner.shape(step.y), planner.shape(step.x)
    rank, same = len(shape), len(source) == len(shape)
    last = step.y in planner.places or (same and (rank >= 3 or planner.get(step.x).layout.channels_last))
    if last and 2 <= rank <= 5:
        plain = has_operands(step.post) or source != shape
        x = planner.channels_last(step.x, rank) if plain else keep_order(planner, step.x, step.y)
        y = planner.produce(step.y)
        posts, refs = lower_posts(planner, step.post, shape, mapping.ARGS)
        recipe = Map.of(x.layout.ordered(), y.layout.ordered(), posts, planner.target.lanes)
        planner.call(recipe, [x.ref, y.ref, *refs], "map")
        if not plain:
            restore_order(planner, x, step.y)
        return
    operands = (post.operand for post in step.post if post.operand is not None)
    runs = find_runs(shape, [source, *(planner.shape(a) if isinstance(a, str) else a.shape for a in operands)])
    x = planner.row_major(step.x) if follows_runs(shape, source, runs) else planner.expanded(step.x, shape)
    y = planner.produce(step.y, plain=True)
    posts, refs = lower_posts(planner, step.post, shape, mapping.ARGS, runs)
    recipe = Map.of(_by_runs(x.layout, shape, runs), _by_runs(y.layout, shape, runs), posts, planner.target.lanes)
    planner.call(recipe, [x.ref, y.ref, *refs], "map")


def _by_runs(layout: Layout, shape: Shape, runs: Sequence[Sequence[int]]) -> Layout:
    """A row-major layout with an axis for each run of axes, seen as channels last: the last one is that of the channels."""
    missing = (0,) * (2 - len(runs))
    strides = missing + run_strides(layout.with_rank(len(shape)), runs)
    sizes = (1,) * len(missing) + tuple(math.prod(shape[axis] for axis in run) for run in runs)
    seen = tuple(size if stride else 1 for size, stride in zip(sizes, strides, strict=True))
    return replace(layout, shape=(seen[0], seen[-1], *seen[1:-1]), strides=(strides[0], strides[-1], *strides[1:-1]))


def lower_softmax(planner: Planner, step: SoftmaxStep) -> None:
    """Softmax along one axis."""
    shape = planner.shape(step.x)
    x = planner.get(step.x)
    if x.layout.channels is not None:
        x = planner.channels_last(step.x)
    y = planner.produce(step.y, plain=not x.layout.channels_last)
    axis = step.axis % len(shape)
    axes = list(zip(shape, x.layout.strides, y.layout.strides, strict=True))
    reduced = axes.pop(axis)
    recipe = Softmax.of(step.log, tuple(axes), reduced, planner.target.lanes)
    planner.call(recipe, [x.ref, y.ref], "softmax")


def lower_lrn(planner: Planner, step: LrnStep) -> None:
    """Local response normalisation across channels."""
    x = planner.channels_last(step.x)
    y = planner.produce(step.y)
    planner.call(Lrn.of(step, x.layout, y.layout, planner.target.lanes), [x.ref, y.ref], "lrn")
