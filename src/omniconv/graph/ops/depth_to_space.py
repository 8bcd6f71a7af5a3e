"""DepthToSpace and SpaceToDepth, modes DCR and CRD: pure rearrangements of (N, C, H, W)."""

from __future__ import annotations

from omniconv.errors import ModelError, ShapeError
from omniconv.graph.builder import Builder
from omniconv.graph.nodes import Node
from omniconv.graph.operands import Operand, Operands, Ref
from omniconv.graph.operator import register


def _input(node: Node, inputs: Operands, build: Builder) -> tuple[Ref, int]:
    x, block = build.value(inputs[0], "the input"), node.integer("blocksize")
    if x.rank != 4:
        raise ShapeError(f"the input has shape {x.shape}", need="(N, C, H, W)")
    if not 1 <= block <= 1 << 15:
        raise ModelError(f"blocksize={block}", need="a positive integer")
    return x, block


def _mode(node: Node) -> str:
    mode = node.text("mode", "DCR")
    if mode not in ("DCR", "CRD"):
        raise ModelError(f"mode={mode[:40]!r}", need="DCR or CRD")
    return mode


def _lower_depth_to_space(node: Node, inputs: Operands, build: Builder) -> Operand:
    x, b = _input(node, inputs, build)
    n, c, h, w = x.shape
    if c % (b * b):
        raise ShapeError(f"blocksize={b} and {c} channels", need=f"channels % {b * b} == 0")
    c //= b * b
    if _mode(node) == "DCR":
        return build.rearrange(x, (n, c, h * b, w * b), split=(n, b, b, c, h, w), perm=(0, 3, 4, 1, 5, 2))
    return build.rearrange(x, (n, c, h * b, w * b), split=(n, c, b, b, h, w), perm=(0, 1, 4, 2, 5, 3))


def _lower_space_to_depth(node: Node, inputs: Operands, build: Builder) -> Operand:
    x, b = _input(node, inputs, build)
    n, c, h, w = x.shape
    if h % b or w % b:
        raise ShapeError(f"blocksize={b} and spatial sizes {(h, w)}", need=f"sizes that are multiples of {b}")
    perm = (0, 1, 3, 5, 2, 4) if _mode(node) == "CRD" else (0, 3, 5, 1, 2, 4)
    return build.rearrange(x, (n, c * b * b, h // b, w // b), split=(n, c, h // b, b, w // b, b), perm=perm)


register("DepthToSpace", lower=_lower_depth_to_space)
register("SpaceToDepth", lower=_lower_space_to_depth)
