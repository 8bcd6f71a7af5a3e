"""Receptive field of any value of a network: size, stride, centre, padding, exact support, and who sees the border."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import field
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from omniconv.analysis.axis_field import AxisField, PhaseField, find_axes
from omniconv.analysis.border import Mask, find_border
from omniconv.analysis.record import Record
from omniconv.analysis.subject import Subject, as_program, check_subject, default_shape, find_source, find_tensor
from omniconv.analysis.support import bounding_box, check_position, find_support, spatial
from omniconv.errors import ShapeError
from omniconv.integers import as_flag
from omniconv.limits import check_memory
from omniconv.program.program import Program
from omniconv.records import dataclass
from omniconv.spec import Shape

SIZES = (16, 32, 64, 128, 256, 512, 1024, 2048, 4096)


@dataclass(frozen=True, eq=False)
class ReceptiveField(Record):
    """What one value of a network sees of one input.

    Attributes:
        tensor, source: names of the value and of the input.
        input_shape, output_shape: their shapes.
        axes: one :class:`AxisField` for each spatial axis of the input.
        position: the output position that ``support`` belongs to.
        support: for each spatial position of the input, whether that output depends on it (exact, with holes).
        border: for each spatial position of the value, whether it sees the padding of any layer.
        effective: normalised influence of each spatial position on that output, or ``None`` if not asked for.
    """

    tensor: str
    source: str
    input_shape: Shape
    output_shape: Shape
    axes: tuple[AxisField, ...]
    position: Shape
    support: Mask = field(repr=False)
    border: Mask = field(repr=False)
    effective: npt.NDArray[np.float64] | None = field(default=None, repr=False)

    @property
    def size(self) -> tuple[int, ...]:
        """Size of the hull on each axis [input positions]."""
        return tuple(axis.size for axis in self.axes)

    @property
    def stride(self) -> tuple[Fraction | None, ...]:
        """Effective stride on each axis."""
        return tuple(axis.stride for axis in self.axes)

    @property
    def offset(self) -> tuple[Fraction, ...]:
        """Where the field of output 0 is centred on each axis, on average over the phases."""
        return tuple(axis.offset for axis in self.axes)

    @property
    def padding(self) -> tuple[int, ...]:
        """Effective padding on each axis."""
        return tuple(axis.padding for axis in self.axes)

    @property
    def phases(self) -> tuple[tuple[PhaseField, ...], ...]:
        """The field of each output phase, on each axis."""
        return tuple(axis.phases for axis in self.axes)

    @property
    def aligned(self) -> bool:
        """Whether all branches agree on stride and centre, on every axis."""
        return all(axis.aligned for axis in self.axes)

    @property
    def exact(self) -> bool:
        """Whether the hull is exact on every axis; otherwise it is a bound, see :class:`AxisField`."""
        return all(axis.exact for axis in self.axes)

    @property
    def whole(self) -> tuple[str, ...]:
        """Names of the operators that make the field cover a whole axis; empty for a local field."""
        return tuple(sorted({name for axis in self.axes for name in axis.whole}))

    @property
    def density(self) -> float:
        """Share of the support in its own bounding box; 1 where there are no holes, 0 where nothing is seen."""
        box = bounding_box(self.support)
        return float(self.support.sum() / math.prod(b - a for a, b in box)) if box else 0.0

    @property
    def interior(self) -> tuple[tuple[int, int], ...]:
        """On each axis of the value, the half-open range of outputs that do not always see the border."""
        ranges = []
        for axis in range(self.border.ndim):
            others = tuple(n for n in range(self.border.ndim) if n != axis)
            free = np.flatnonzero(~self.border.all(axis=others))
            ranges.append((int(free[0]), int(free[-1]) + 1) if free.size else (0, 0))
        return tuple(ranges)


def receptive_field(
    x: Subject,
    tensor: str | None = None,
    shape: Sequence[int] | None = None,
    *,
    source: str | None = None,
    position: Sequence[int] | None = None,
    gates: bool = True,
    effective: bool = False,
) -> ReceptiveField:
    """What a value of a network sees of an input.

    Formula:
        Hull: first and last of the positions that are read, carried back as sets, last layer first
        (:mod:`omniconv.analysis.runs`), as if the input had no end; what falls into a hole reads nothing.
        Support: the set of positions that the output depends on, for generic weights, carried back exactly through
        every step with all its channels (:mod:`omniconv.analysis.trace`); holes and borders included.
        Stride, offset, padding: field of output o is centred on offset + o stride, and output 0's begins at -padding.

    Example:
        >>> from omniconv.spec import Chain, Conv
        >>> layer = Conv.of(1, 1, 3, dims=1, dilation=2, padding=2)
        >>> field = receptive_field(Chain((layer, layer)), shape=(1, 1, 15))
        >>> field.size, field.stride, field.padding
        ((9,), (Fraction(1, 1),), (4,))
        >>> field.support.nonzero()[0].tolist()
        [3, 5, 7, 9, 11]

    Args:
        x: a `Conv`, `Chain` or `Program`.
        tensor: name of a value or of the layer that produces it; default the first output.
        shape: input shape, for a spec; default one in which some output sees no border, where there is one.
        source: name of the input; default the first.
        position: spatial position of the value that ``support`` is for; default the middle one.
        gates: follow operands that are spread over whole axes, such as squeeze-and-excitation gates; without them the
            field is that of the local path.
        effective: fill in :attr:`ReceptiveField.effective` (see :func:`omniconv.analysis.effective_field`).

    Raises:
        SpecError: no such tensor, source or position.
        ShapeError: a shape that does not fit.
        LimitError: larger than the memory limit.

    Sources:
        A. Araujo, W. Norris, J. Sim: Computing Receptive Fields of Convolutional Neural Networks, Distill, 2019.
    """
    program = fitting_program(x, shape)
    tensor, source = find_tensor(program, tensor), find_source(program, source)
    check_memory(2 * sum(math.prod(size) for size in program.shapes.values()), "the supports of all values together")
    place = check_position(program.shapes[tensor], position)
    gates, effective = as_flag("gates", gates), as_flag("effective", effective)
    axes = find_axes(program, tensor, source, gates=gates)
    support = find_support(program, tensor, source, place, gates=gates)
    border = spatial(find_border(program, tensor, gates=gates))
    heat = None
    if effective:
        from omniconv.analysis.effective import effective_field

        heat = effective_field(program, tensor, source=source, position=place, gates=gates).influence
    return ReceptiveField(
        tensor, source, program.shapes[source], program.shapes[tensor], axes, place, support, border, heat
    )


def fitting_program(x: Subject, shape: Sequence[int] | None = None) -> Program:
    """The program of a subject, for a shape in which some output sees no border where none is given.

    Where every output of every shape that is tried sees the border, the largest of them.

    Raises:
        ShapeError: no shape fits.
    """
    x = check_subject(x)
    if isinstance(x, Program) or shape is not None:
        return as_program(x, shape)
    program: Program | None = None
    for size in SIZES[: {1: 9, 2: 6, 3: 3}[x.dims]]:
        try:
            program = as_program(x, default_shape(x, size))
        except ShapeError:
            continue
        if not find_border(program, program.outputs[0]).all():
            break
    if program is None:
        raise ShapeError("no shape was given and none that was tried fits", need="shape=(N, C, *spatial)", at=x.text())
    return program
