"""`plan_taps`: the records with which the kernel of :mod:`omniconv.web.taps` computes a convolution.

A page has a planner of its own that does the same; this one says what is right. Three steps::

    1. Copy x into a frame: on each axis ``before`` and ``after`` positions more, filled by the padding mode. Then every
       tap of every output reads the frame.
    2. For each phase (the product of the phases of the axes, see omniconv.spec.geometry) one record: outputs
       start + step q read frame[q in_step + offset + before] for each tap.
    3. Its weights are taken from those of the layer: weights[k] = w[index[k]], w row major.

One and two axes are three whose first have size 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product
from typing import Final

import numpy as np
import numpy.typing as npt

from omniconv.choices import check_instance
from omniconv.records import dataclass
from omniconv.spec import Conv, Phase, Shape
from omniconv.spec.geometry import Pair

ALONE: Final = Phase(0, 1, 1, 1, ((0, 0),))
"""The phase of an axis that is not there."""


@dataclass(frozen=True, slots=True)
class TapCall:
    """One record, without addresses.

    Attributes:
        words: name -> value, for the names of :data:`omniconv.web.taps.WORDS` that are no addresses.
        y_start: element of y at which the record's y begins. Its x begins where the frame does.
        offsets: of the taps [elements].
        index: for each weight its place among those of the layer; T for each output channel.
    """

    words: dict[str, int]
    y_start: int
    offsets: npt.NDArray[np.int32]
    index: npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class TapPlan:
    """All that a convolution takes.

    Attributes:
        output: shape of y.
        margins: for each axis the positions of the frame before and after x.
        frame: shape of the frame, ``(N, C, *spatial)``.
        mode: how the margins are filled, a padding mode of `Conv`.
        calls: one for each phase.
    """

    output: Shape
    margins: tuple[Pair, ...]
    frame: Shape
    mode: str
    calls: tuple[TapCall, ...]


def plan_taps(spec: Conv, shape: Sequence[int]) -> TapPlan:
    """Plan one convolution.

    Example:
        >>> plan = plan_taps(Conv.of(1, 1, 3, dims=1, padding=1, dilation=2), (1, 1, 8))
        >>> plan.output, plan.margins, plan.frame, plan.calls[0].offsets.tolist()
        ((1, 1, 6), ((1, 1),), (1, 1, 10), [0, 2, 4])

    Raises:
        DataError: no convolution, e.g. a chain, whose convolutions are planned one by one.
        ShapeError: an input that the layer does not take.
    """
    check_instance("spec", spec, (Conv,), need="a Conv", fix="the convolutions of a chain one by one")
    shape, output = spec.check_input(shape), spec.output_shape(shape)
    phases = spec.phases(shape)
    margins = tuple(map(_measure_margins, phases, shape[2:]))
    frame = (*shape[:2], *(before + size + after for (before, after), size in zip(margins, shape[2:], strict=True)))
    missing = 3 - spec.dims
    axes = [(ALONE,)] * missing + list(phases)
    before = [0] * missing + [pair[0] for pair in margins]
    calls = [_plan_call(spec, parts, before, frame, output) for parts in product(*axes)]
    return TapPlan(output, margins, frame, spec.padding_mode, tuple(calls))


def _measure_margins(phases: Sequence[Phase], size: int) -> Pair:
    """Positions that some tap reads before the first and after the last input of an axis."""
    read = [(offset, (phase.count - 1) * phase.in_step + offset) for phase in phases for _, offset in phase.taps]
    return max(0, *(-low for low, _ in read), 0), max(0, *(high - size + 1 for _, high in read), 0)


def _pitches(shape: Shape) -> list[int]:
    """Distances of neighbours on every axis, three spatial ones, of an array without gaps [elements]."""
    full = (*shape[:2], *(1,) * (5 - len(shape)), *shape[2:])
    return [math.prod(full[axis + 1 :]) for axis in range(5)]


def _plan_call(spec: Conv, parts: Sequence[Phase], before: Sequence[int], frame: Shape, output: Shape) -> TapCall:
    """The record of one phase."""
    inside, outside = _pitches(frame), _pitches(output)
    inputs, outputs = spec.in_channels // spec.groups, spec.out_channels // spec.groups
    kernel = (1,) * (3 - spec.dims) + spec.kernel_size
    taps = list(product(*(phase.taps for phase in parts)))
    offsets = [
        j * inside[1] + sum((offset + b) * pitch for (_, offset), b, pitch in zip(tap, before, inside[2:], strict=True))
        for j in range(inputs)
        for tap in taps
    ]
    places = np.array([np.ravel_multi_index([t for t, _ in tap], kernel) for tap in taps], np.int64)
    channels, members = np.divmod(np.arange(spec.out_channels), outputs)
    rows = np.arange(inputs)
    if spec.transposed:  # (in_channels, out_channels / groups, *kernel)
        pairs = (channels[:, None] * inputs + rows) * outputs + members[:, None]
    else:
        pairs = np.arange(spec.out_channels)[:, None] * inputs + rows
    index = pairs[:, :, None] * math.prod(kernel) + places
    words = {
        "taps": len(offsets),
        "images": output[0],
        "groups": spec.groups,
        "channels": outputs,
        **dict(zip(("planes", "rows", "columns"), (phase.count for phase in parts), strict=True)),
        "x_image": inside[0],
        "x_group": inputs * inside[1],
        "y_image": outside[0],
        "y_channel": outside[1],
    }
    for name, phase, x_pitch, y_pitch in zip(("plane", "row", "column"), parts, inside[2:], outside[2:], strict=True):
        words[f"x_{name}"] = phase.in_step * x_pitch
        words[f"y_{name}"] = phase.step * y_pitch
    start = sum(phase.start * pitch for phase, pitch in zip(parts, outside[2:], strict=True))
    return TapCall(words, start, np.array(offsets, np.int32), index.ravel().astype(np.int32))
