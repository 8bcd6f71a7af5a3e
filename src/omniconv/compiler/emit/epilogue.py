"""What follows a step's result in registers, before it is stored: bias, activations, operations with other values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from omniconv.compiler.emit.builder import Kernel
from omniconv.compiler.emit.elementary import emit_activation
from omniconv.compiler.emit.functions import emit_function
from omniconv.compiler.emit.machine import Index, Value
from omniconv.compiler.emit.power import emit_fmod, emit_pow
from omniconv.open_size import Opener
from omniconv.program.steps.post import BRIEF
from omniconv.records import dataclass
from omniconv.spec import Activation

RELATIONS: Final = {"less": "<", "less_equal": "<=", "greater": ">", "greater_equal": ">=", "equal": "=="}
"""Comparisons, and LLVM's names of them."""


@dataclass(frozen=True, slots=True)
class PlacedOperand:
    """The second operand of a binary operation, as the kernel reads it.

    ``strides`` [elements] run over N, C, D, H, W and are 0 where the operand is broadcast; that of C is 0 or 1.
    """

    arg: int
    strides: tuple[int, int, int, int, int]
    readable: bool

    def opened(self, opener: Opener) -> PlacedOperand:
        """The same operand with the strides opened that depend on the size of an image."""
        n, c, d, h, w = self.strides
        n, d, h, w = opener.strides((n, d, h, w))
        return self.along(n, c, d, h, w)

    def shared(self, opener: Opener) -> PlacedOperand:
        """The same operand with all strides opened but that of channels, which are neighbours or one."""
        n, c, d, h, w = self.strides
        n, d, h, w = opener.all((n, d, h, w))
        return self.along(n, c, d, h, w)

    def along(self, n: int, c: int, d: int, h: int, w: int) -> PlacedOperand:
        """The same operand with other strides."""
        return PlacedOperand(self.arg, (n, c, d, h, w), self.readable)

    def moved(self, args: int) -> PlacedOperand:
        """The same operand so many args further."""
        return PlacedOperand(self.arg + args, self.strides, self.readable)


@dataclass(frozen=True, slots=True)
class Post:
    """One operation of an epilogue; see :class:`omniconv.program.steps.PostOp`."""

    op: str
    activation: Activation | None = None
    operand: PlacedOperand | None = None

    def reading(self, operand: PlacedOperand) -> Post:
        """The same operation with another operand."""
        return Post(self.op, self.activation, operand)

    @property
    def heavy(self) -> bool:
        """Whether it is a function, or a power, which is long code on one vector already."""
        return self.op not in BRIEF

    @property
    def readable(self) -> bool:
        """Whether whole vectors may be read at the last channel."""
        return self.operand is None or self.operand.readable or not self.operand.strides[1]


def open_posts(posts: Sequence[Post], opener: Opener) -> tuple[Post, ...]:
    """An epilogue with the strides of its operands opened."""
    return tuple(post if post.operand is None else post.reading(post.operand.opened(opener)) for post in posts)


def share_posts(posts: Sequence[Post], opener: Opener) -> tuple[Post, ...]:
    """The same with the strides of pixels opened, too."""
    return tuple(post if post.operand is None else post.reading(post.operand.shared(opener)) for post in posts)


class Position(NamedTuple):
    """Where a result belongs: batch, output position, and first channel."""

    n: Index
    d: Index
    h: Index
    w: Index
    c: Index


def emit_binary(k: Kernel, op: str, v: Value, a: Value) -> Value:
    """``v op a``; see :data:`omniconv.program.steps.BINARY`."""
    b = k.b
    match op:
        case "add":
            return b.fadd(v, a)
        case "sub":
            return b.fsub(v, a)
        case "rsub":
            return b.fsub(a, v)
        case "mul":
            return b.fmul(v, a)
        case "div":
            return b.fdiv(v, a)
        case "rdiv":
            return b.fdiv(a, v)
        case "max":
            return k.call("maximum", v, a)
        case "min":
            return k.call("minimum", v, a)
        case "prelu":
            return b.select(b.fcmp_ordered("<", v, k.splat(0.0, v.type)), b.fmul(v, a), v)
        case "threshold":
            return b.select(b.fcmp_ordered(">", v, a), v, k.splat(0.0, v.type))
        case "pow":
            return emit_pow(k, v, a)
        case "rpow":
            return emit_pow(k, a, v)
        case "fmod":
            return emit_fmod(k, v, a)
        case "rfmod":
            return emit_fmod(k, a, v)
        case "keep" | "drop":
            return _choose(k, a, v, kept=op == "keep")
        case "rkeep" | "rdrop":
            return _choose(k, v, a, kept=op == "rkeep")
    return b.select(b.fcmp_ordered(RELATIONS[op], v, a), k.splat(1.0, v.type), k.splat(0.0, v.type))


def _choose(k: Kernel, truth: Value, value: Value, *, kept: bool) -> Value:
    """``value`` where the truth is 1, or where it is 0; -0 elsewhere, which changes nothing that is added to it."""
    holds, nothing = k.b.fcmp_unordered("!=", truth, k.splat(0.0, truth.type)), k.splat(-0.0, truth.type)
    return k.b.select(holds, value, nothing) if kept else k.b.select(holds, nothing, value)


def emit_operand(k: Kernel, operand: PlacedOperand, at: Position, lanes: int, count: int | None) -> Value:
    """The operand's vector of ``lanes`` lanes at a position."""
    offset: Index = 0
    for index, stride in zip((at.n, at.c, at.d, at.h, at.w), operand.strides, strict=True):
        offset = k.add(offset, k.mul(index, stride))
    pointer = k.arg(operand.arg)
    if operand.strides[1] == 0:
        return k.load_splat(pointer, offset, lanes=lanes)
    return k.load(pointer, offset, count=None if operand.readable else count, lanes=lanes)


def emit_epilogue(k: Kernel, posts: Sequence[Post], value: Value, at: Position, count: int | None = None) -> Value:
    """Apply ``posts`` in order; only the first ``count`` lanes matter when given."""
    for post in posts:
        if post.activation is not None:
            value = emit_activation(k, value, post.activation)
        elif post.operand is None:
            value = emit_function(k, post.op, value)
        else:
            value = emit_binary(k, post.op, value, emit_operand(k, post.operand, at, value.type.count, count))
    return value
