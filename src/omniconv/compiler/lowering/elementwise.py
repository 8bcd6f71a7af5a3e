"""Elementwise steps, softmax and local response normalisation."""

from __future__ import annotations

from dataclasses import replace

from omniconv.compiler import mapping
from omniconv.compiler.layout import Layout
from omniconv.compiler.lowering.posts import has_operands, lower_posts
from omniconv.compiler.lowering.windows import keep_order, restore_order
from omniconv.compiler.lrn import Lrn
from omniconv.compiler.mapping import Map
from omniconv.compiler.planner import Planner
from omniconv.compiler.program import LrnStep, MapStep, SoftmaxStep
from omniconv.compiler.softmax import Softmax


def lower_map(planner: Planner, step: MapStep) -> None:
    """``y = post(x)``, channels last where x is, else row major."""
    shape, source = planner.shape(step.y), planner.shape(step.x)
    x = planner.get(step.x)
    last = 2 <= len(shape) <= 5 and (x.layout.channels_last or len(source) >= 3 or step.y in planner.places)
    if last and len(source) == len(shape):
        plain = has_operands(step.post) or source != shape
        x = planner.channels_last(step.x) if plain else keep_order(planner, step.x, step.y)
        y = planner.produce(step.y)
        posts, refs = lower_posts(planner, step.post, shape, mapping.ARGS)
        recipe = Map.of(x.layout.ordered(), y.layout.ordered(), posts, planner.target.lanes)
        planner.call(recipe, [x.ref, y.ref, *refs], "map")
        if not plain:
            restore_order(planner, x, step.y)
        return
    x = planner.row_major(step.x)
    y = planner.produce(step.y, plain=True)
    posts, refs = lower_posts(planner, step.post, shape, mapping.ARGS, -1)
    recipe = Map.of(
        _last_axis_first(x.layout, len(shape)), _last_axis_first(y.layout, len(shape)), posts, planner.target.lanes
    )
    planner.call(recipe, [x.ref, y.ref, *refs], "map")


def _last_axis_first(layout: Layout, rank: int) -> Layout:
    """A row-major layout seen as channels last: its last axis takes the place of the channels."""
    missing = max(rank, 2) - len(layout.shape)
    shape = (1,) * missing + layout.shape
    strides = (0,) * missing + layout.strides
    return replace(layout, shape=(shape[0], shape[-1], *shape[1:-1]), strides=(strides[0], strides[-1], *strides[1:-1]))


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
