"""Normalisations, softmax and reductions."""

from __future__ import annotations

import numpy as np
from tests.differential.draft import Draft
from tests.differential.table import axis_of, counted, generator


@generator("BatchNormalization")
def _batch_norm(g: Draft, op: str) -> None:
    x = g.pick(2)
    c = g.shape(x)[1]
    values = [g.weights((c,)), g.weights((c,)), g.weights((c,)), np.abs(g.weights((c,))) + np.float32(0.1)]
    g.emit(op, x, *map(g.const, values), epsilon=g.choose(None, 1e-5, 1e-3, 0.1))


@generator("InstanceNormalization")
def _instance_norm(g: Draft, op: str) -> None:
    x = g.pick(3)
    c = g.shape(x)[1]
    g.emit(op, x, g.const(g.weights((c,))), g.const(g.weights((c,))), epsilon=g.choose(None, 1e-3, 0.1))


@generator("LayerNormalization", since=17)
def _layer_norm(g: Draft, op: str) -> None:
    x = g.pick(1)
    shape = g.shape(x)
    axis = axis_of(g, len(shape))
    last = shape[axis % len(shape) :]
    bias = g.const(g.weights(last)) if g.chance(0.6) else ""
    g.emit(op, x, g.const(g.weights(last)), bias, axis=axis, epsilon=g.choose(None, 1e-3, 0.1))


@generator("GroupNormalization", since=18)
def _group_norm(g: Draft, op: str) -> None:
    x = g.pick(3)
    c = g.shape(x)[1]
    groups = g.random.choice([d for d in range(1, c + 1) if c % d == 0])
    sizes = groups if g.opset < 21 else c
    parts = (g.const(g.weights((sizes,))), g.const(g.weights((sizes,))))
    g.emit(op, x, *parts, num_groups=groups, epsilon=g.choose(None, 1e-3, 0.1))


@generator("LRN")
def _lrn(g: Draft, op: str) -> None:
    given = {
        "alpha": abs(g.number(1e-4, 0.5)),
        "beta": abs(g.number(0.75, 0.5, 1.0)),
        "bias": abs(g.number(1.0, 2.0)) + 0.1,
    }
    g.emit(op, g.pick(3), size=g.whole(1, 7), **{k: v for k, v in given.items() if g.chance(0.7)})


@generator("Softmax", "LogSoftmax")
def _softmax(g: Draft, op: str) -> None:
    x = g.pick(1)
    rank = len(g.shape(x))
    axis = g.choose(None, counted(g, g.whole(0, rank - 1), rank)) if rank > 1 else 0
    g.emit(op, x, axis=axis)


@generator("ReduceMean", "ReduceMax", "ReduceMin", "ReduceSum")
def _reduce(g: Draft, op: str) -> None:
    x = g.pick()
    rank = len(g.shape(x))
    chosen = sorted(g.random.sample(range(rank), g.whole(1, rank))) if rank and g.chance(0.85) else None
    axes = None if chosen is None else [counted(g, axis, rank) for axis in chosen]
    keep = g.choose(None, 0, 1)
    as_input = g.opset >= (13 if op == "ReduceSum" else 18)
    if as_input:
        noop = g.choose(None, 0, 1) if axes is None else None
        g.emit(op, x, "" if axes is None else g.ints(axes), keepdims=keep, noop_with_empty_axes=noop)
    else:
        g.emit(op, x, axes=axes, keepdims=keep)


@generator("CumSum", since=11)
def _cumsum(g: Draft, op: str) -> None:
    x = g.pick(1)
    axis = g.const(np.array(axis_of(g, len(g.shape(x))), np.int64))
    g.emit(op, x, axis, exclusive=g.choose(None, 0, 1), reverse=g.choose(None, 0, 1))
