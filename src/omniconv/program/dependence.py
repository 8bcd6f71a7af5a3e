"""What a step's result depends on: one path of *forms* from each value it reads.

What the taps are for a convolution, a `Dependence` is for every step. Each form says for one axis (or for a reshape,
for all of them) which positions of what goes in feed each position of what comes out; a path is their composition,
applied first to last. Where nothing is moved, a path is empty. Receptive fields, borders, coverage, connectivity,
counts and the input that a region needs are functions of the forms; no analysis asks what kind of step it meets.

A form never leaves a dependence out. One that cannot say its own is `Everything`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from omniconv.records import dataclass
from omniconv.spec import Axis, Phase, Shape

AnyArray: TypeAlias = npt.NDArray[Any]
Index: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """``y[o]`` depends on the positions of one axis under its taps (:mod:`omniconv.spec.geometry`).

    Attributes:
        axis, size: of what is read.
        taps: where they lie; its padding says how many outputs there are.
        border: whether a tap that lands outside reads padding; otherwise it reads nothing at all.
        average: whether the result is a mean of the taps that land inside, or shared out like one (a maximum).
    """

    axis: int
    size: int
    taps: Axis
    border: bool = True
    average: bool = False

    @property
    def phases(self) -> tuple[Phase, ...]:
        """The taps of every output position."""
        return self.taps.phases(self.size)


@dataclass(frozen=True, slots=True, eq=False)
class Resample:
    """``y[o] = sum_t x[index[t, o]] weight[t, o]`` along one axis of ``size``; a weight of zero reads nothing."""

    axis: int
    size: int
    index: Index
    weight: AnyArray


@dataclass(frozen=True, slots=True, eq=False)
class Take:
    """``y[o] = x[index[o]]`` along one axis of ``size``."""

    axis: int
    size: int
    index: Index


@dataclass(frozen=True, slots=True, eq=False)
class Slice:
    """``y[o] = x[start + o step]`` along one axis of ``size``, for ``o < count``."""

    axis: int
    size: int
    start: int
    step: int
    count: int

    @property
    def index(self) -> Index:
        """The position that each output copies."""
        return self.start + self.step * np.arange(self.count, dtype=np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class Pad:
    """``y[o] = x[index[o]]`` along one axis of ``size``, -1 where it is a constant.

    Attributes:
        before, after: positions that are padding.
        constant: whether they hold a constant; otherwise copies.
    """

    axis: int
    size: int
    before: int
    after: int
    constant: bool
    index: Index


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """``y[first + i] = x[i]`` along one axis of ``size``; the rest of ``total`` comes from other values."""

    axis: int
    size: int
    first: int
    total: int


@dataclass(frozen=True, slots=True, eq=False)
class Blocks:
    """Along one axis, every output of a group depends on every input of that group; one group is all on all.

    Attributes:
        axis, inputs, outputs, groups: positions of the axis before and after, in equal groups.
        average: whether the result is a mean over the group, or shared out like one; False for a sum.
        why: what makes it depend on a whole axis, in words; empty for channels, where that is no surprise.
    """

    axis: int
    inputs: int
    outputs: int
    groups: int = 1
    average: bool = True
    why: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Product:
    """`Blocks` and `Window` s at once, with a weight for each pair of channels and each tap.

    Attributes:
        blocks: which channels.
        windows: one for each spatial axis; none for a dense layer.
        w: ``(outputs, inputs of a group, *kernel)``, or transposed ``(inputs, outputs of a group, *kernel)``; ``None``
            where they are computed: they then count as alike.
    """

    blocks: Blocks
    windows: tuple[Window, ...]
    w: AnyArray | None
    transposed: bool

    def weights(self) -> AnyArray:
        """``|w|`` in float64 as ``(groups, inputs of a group, outputs of a group, *kernel)``, where they are known."""
        blocks = self.blocks
        assert self.w is not None
        w = np.abs(self.w.astype(np.float64))
        wide, narrow = blocks.inputs // blocks.groups, blocks.outputs // blocks.groups
        if self.transposed:
            return w.reshape(blocks.groups, wide, narrow, *w.shape[2:])
        return w.reshape(blocks.groups, narrow, wide, *w.shape[2:]).swapaxes(1, 2)


@dataclass(frozen=True, slots=True, eq=False)
class Regroup:
    """``y = x.reshape(split).transpose(perm).reshape(shape)`` for x of shape ``source``."""

    source: Shape
    split: Shape
    perm: tuple[int, ...]
    shape: Shape


@dataclass(frozen=True, slots=True, eq=False)
class Broadcast:
    """x of shape ``source`` repeated to ``shape``, by NumPy's rules."""

    source: Shape
    shape: Shape

    @property
    def is_gate(self) -> bool:
        """Whether one value is spread over a whole spatial axis."""
        wide = (1,) * (len(self.shape) - len(self.source)) + tuple(self.source)
        return any(a == 1 < b for a, b in zip(wide[2:], self.shape[2:], strict=True))


@dataclass(frozen=True, slots=True, eq=False)
class Scale:
    """``y = x factor`` for a constant that broadcasts: the same dependence, another weight."""

    factor: AnyArray


@dataclass(frozen=True, slots=True, eq=False)
class Everything:
    """Each entry of the result of ``shape`` depends on each entry of x of shape ``source``; always a safe answer.

    Attributes:
        source, shape: before and after.
        why: the word of the step, for reports.
    """

    source: Shape
    shape: Shape
    why: str

    def split(self) -> tuple[Regroup, Blocks, Regroup]:
        """The same in simpler forms: all on all of a single axis."""
        inputs, outputs = math.prod(self.source), math.prod(self.shape)
        flat, wide = (1, inputs), (1, outputs)
        return (
            Regroup(self.source, self.source, tuple(range(len(self.source))), flat),
            Blocks(1, inputs, outputs, why=self.why),
            Regroup(wide, wide, (0, 1), self.shape),
        )


Form: TypeAlias = (
    Window | Resample | Take | Slice | Pad | Place | Blocks | Product | Regroup | Broadcast | Scale | Everything
)


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """How a result depends on one value.

    Attributes:
        name: of the value.
        forms: from the value to the result, applied first to last.
        adds: whether its share is added to those of the other parts (or is all there is). Otherwise it multiplies,
            divides or bounds what they give.
    """

    name: str
    forms: tuple[Form, ...] = ()
    adds: bool = True

    @property
    def is_gate(self) -> bool:
        """Whether it reaches the result spread over a whole spatial axis, as a squeeze-and-excitation gate does."""
        return any(isinstance(form, Broadcast) and form.is_gate for form in self.forms)


@dataclass(frozen=True, slots=True, eq=False)
class Dependence:
    """What a result depends on.

    Attributes:
        parts: one for each time a value is read, in the order of ``step.reads``.
        linear: whether the result is a linear function of all of them together, plus a constant.
    """

    parts: tuple[Part, ...]
    linear: bool

    def local(self, gates: bool) -> Iterator[Part]:
        """The parts, with or without gates."""
        return (part for part in self.parts if gates or not part.is_gate)
