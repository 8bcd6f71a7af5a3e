"""Pass: fold per-channel factors and offsets, batch norm above all, into the convolution or dense step before them.

With ``y = s * (w x + b) + t`` the step becomes ``(s w) x + (s b + t)``; s and t gather in float64 over all that
follows, and the weights are rounded to the program's element once.

What is kept: with ``S = |s| (sum |w| |x| + |b|) + |t|``, t gathered with the absolute values of all constants, u the
unit roundoff of the program's element and e its smallest number, the exact results differ by at most
``u S + e (1 + sum |x|)``: 2^-24 and 2^-149 in float32. In float64 (2^-53 and 2^-1074) gathering rounds, too: for k
operations it is ``(3 k + 2) u S + (k + 1) e (1 + sum |x|)``. A weight that is not zero stays so, so infinities and NaN
reach the same results. (A sum that overflows before a small factor no longer does.)

It must not fire on: a result that is read twice or is an output; weights or a bias that are computed; constants that
vary along other axes than the channels or that broadcast the result; constants that are infinite or NaN, or that would
make a weight overflow or the largest weight of a channel smaller than the smallest normal number / u (2^-102 in
float32), where the others would lose their digits; factors that gathering in float64 would take out of its normal
numbers; anything after an activation (the affine operation then stays an epilogue).
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from omniconv.program.element import FLOAT64, Element
from omniconv.program.program import Program
from omniconv.program.rewrite import Item, count_readers, rebuild, with_labels
from omniconv.program.steps import Array, ConvStep, DenseStep, MapStep, PostOp, ProgramStep
from omniconv.records import dataclass
from omniconv.spec import Shape

Float64: TypeAlias = npt.NDArray[np.float64]
_HEADROOM: Final = 32.0
"""Weights stay so many times smaller than the largest number."""


def as_affine(op: PostOp) -> tuple[Float64, Float64] | None:
    """``(s, t)`` with ``op(v) = s * v + t``, in the constant's shape; ``None`` for operations of another form."""
    if not isinstance(op.operand, np.ndarray):
        return None
    a = op.operand.astype(np.float64)
    one, zero = np.ones_like(a), np.zeros_like(a)
    with np.errstate(all="ignore"):
        match op.op:
            case "add":
                return one, a
            case "sub":
                return one, -a
            case "rsub":
                return -one, a
            case "mul":
                return a, zero
            case "div":
                inverse = 1.0 / a
                return None if np.any(np.abs(inverse) < FLOAT64.smallest_normal) else (inverse, zero)
    return None


def is_exact_or_normal(product: Float64, *factors: Float64) -> npt.NDArray[np.bool_]:
    """Whether a product of factors in float64 is a normal number, or zero because a factor is."""
    exact = np.logical_or.reduce([np.broadcast_to(factor == 0.0, product.shape) for factor in factors])
    return np.asarray(exact | (np.abs(product) >= FLOAT64.smallest_normal))


def per_channel(constant: Float64, shape: Shape, axis: int) -> Float64 | None:
    """The constant as one value a channel, where it varies along ``axis`` of ``shape`` at most."""
    if constant.ndim > len(shape):
        return None
    full = constant.reshape((1,) * (len(shape) - constant.ndim) + constant.shape)
    if any(size != 1 for index, size in enumerate(full.shape) if index != axis):
        return None
    return np.array(np.broadcast_to(full.reshape(-1), (shape[axis],)))


@dataclass(slots=True)
class _Gathered:
    """A convolution or dense step, and what has been folded into it so far."""

    step: ConvStep | DenseStep
    w: Array
    b: Array | None
    label: str
    shape: Shape
    element: Element
    scale: Float64
    shift: Float64
    _largest: Float64 | None = None

    @property
    def largest(self) -> Float64:
        """The largest weight of each output channel; looked up when it is first needed."""
        if self._largest is None:
            self._largest = np.abs(_by_channel(self.step, self.w)).max(axis=1, initial=0.0).astype(np.float64)
        return self._largest

    @property
    def axis(self) -> int:
        return 1 if isinstance(self.step, ConvStep) else len(self.shape) - 1

    def take(self, op: PostOp) -> bool:
        """Fold one operation, if it can be."""
        affine = as_affine(op)
        if affine is None:
            return False
        scale, shift = (per_channel(part, self.shape, self.axis) for part in affine)
        if scale is None or shift is None:
            return False
        with np.errstate(all="ignore"):
            gathered, shift = scale * self.scale, scale * self.shift + shift
            smallest, limit = self.element.smallest_normal / self.element.roundoff, self.element.largest / _HEADROOM
            largest = np.abs(gathered) * self.largest
            kept = (largest >= smallest) | (gathered == 0.0) | (self.largest == 0.0)
            kept &= is_exact_or_normal(gathered, scale, self.scale)
            kept &= (largest < limit) & (np.abs(self.bias * gathered + shift) < limit)
        if not kept.all():
            return False
        self.scale, self.shift = gathered, shift
        return True

    @property
    def bias(self) -> Float64:
        """The bias of the step as it was."""
        return np.zeros(self.scale.shape) if self.b is None else self.b.astype(np.float64)

    def finish(self) -> ConvStep | DenseStep:
        """The step with its new weights."""
        step = self.step
        if np.all(self.scale == 1.0) and not np.any(self.shift):
            return step
        return replace(step, w=self._scaled(), b=self.bias * self.scale + self.shift)

    def _scaled(self) -> Array:
        w = self.w
        if np.all(self.scale == 1.0):
            return w
        weights, scale = _by_channel(self.step, w), self.scale[:, None]
        exact = weights * scale
        rounded = exact.astype(self.element.dtype)
        lost = (rounded == 0.0) & (weights != 0.0) & (scale != 0.0)
        rounded[lost] = np.copysign(self.element.smallest, exact[lost])
        return _by_channel(self.step, rounded, back=w.shape)


def _by_channel(step: ConvStep | DenseStep, w: Array, *, back: Shape | None = None) -> Array:
    """The weights in rows, one an output channel; or from there ``back`` to their shape."""
    if isinstance(step, DenseStep) or not step.spec.transposed:
        return w.reshape(back or (len(w), -1))
    groups, taps = step.spec.groups, math.prod(step.spec.kernel_size)
    each = (step.spec.in_channels // groups, step.spec.out_channels // groups)
    if back:
        return w.reshape(groups, each[1], each[0], taps).swapaxes(1, 2).reshape(back)
    return w.reshape(groups, *each, taps).swapaxes(1, 2).reshape(step.spec.out_channels, -1)


def fold_affine(program: Program) -> Program:
    """Fold what can be folded; the step takes the place and the name of the last operation folded."""
    readers = count_readers(program)
    open_steps: dict[str, _Gathered] = {}
    order: list[_Gathered | Item] = []
    for step, label in with_labels(program):
        if isinstance(step, ConvStep | DenseStep) and not (step.post or step.factors):
            w, b, shape = step.w, step.b, program.shapes[step.y]
            assert not isinstance(w, str)
            assert not isinstance(b, str)
            channels = shape[1] if isinstance(step, ConvStep) else shape[-1]
            one, zero = np.ones(channels), np.zeros(channels)
            gathered = _Gathered(step, w, b, label, shape, program.element, one, zero)
            open_steps[step.y] = gathered
            order.append(gathered)
            continue
        remaining = _absorb(step, open_steps, readers, program) if isinstance(step, MapStep) else step
        if remaining is not None:
            order.append((remaining, label))
    items = [(item.finish(), item.label) if isinstance(item, _Gathered) else item for item in order]
    return rebuild(program, items)


def _absorb(
    step: MapStep, open_steps: dict[str, _Gathered], readers: dict[str, int], program: Program
) -> ProgramStep | None:
    """Fold the first operations of a map; returns what is left of it, ``None`` for nothing."""
    gathered = open_steps.get(step.x)
    if gathered is None or readers[step.x] != 1 or program.shapes[step.y] != gathered.shape or not step.post:
        return step
    count = 0
    while count < len(step.post) and gathered.take(step.post[count]):
        count += 1
    if count < len(step.post):
        return replace(step, post=step.post[count:]) if count else step
    gathered.step = replace(gathered.step, y=step.y)
    open_steps[step.y] = open_steps.pop(step.x)
    return None
