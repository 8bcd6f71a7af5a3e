"""Convolutions and dense layers: layouts in, kernel family and tile chosen, weights packed."""

from __future__ import annotations

import math
from dataclasses import replace

from omniconv.compiler.kernels.arrange import as_channels_last, as_row_major
from omniconv.compiler.kernels.lane import rows as lane
from omniconv.compiler.kernels.lane.lower import _call_lane, _neighbours
from omniconv.compiler.kernels.pad import pad_value
from omniconv.compiler.kernels.panel import kernel as panel
from omniconv.compiler.kernels.panel.lower import _call_panel
from omniconv.compiler.kernels.posts import lower_posts
from omniconv.compiler.kernels.series.lower import lower_series
from omniconv.compiler.kernels.winograd.lower import call_winograd
from omniconv.compiler.kernels.winograd.slabs import describe_blocks, plan_winograd
from omniconv.compiler.memory.layout import Layout
from omniconv.compiler.memory.planner import Planner
from omniconv.compiler.memory.storage import permutation_of
from omniconv.compiler.planning.choice import plan_conv
from omniconv.compiler.problem.problem import Problem
from omniconv.compiler.problem.walk import AxisWalk, walks
from omniconv.program.steps import ConvStep, DenseStep
from omniconv.spec import Conv

DIRECT = 16
"""Below so many input channels a panel kernel reads channels-first input in place; from here on, a copy pays."""


def lower_conv(planner: Planner, step: ConvStep) -> None:
    """A convolution of any kind."""
    spec, x = step.spec, planner.get(step.x)
    shape = planner.shape(step.x)
    if spec.padding_mode != "zeros":
        assert not isinstance(spec.padding, str)
        x = pad_value(planner, as_channels_last(planner, step.x), ((0, 0), (0, 0), *spec.padding), spec.padding_mode)
        shape = x.layout.shape
        spec = replace(spec, padding=((0, 0),) * spec.dims, padding_mode="zeros")
    axes = walks(spec, shape[2:])
    problem = Problem(shape[0], axes, spec.groups, spec.in_channels // spec.groups, spec.out_channels // spec.groups)
    why_not = lower_series(planner, step, x, problem)
    if why_not is None:
        return
    tuned = planner.find_tuned(problem)
    choice = plan_conv(problem, planner.target, tuned)
    if problem.inputs == 1:
        choice = replace(choice, rejected=(*choice.rejected, f"series: {why_not}"))
    blocks, why = (None, ("winograd: exact=True",)) if planner.exact else plan_winograd(problem, planner.target, tuned)
    if blocks is not None and choice.tuned:
        why, blocks = (f"{describe_blocks(blocks)}: measured slower",), None
    serves = choice.family == "lane" and blocks is None
    parts = None
    if step.spec.padding_mode == "zeros":  # the padded value is channels last already
        if serves:
            x, parts = _neighbours(planner, step, x, problem, choice)
        elif blocks is not None or (not x.layout.channels_last and spec.in_channels >= DIRECT):
            x = as_channels_last(planner, step.x)
    w, b = step.w, step.b
    order = permutation_of(x.layout) if serves else None
    if order is not None:
        # A depthwise layer commutes with a permutation of its channels: its weights follow the storage order.
        w, b = w[order], None if b is None else b[order]
    y = planner.produce(step.y)
    posts, refs = lower_posts(planner, step.post, planner.shape(step.y), lane.ARGS if serves else panel.ARGS)
    if serves:
        _call_lane(planner, choice, problem, x, y, posts, refs, spec, w, b, parts)
        if x.layout.channels is not None:
            planner.stored[step.y] = replace(y, layout=replace(y.layout, channels=x.layout.channels))
        return
    if blocks is None:
        _call_panel(planner, problem, x, y, posts, refs, spec, w, b, choice, why)
    else:
        if spec.transposed:  # with stride 1: a plain layer with its kernel turned round
            w = w.reshape(spec.groups, problem.inputs, problem.outputs, 3, 3).swapaxes(1, 2)
            w = w.reshape(spec.out_channels, problem.inputs, 3, 3)
        w = w[:, :, ::-1, ::-1] if spec.flip != spec.transposed else w
        why, decision = planner.decide(problem, describe_blocks(blocks), why)
        call_winograd(planner, problem, blocks, x, y, posts, refs, w, b, why, decision)


def lower_dense(planner: Planner, step: DenseStep) -> None:
    """A dense layer: a pointwise convolution over rows."""
    shape = planner.shape(step.x)
    x = planner.get(step.x) if len(shape) == 2 else as_row_major(planner, step.x)
    rows = math.prod(shape[:-1])
    if len(shape) != 2:
        x = replace(x, layout=Layout((rows, shape[-1]), (shape[-1], 1), readable=x.layout.readable))
    y = planner.produce(step.y, plain=len(shape) != 2)
    runs = None if len(shape) == 2 else [range(len(shape) - 1), [len(shape) - 1]]
    posts, refs = lower_posts(planner, step.post, planner.shape(step.y), panel.ARGS, runs)
    outputs = step.w.shape[0]
    if len(shape) != 2:
        y = replace(y, layout=Layout((rows, outputs), (outputs, 1), readable=True))
    spec = Conv.of(shape[-1], outputs, 1, dims=1)
    axes = (AxisWalk.flat(1), AxisWalk.flat(1), AxisWalk.flat(1))
    problem = Problem(rows, axes, 1, shape[-1], outputs)
    _call_panel(planner, problem, x, y, posts, refs, spec, step.w[:, :, None], step.b)
