"""Transpose: a permutation of the axes, by default their reversal."""

from __future__ import annotations

from collections.abc import Sequence

from omniconv.errors import ModelError
from omniconv.graph.builder import Builder
from omniconv.graph.memory import Budget
from omniconv.graph.nodes import AnyArray, Node
from omniconv.graph.operands import Operand, Operands
from omniconv.graph.operator import register


def _perm(node: Node, rank: int) -> tuple[int, ...]:
    perm = node.integers("perm")
    if perm is None:
        return tuple(reversed(range(rank)))
    if sorted(perm) != list(range(rank)):
        raise ModelError(f"perm={perm[:32]} for {rank} axes", need="each axis once")
    return perm


def _lower(node: Node, inputs: Operands, build: Builder) -> Operand:
    x = build.value(inputs[0], "the input data")
    perm = _perm(node, x.rank)
    return build.rearrange(x, (x.shape[axis] for axis in perm), perm=perm)


def _fold(node: Node, arrays: Sequence[AnyArray | None], _budget: Budget) -> AnyArray:
    x = arrays[0]
    assert x is not None
    return x.transpose(_perm(node, x.ndim))


register("Transpose", lower=_lower, fold=_fold, truths=True, open_sizes=True)
