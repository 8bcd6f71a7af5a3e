"""The lane family: layers whose groups share vectors."""

from __future__ import annotations

from dataclasses import replace

from omniconv.compiler.kernels.lane.rows import ARGS, Lane
from omniconv.compiler.kernels.lane.staged import Staged
from omniconv.compiler.kernels.lane.stencil import Stencil, ask_ahead
from omniconv.compiler.kernels.lane.tiles import (
    WHOLE,
    LaneTile,
    StencilTile,
    count_parts,
    fits_both,
    list_lanes,
    plan_lane,
    reject_lane,
)
from omniconv.compiler.lowering.arrange import copy_apart, crowded, restore_order
from omniconv.compiler.lowering.family import Choice, Family
from omniconv.compiler.lowering.layer import Layer, place_layer, strides_of, with_neighbours
from omniconv.compiler.lowering.posts import has_operands
from omniconv.compiler.lowering.weights import pack_bias
from omniconv.compiler.memory.layout import Layout
from omniconv.compiler.memory.planner import Planner
from omniconv.compiler.memory.storage import Stored, permutation_of
from omniconv.compiler.problem.problem import Facts, Problem
from omniconv.program.element import Element
from omniconv.program.steps import ConvStep
from omniconv.target.model import Target

COLUMNS = 8
"""Outputs in a row of a tile, about."""
COPIED = 1024
"""Pixels that are a multiple of so many bytes apart are copied as a whole where parts of an image cannot be."""
STAGED = 512
"""The same for parts of an image: a copy that stays in a near cache costs less than one of a whole value."""


def _reject(problem: Problem, target: Target, _facts: Facts) -> str | None:
    return None if fits_both(problem, target) else reject_lane(problem, target)


def _prefer(problem: Problem, target: Target) -> tuple[LaneTile | None, tuple[str, ...]]:
    reason = reject_lane(problem, target)
    if reason is not None:
        return None, (f"lane: {reason}",)
    return plan_lane(problem, target), (f"panel: {WHOLE}",) if fits_both(problem, target) else ()


def _place(planner: Planner, step: ConvStep, x: Stored, problem: Problem, tile: LaneTile) -> Layer:
    """The input with neighbouring channels. A permuted one is kept where the layer commutes with the permutation:
    weights, bias and result then follow the storage order.
    """
    spec = step.spec
    order = permutation_of(x.layout)
    commutes = (
        order is not None
        and x.layout.channels_last
        and spec.is_depthwise
        and spec.in_channels == spec.out_channels
        and not has_operands(step.post)
        and step.y not in planner.places
    )
    if not commutes:
        x = with_neighbours(planner, step, x)
        far = _crowded(problem, planner.target.element, x.layout, COPIED)
        if far and count_parts(problem, planner.target, tile) is None:
            x = copy_apart(planner, step.x)
    layer = place_layer(planner, step, x, problem)
    if commutes:
        restore_order(planner, x, step.y)
        bias = None if layer.bias is None else layer.bias.map(lambda b: b[order])
        layer = replace(layer, weights=layer.weights.map(lambda w: w[order]), bias=bias)
    return layer


def _crowded(problem: Problem, element: Element, layout: Layout, multiple: int) -> bool:
    """Whether the pixels under a tile of outputs, which the kernel reads side by side, share too few sets."""
    depth, height, width = (max(axis.taps) for axis in problem.axes)
    return depth * height * width > 1 and crowded(layout, element, depth * height * (width + COLUMNS - 1), multiple)


def _lower(planner: Planner, layer: Layer, choice: Choice[LaneTile]) -> None:
    problem, tile, x, y = layer.problem, choice.tile, layer.x, layer.y
    kind: type[Lane] = Stencil if isinstance(tile, StencilTile) else Lane
    recipe = kind(
        batch=problem.batch,
        axes=problem.axes,
        groups=problem.groups,
        inputs=problem.inputs,
        outputs=problem.outputs,
        x_strides=strides_of(x.layout),
        y_strides=strides_of(y.layout),
        readable=x.layout.readable,
        tail=y.layout.tail,
        posts=layer.posts_behind(ARGS),
        tile=tile,
        lanes=planner.target.lanes,
        halved=not planner.target.traits.permutes_cross_halves,
    )
    if isinstance(recipe, Stencil):
        recipe = ask_ahead(recipe, planner.target)
    near = _crowded(problem, planner.target.element, x.layout, STAGED)
    parts = count_parts(problem, planner.target, tile) if near else None
    if parts is not None:
        recipe = Staged.of(recipe, parts)
    size, spec = recipe.vectors * recipe.lanes * recipe.inputs * problem.taps, layer.spec
    weights = layer.weights.pack(
        planner,
        size,
        lambda w: recipe.pack_weights(w, transposed=spec.transposed, flip=spec.flip),
        ("weights", recipe.packing),
    )
    key = "bias", recipe.packing
    bias = pack_bias(planner, layer.bias, recipe.vectors * recipe.lanes, recipe.pack_bias, key)
    zero = planner.zeros(problem.groups * problem.inputs + 2 * recipe.lanes)
    args, how = [x.ref, weights, bias, y.ref, zero, *layer.refs], ""
    if isinstance(recipe, Staged):
        args.append(planner.thread_memory(recipe.scratch))
        how = f"staged: {recipe.pixel} channels of an image are copied at a time"
    planner.call(recipe, args, FAMILY.name, choice.rejected, choice.decision, how)


FAMILY = Family("lane", reject=_reject, tiles=list_lanes, prefer=_prefer, place=_place, lower=_lower)
