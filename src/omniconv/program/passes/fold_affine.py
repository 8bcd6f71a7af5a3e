"""Pass: fold per-channel factors and offsets, batch norm above all, into the convolution or dense step before them.

With ``y = s * (w x + b) + t`` the step becomes ``(s w) x + (s b + t)``; s and t gather in float64 over all that
follows, and the weights are rounded to the program's element once.

It must not fire on: a result that is read twice or is an output; weights or a bias that are computed; constants that
vary along other axes than the channels or that broadcast the result; constants that are infinite or NaN, or that would
make a weight overflow; anything after an activation (the affine operation then stays an epilogue).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from omniconv.program.program import Program
from omniconv.program.rewrite import Item, count_readers, rebuild, with_labels
from omniconv.program.steps import Array, ConvStep, DenseStep, MapStep, PostOp, ProgramStep, weight_arrays
from omniconv.spec import Shape

Float64: TypeAlias = npt.NDArray[np.float64]
HEADROOM = 32.0
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
                return 1.0 / a, zero
    return None


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
    scale: Float64
    shift: Float64
    _largest: float | None = None

    @property
    def largest(self) -> float:
        """The largest weight or bias; looked up when it is first needed."""
        if self._largest is None:
            parts = [part for part in (self.w, self.b) if part is not None]
            with np.errstate(all="ignore"):
                self._largest = max(float(np.max(np.abs(part), initial=0.0)) for part in parts)
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
            scale, shift = scale * self.scale, scale * self.shift + shift
            bound = np.max(np.abs(scale), initial=0.0) * self.largest + np.max(np.abs(shift), initial=0.0)
        if not bound < np.finfo(self.w.dtype).max / HEADROOM:
            return False
        self.scale, self.shift = scale, shift
        return True

    def finish(self) -> ConvStep | DenseStep:
        """The step with its new weights."""
        step = self.step
        if np.all(self.scale == 1.0) and not np.any(self.shift):
            return step
        bias = np.zeros(self.scale.shape) if self.b is None else self.b.astype(np.float64)
        return replace(step, w=self._scaled(step), b=bias * self.scale + self.shift)

    def _scaled(self, step: ConvStep | DenseStep) -> Array:
        w = self.w
        if np.all(self.scale == 1.0):
            return w
        if isinstance(step, DenseStep):
            return w * self.scale[:, None]
        spec = step.spec
        ones = (1,) * spec.dims
        if not spec.transposed:
            return w * self.scale.reshape(-1, 1, *ones)
        grouped = w.reshape(spec.groups, spec.in_channels // spec.groups, *w.shape[1:])
        return (grouped * self.scale.reshape(spec.groups, 1, -1, *ones)).reshape(w.shape)


def fold_affine(program: Program) -> Program:
    """Fold what can be folded; the step takes the place and the name of the last operation folded."""
    readers = count_readers(program)
    open_steps: dict[str, _Gathered] = {}
    order: list[_Gathered | Item] = []
    for step, label in with_labels(program):
        w, b = weight_arrays(step)
        if isinstance(step, ConvStep | DenseStep) and w is not None and not (step.post or isinstance(step.b, str)):
            channels = step.spec.out_channels if isinstance(step, ConvStep) else w.shape[0]
            shape = program.shapes[step.y]
            gathered = _Gathered(step, w, b, label, shape, np.ones(channels), np.zeros(channels))
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
