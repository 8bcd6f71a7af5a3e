"""Attention (opset 23): ``softmax(scale Q K' + bias) V`` for every head, as products, a softmax and what lies between.

The bias is made of ``attn_mask``, ``is_causal``, the window, and ``nonpad_kv_seqlen``; all but a computed mask are
constants. Where several heads of queries share one of keys, their rows follow each other in one product. A query that
may attend no key gives zeros.
"""

from __future__ import annotations

import math

import numpy as np

from omniconv.errors import ModelError, ShapeError, UnsupportedError
from omniconv.graph.builder import Builder
from omniconv.graph.nodes import AnyArray, Node
from omniconv.graph.operands import Operand, Operands, Ref, as_integers, broadcast, shape_of
from omniconv.graph.operator import register
from omniconv.graph.ops._constants import scalar
from omniconv.graph.ops.arithmetic import combine
from omniconv.graph.ops.matmul import multiply
from omniconv.program.steps import ConcatStep, PadStep, PostOp, ReduceStep, SoftmaxStep
from omniconv.spec import Activation, Shape


def _split_heads(node: Node, operand: Operand, name: str, key: str, build: Builder) -> Ref:
    """A value as (batch, heads, positions, features)."""
    x = build.value(operand, f"the input {name}", rank=3)
    if x.rank == 4:
        return x
    heads = node.integer(key)
    if x.rank != 3 or heads < 1 or x.shape[2] % heads:
        raise ShapeError(f"{name} of shape {x.shape} with {key}={heads}", need="(batch, positions, heads * features)")
    b, s, f = x.shape
    split = (b, s, heads, f // heads)
    return build.rearrange(x, (b, heads, s, f // heads), split=split, perm=(0, 2, 1, 3), y=build.fresh(name))


def _count_past(past: Operand, name: str) -> int:
    """How many positions came before."""
    shape = (0, 0, 0, 0) if past is None else shape_of(past, name)
    if len(shape) != 4:
        raise ShapeError(f"{name} of shape {shape}", need="(batch, heads, positions, features)")
    return shape[2]


def _extend(past: Operand, x: Ref, name: str, build: Builder, y: str) -> Ref:
    """The positions before those of ``x``, and those of ``x``."""
    if past is None or 0 in shape_of(past, name):
        return x
    before = build.value(past, name, rank=4)
    if (*before.shape[:2], before.shape[3]) != (*x.shape[:2], x.shape[3]):
        raise ShapeError(f"{name} of shape {before.shape} before {x.shape}", need="equal batch, heads and features")
    return build.add(
        ConcatStep((before.name, x.name), y, 2),
        (*x.shape[:2], before.shape[2] + x.shape[2], x.shape[3]),
    )


def _known_bias(node: Node, inputs: Operands, queries: int, keys: int, past: int, build: Builder) -> AnyArray:
    """What is known of the bias: 0 where a query may attend a key, -inf where not; a constant mask among it."""
    lengths = None if len(inputs) < 7 or inputs[6] is None else np.asarray(as_integers(inputs[6], "nonpad_kv_seqlen"))
    offset = np.array([past]) if lengths is None else lengths - queries
    batch = len(offset)
    build.budget.check((batch, 1, queries, keys), 64, "the bias of an attention")
    at = offset[:, None, None, None] + np.arange(queries)[:, None]
    key = np.arange(keys)
    allowed = np.ones((batch, 1, queries, keys), np.bool_)
    windows = [node.integer(name, -1) for name in ("left_window_size", "right_window_size")]
    if min(windows) < -1:
        raise ModelError(f"window sizes {tuple(windows)}", need="-1 or more")
    for limit, distance in zip(windows, (at - key, key - at), strict=True):
        if limit >= 0:
            allowed &= distance <= limit
    if node.integer("is_causal", 0):
        allowed &= key <= at
    if lengths is not None:
        allowed &= key < lengths[:, None, None, None]
    bias = np.where(allowed, 0.0, -np.inf)
    mask = inputs[3] if len(inputs) > 3 else None
    if mask is None:
        return bias
    shape = shape_of(mask, "attn_mask")
    if not shape or shape[-1] > keys:
        raise ShapeError(f"attn_mask of shape {shape} for {keys} keys", need=f"at most {keys} keys")
    if isinstance(mask, Ref):
        return bias
    given = np.where(mask, 0.0, -np.inf) if mask.dtype == np.bool_ else mask.astype(np.float64)
    padded = np.pad(given, [(0, 0)] * (mask.ndim - 1) + [(0, keys - mask.shape[-1])], constant_values=-np.inf)
    build.budget.check(broadcast(bias.shape, padded.shape), 64, "the bias of an attention")
    return np.asarray(bias + padded)


def _add_mask(scores: Ref, known: AnyArray, mask: Operand, build: Builder) -> tuple[Ref, PostOp | None]:
    """The scores with their bias, and what keeps nothing for queries that may attend nothing, whatever they hold."""
    if isinstance(mask, Ref):
        keys = scores.shape[-1]
        if mask.truth:
            # -0 where it holds, -inf where not.
            mask = build.map(mask, PostOp("rdrop", scalar(-math.inf)), y=build.fresh("mask"))
        if mask.shape[-1] < keys:
            pads = ((0, 0),) * (mask.rank - 1) + ((0, keys - mask.shape[-1]),)
            step = PadStep(mask.name, build.fresh("mask"), pads, "constant", -math.inf)
            mask = build.add(step, (*mask.shape[:-1], keys))
        bias = combine(mask, known, "add", build, y=build.fresh("bias")) if known.any() else mask
        # The most of a row is -inf where it holds nothing else: 1 - min(max(most, lowest) - most, 1) is 0 there.
        lowest = PostOp("max", scalar(float(np.finfo(build.program.element.dtype).min)))
        rows = (1, math.prod(bias.shape[:-1]), keys)
        flat = build.rearrange(bias, rows, y=build.fresh("rows"))
        most = build.add(ReduceStep(flat.name, build.fresh("most"), "max"), rows[:2])
        most = build.rearrange(most, (*bias.shape[:-1], 1), y=build.fresh("most"))
        held = build.map(most, lowest, y=build.fresh("held"))
        one = scalar(1.0)
        gate = build.map(held, PostOp("sub", most.name), PostOp("min", one), PostOp("rsub", one), y=build.fresh("gate"))
        bias = build.map(bias, lowest, y=build.fresh("bias"))
        return build.map(scores, PostOp("add", bias.name), y=build.fresh("biased")), PostOp("keep", gate.name)
    empty = np.isneginf(known).all(-1, keepdims=True)
    if broadcast(known.shape, scores.shape) != scores.shape:
        raise ShapeError(
            f"a mask of shape {known.shape} for scores of shape {scores.shape}", need="one that broadcasts"
        )
    if known.any():
        held_bias = np.where(empty, 0.0, known)
        scores = build.map(scores, PostOp("add", held_bias), y=build.fresh("biased"))
    return scores, PostOp("keep", np.where(empty, 0.0, 1.0)) if empty.any() else None


def _lower(node: Node, inputs: Operands, build: Builder) -> tuple[Operand, ...]:
    q = _split_heads(node, inputs[0], "Q", "q_num_heads", build)
    k, v = (_split_heads(node, inputs[i], name, "kv_num_heads", build) for i, name in ((1, "K"), (2, "V")))
    pasts = [inputs[i] if len(inputs) > i else None for i in (4, 5)]
    past = _count_past(pasts[0], "past_key")
    _count_past(pasts[1], "past_value")
    k = _extend(pasts[0], k, "past_key", build, build.out(1))
    v = _extend(pasts[1], v, "past_value", build, build.out(2))
    (b, heads, queries, features), (_, groups, keys, _) = q.shape, k.shape
    if k.shape != (b, groups, keys, features) or v.shape[:3] != k.shape[:3] or heads % groups:
        raise ShapeError(
            f"Q, K and V of shapes {q.shape}, {k.shape} and {v.shape}",
            need="equal batches and features, and heads of Q a multiple of those of K and V",
        )
    mode = node.integer("qk_matmul_output_mode", 0)
    wanted = len(node.outputs) > 3 and bool(node.outputs[3])
    if wanted and mode not in (0, 3):
        raise UnsupportedError(f"qk_matmul_output_mode={mode}", need="0 (the products) or 3 (after the softmax)")
    scale = node.number("scale", features**-0.5)
    folded: Shape = (b, groups, heads // groups * queries)
    rows = build.rearrange(q, (*folded, features), y=build.fresh("queries"))
    columns = build.rearrange(k, (b, groups, features, keys), perm=(0, 1, 3, 2), y=build.fresh("columns"))
    scores = multiply(rows, columns, (*folded, keys), build, y=build.fresh("scores"))
    scores = build.map(scores, PostOp("mul", scalar(scale)), y=build.fresh("scaled"))
    scores = products = build.rearrange(scores, (b, heads, queries, keys), y=build.fresh("scores"))
    softcap = node.number("softcap", 0.0)
    if not 0 <= softcap < math.inf:
        raise ModelError(f"softcap={softcap}", need="a finite number from 0, where 0 caps nothing")
    if softcap:
        tanh = PostOp("act", activation=Activation.of("tanh"))
        cap = (PostOp("div", scalar(softcap)), tanh, PostOp("mul", scalar(softcap)))
        scores = build.map(scores, *cap, y=build.fresh("capped"))
    known = _known_bias(node, inputs, queries, keys, past, build)
    scores, gate = _add_mask(scores, known, inputs[3] if len(inputs) > 3 else None, build)
    shares = build.add(SoftmaxStep(scores.name, build.fresh("shares"), 3, False), scores.shape)
    if gate is not None:
        shares = build.map(shares, gate, y=build.fresh("shares"))
    left = build.rearrange(shares, (*folded, keys), y=build.fresh("left"))
    y = multiply(left, v, (*folded, v.shape[3]), build, y=build.fresh("heads"))
    y = build.rearrange(y, (b, heads, queries, v.shape[3]), y=build.fresh("heads"))
    if shape_of(inputs[0], "Q") != q.shape:
        y = build.rearrange(y, (b, queries, heads * v.shape[3]), perm=(0, 2, 1, 3))
    return y, k, v, shares if mode == 3 else products


register("Attention", lower=_lower, since=23, truths=True)
