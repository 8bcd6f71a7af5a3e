"""Pad: constant, reflect, edge and wrap. Negative pads crop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from omniconv.errors import ModelError, ShapeError, UnsupportedError
from omniconv.graph.builder import Builder
from omniconv.graph.memory import Budget
from omniconv.graph.nodes import AnyArray, Node
from omniconv.graph.operands import Operand, Operands, as_constant, as_integers, as_scalar, normalise_axes, shape_of
from omniconv.graph.operator import register
from omniconv.graph.ops._slices import take_slice
from omniconv.integers import LIMIT
from omniconv.program.steps import PadStep
from omniconv.spec import Shape
from omniconv.spec.geometry import Pair

_NUMPY: Final[dict[str, Any]] = {mode: mode for mode in ("constant", "reflect", "edge", "wrap")}


def _read(node: Node, inputs: Operands) -> tuple[str, list[Pair], float]:
    """The mode, the pads of each axis, and the value of constant ones."""
    rank = len(shape_of(inputs[0], "the input data"))
    mode = node.text("mode", "constant")
    if mode not in ("constant", "reflect", "edge", "wrap"):
        raise ModelError(f"mode={mode[:40]!r}", need="constant, reflect, edge or wrap")
    axes = tuple(range(rank))
    if node.version < 11:
        pads, value = node.integers("pads") or (), node.number("value", 0.0)
    else:
        pads = as_integers(inputs[1], "the input pads")
        value = 0.0 if inputs[2] is None else as_scalar(inputs[2], "the input constant_value")
        if len(inputs) > 3 and inputs[3] is not None:
            axes = normalise_axes(as_integers(inputs[3], "the input axes"), rank)
    if len(pads) != 2 * len(axes) or any(abs(pad) > LIMIT for pad in pads):
        raise ModelError(f"pads={pads[:32]} for {len(axes)} axes", need="two sizes for each axis")
    pairs = [(0, 0)] * rank
    for axis, before, after in zip(axes, pads[: len(axes)], pads[len(axes) :], strict=True):
        pairs[axis] = (before, after)
    return mode, pairs, value


def _check_widest(mode: str, shape: Shape, pairs: Sequence[Pair]) -> None:
    """Refuse pads that a mode has no positions for.

    Raises:
        ShapeError: there are some.
    """
    for size, pair in zip(shape, pairs, strict=True):
        widest = {"reflect": max(size - 1, 0), "wrap": size, "edge": None if size else 0}.get(mode)
        if widest is not None and max(pair) > widest:
            raise ShapeError(f"{mode} padding {pair} of an axis of size {size}", need=f"at most {widest}")


def _lower(node: Node, inputs: Operands, build: Builder) -> Operand:
    x = build.value(inputs[0], "the input data", rank=1)
    mode, pairs, value = _read(node, inputs)
    if any(pad < 0 for pair in pairs for pad in pair):
        if mode != "constant":
            raise UnsupportedError(f"negative pads with mode={mode}", need="mode=constant", fix="a Slice node")
        cuts = {
            axis: (max(-before, 0), 1, size - max(-before, 0) - max(-after, 0))
            for axis, ((before, after), size) in enumerate(zip(pairs, x.shape, strict=True))
        }
        pairs = [(max(before, 0), max(after, 0)) for before, after in pairs]
        cropped = take_slice(x, cuts, build, build.fresh("cropped") if any(map(any, pairs)) else build.out())
        if not any(map(any, pairs)):
            return cropped
        x = build.value(cropped, "what negative pads leave")
    if not any(map(any, pairs)):
        return x
    _check_widest(mode, x.shape, pairs)
    shape = (size + sum(pair) for size, pair in zip(x.shape, pairs, strict=True))
    return build.add(PadStep(x.name, build.out(), tuple(pairs), mode, value), shape)


def _fold(node: Node, arrays: Sequence[AnyArray | None], budget: Budget) -> AnyArray:
    x = as_constant(arrays[0], "the input data")
    mode, pairs, value = _read(node, arrays)
    shape = [size + sum(pair) for size, pair in zip(x.shape, pairs, strict=True)]
    budget.take(shape, x.dtype.itemsize, "a constant")
    for axis, (size, (before, after)) in enumerate(zip(x.shape, pairs, strict=True)):
        x = x[(slice(None),) * axis + (slice(max(-before, 0), max(size - max(-after, 0), 0)),)]
    pairs = [(max(before, 0), max(after, 0)) for before, after in pairs]
    _check_widest(mode, x.shape, pairs)
    more: dict[str, Any] = {"constant_values": value} if mode == "constant" else {}
    return np.pad(x, pairs, _NUMPY[mode], **more)


register("Pad", lower=_lower, fold=_fold, since=2, open_sizes=True)
