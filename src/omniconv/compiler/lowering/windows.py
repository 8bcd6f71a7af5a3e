"""Pooling and reductions over space."""

from __future__ import annotations

import math
from dataclasses import replace

from omniconv.compiler.layout import row_major
from omniconv.compiler.planner import Planner
from omniconv.compiler.pool import Pool
from omniconv.compiler.program import PoolStep, ReduceStep
from omniconv.compiler.reduction import Reduce
from omniconv.compiler.storage import Stored, permutation_of


def keep_order(planner: Planner, name: str, result: str) -> Stored:
    """A value with neighbouring channels, in storage order where the step at hand does not care.

    A step that treats all channels alike commutes with a permutation of them; see :func:`restore_order`.
    """
    found = planner.get(name)
    if found.layout.channels_last and permutation_of(found.layout) is not None and result not in planner.places:
        return found
    return planner.channels_last(name)


def restore_order(planner: Planner, x: Stored, name: str) -> None:
    """Record that a result has its channels in the order of its input."""
    y = planner.stored[name]
    planner.stored[name] = replace(y, layout=replace(y.layout, channels=x.layout.channels))


def lower_pool(planner: Planner, step: PoolStep) -> None:
    """Maximum or mean over windows."""
    x = keep_order(planner, step.x, step.y)
    y = planner.produce(step.y)
    recipe = Pool.of(step, x.layout.ordered(), y.layout.ordered(), planner.target.lanes)
    planner.call(recipe, [x.ref, y.ref], "pool")
    restore_order(planner, x, step.y)


def lower_reduce(planner: Planner, step: ReduceStep) -> None:
    """Mean, maximum or sum over all of space, which is one axis where it has more than three."""
    shape = planner.shape(step.x)
    if len(shape) <= 5:
        x = keep_order(planner, step.x, step.y)
    else:
        flat, x = (*shape[:2], math.prod(shape[2:])), planner.row_major(step.x)
        room = planner.fresh(flat)
        planner.copy(replace(x, layout=replace(row_major(flat), readable=x.layout.readable)), room)
        x = room
    y = planner.produce(step.y)
    recipe = Reduce.of(step, x.layout.ordered(), y.layout.ordered(), planner.target.lanes)
    planner.call(recipe, [x.ref, y.ref], "reduce")
    restore_order(planner, x, step.y)
