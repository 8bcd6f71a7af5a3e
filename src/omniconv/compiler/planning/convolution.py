"""Convolutions and dense layers: family and tile chosen, places found, calls made."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from typing import Any

from omniconv.closing import close
from omniconv.compiler.kernels.pad import pad_value
from omniconv.compiler.kernels.panel.columns import lies_densely, widen_posts
from omniconv.compiler.kernels.panel.lower import merge_layer, reads_in_place
from omniconv.compiler.kernels.panel.planes import in_planes
from omniconv.compiler.kernels.series.lower import in_rows
from omniconv.compiler.lowering.arrange import as_channels_last, as_rows
from omniconv.compiler.lowering.family import Choice
from omniconv.compiler.lowering.layer import Layer, merge_problem
from omniconv.compiler.lowering.posts import describe_posts, lower_posts
from omniconv.compiler.lowering.weights import LayerWeights
from omniconv.compiler.memory.layout import Layout
from omniconv.compiler.memory.planner import Planner
from omniconv.compiler.memory.storage import Stored
from omniconv.compiler.planning.choice import choose
from omniconv.compiler.problem.problem import Facts, Problem
from omniconv.program.steps import Array, ConvStep, DenseStep
from omniconv.spec import Conv


def lower_conv(planner: Planner, step: ConvStep) -> None:
    """A convolution of any kind."""
    step, x = _pad(planner, step)
    problem = Problem.of(step.spec, x.layout.shape)
    if planner.accuracy != problem.accuracy:
        problem = replace(problem, accuracy=planner.accuracy)
    facts = _look_around(planner, step, x, problem)
    choice = _decide(planner, problem, facts, step.w)
    layer = choice.family.place(planner, step, x, problem, choice.tile)
    assert layer.problem.axes == choice.problem.axes, "the layouts are not those that were foreseen"
    choice.family.lower(planner, layer, choice)


def _decide(planner: Planner, problem: Problem, facts: Facts, w: Array | str | None) -> Choice[Any]:
    """The choice for a layer with constant weights, or with computed ones; also where its sizes are open."""
    exact, around = (problem, facts) if planner.asked is None else close((problem, facts))
    choice = _choose(planner, exact, around)
    if not fits_weights(planner, choice, w):
        choice = _choose(planner, exact, replace(around, overflowing=True))
    choice = planner.settle(choice)
    if planner.asked is None:
        return choice
    found: Choice[Any] = planner.asked.open(planner.step, choice, problem, facts)
    return found


def fits_weights(planner: Planner, choice: Choice[Any], w: Array | str | None) -> bool:
    """Whether weights can be used with a choice: computed ones always, whatever they turn out to be."""
    holds = choice.family.holds
    if holds is None or w is None or isinstance(w, str):
        return True
    return holds(choice.tile, planner.of_array(w, "largest", partial(_find_largest, w)))


def _find_largest(w: Array) -> float:
    """The largest magnitude; not a number where one of them is none."""
    return max(float(w.max()), -float(w.min()))


def _choose(planner: Planner, problem: Problem, facts: Facts) -> Choice[Any]:
    """The choice for a layer; of equal ones it is made once."""
    key = problem, facts
    if key not in planner.chosen:
        planner.chosen[key] = choose(problem, planner.target, facts, planner.find_tuned)
    found: Choice[Any] = planner.chosen[key]
    return found


def _pad(planner: Planner, step: ConvStep) -> tuple[ConvStep, Stored]:
    """A layer with the value that it reads: one that pads with anything but zeros reads a padded value instead."""
    spec = step.spec
    if spec.padding_mode == "zeros":
        return step, planner.get(step.x)
    assert not isinstance(spec.padding, str)
    pads = ((0, 0), (0, 0), *spec.padding)
    x = pad_value(planner, as_channels_last(planner, step.x), pads, spec.padding_mode)
    spec = replace(spec, padding=((0, 0),) * spec.dims, padding_mode="zeros")
    return replace(step, spec=spec), x


def _look_around(planner: Planner, step: ConvStep, x: Stored, problem: Problem) -> Facts:
    """What the choice has to know of the values around a layer, before any of them gets its place."""
    shape = planner.shape(step.y)
    placed = planner.places[step.y][2] if step.y in planner.places else None
    wanted = planner.wanted[step.y].layout if step.y in planner.wanted else placed
    posts = describe_posts(planner, step.post, shape, 0)
    merged = None
    if problem.pointwise:
        source, result = x.layout, placed or planner.default_layout(shape)
        if not reads_in_place(source, step.spec.in_channels):
            source = planner.default_layout(source.shape)
        merged = merge_problem(problem, source, result, posts)
    return Facts(
        exact=planner.exact,
        x_rows=in_rows(x.layout),
        y_rows=wanted is not None and in_rows(wanted),
        computed=isinstance(step.w, str),
        merged=merged,
        planes=wanted is not None and x.element is planner.element_of(step.y) is None and in_planes(x.layout, wanted),
        columns=(placed is None or lies_densely(placed)) and widen_posts(posts, problem.outputs, 1) is not None,
    )


def lower_dense(planner: Planner, step: DenseStep) -> None:
    """A dense layer: a pointwise convolution over rows."""
    shape, result = planner.shape(step.x), planner.shape(step.y)
    rows, inputs, outputs = math.prod(shape[:-1]), shape[-1], result[-1]
    if len(shape) == 2:
        x, y = planner.get(step.x), planner.produce(step.y)
        posts, refs = lower_posts(planner, step.post, result, 0)
    else:
        x = _view_rows(*as_rows(planner, step.x), rows)
        y = _view_rows(planner.produce(step.y, plain=True), outputs, rows)
        posts, refs = lower_posts(planner, step.post, result, 0, [range(len(result) - 1), [len(result) - 1]])
    spec = Conv.of(inputs, outputs, 1, dims=1)
    problem = Problem.of(spec, (rows, inputs, 1))
    w = LayerWeights.of(planner, step.w[:, :, None], narrow=step.y in planner.program.rounded)
    b = None if step.b is None else LayerWeights.of(planner, step.b)
    layer = merge_layer(Layer(problem, spec, x, y, posts, tuple(refs), w, b))
    facts = Facts(exact=planner.exact, merged=layer.problem)
    choice = _decide(planner, problem, facts, None)
    choice.family.lower(planner, layer, choice)


def _view_rows(value: Stored, distance: int, rows: int) -> Stored:
    """A value whose rows are so far apart seen as a matrix."""
    shape = (rows, value.layout.shape[-1])
    return replace(value, layout=Layout(shape, (distance, 1), readable=value.layout.readable))
