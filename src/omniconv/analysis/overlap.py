"""Overlap (checkerboard): how many taps meet in each output of an upsampling, or in each input of a gradient."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import field
from typing import Final

import numpy as np
import numpy.typing as npt

from omniconv.analysis.border import find_border
from omniconv.analysis.forward import count_forward
from omniconv.analysis.reach import Phases, find_phases
from omniconv.analysis.record import Record
from omniconv.analysis.remedies import Remedy, find_remedies
from omniconv.analysis.subject import Subject, as_program, check_subject, default_shape, find_source, find_tensor
from omniconv.analysis.trace import trace
from omniconv.choices import as_choice
from omniconv.errors import ShapeError
from omniconv.program.program import Program
from omniconv.program.steps import ConvStep
from omniconv.records import dataclass
from omniconv.spec import Axis, Chain, Conv, PixelShuffle, Resize, Shape, Spec

Counts = npt.NDArray[np.float64]

DIRECTIONS: Final = ("output", "gradient")
SIZES: Final = (16, 32, 64, 128, 256, 512, 1024)


@dataclass(frozen=True, eq=False)
class Overlap(Record):
    """How often each phase is met.

    Attributes:
        name: the problem line of a layer or chain, or the name of a value.
        direction: ``"output"``: taps that meet in an output; ``"gradient"``: uses of an input, which is what meets in
            the gradient with respect to it.
        counts: one entry for each phase of each axis, away from borders; whole numbers unless channels differ.
        image: the counts over a whole image, borders included, where a shape was given.
        remedies: what to do about it, with its cost; empty for an even layer.
    """

    name: str
    direction: str
    counts: Counts
    image: Counts | None = field(default=None, repr=False)
    remedies: tuple[Remedy, ...] = ()

    @property
    def verdict(self) -> str:
        """``"even"``, ``"uneven"`` or ``"holes"`` (some phase is never met)."""
        return judge(self.counts)

    @property
    def levels(self) -> tuple[float, ...]:
        """The different counts, ascending: ``(1, 2, 4)`` for 3x3 with stride 2."""
        return tuple(sorted({float(value) for value in self.counts.flat}))

    @property
    def ratio(self) -> float:
        """Largest count over smallest; infinite with holes."""
        low = float(self.counts.min())
        return float(self.counts.max()) / low if low else math.inf


def judge(counts: Counts) -> str:
    """The verdict on counts.

    Example:
        >>> judge(np.array([1.0, 2.0])), judge(np.array([4.0, 0.0])), judge(np.array([2.0, 2.0]))
        ('uneven', 'holes', 'even')
    """
    if not (counts > 0).all():
        return "holes"
    return "even" if np.allclose(counts, counts.flat[0], rtol=1e-9, atol=0) else "uneven"


def count_phases(axis: Axis) -> tuple[int, ...]:
    """Taps that meet in each phase of one axis: of outputs of a transposed one, of inputs in the gradient of another.

    Formula:
        counts[f] = #{t < k : t d = f + p mod s}. All equal iff s divides k and gcd(d, s) = 1; zero for some f iff
        gcd(d, s) > 1 or k < s.

    Example:
        >>> count_phases(Axis(3, 2)), count_phases(Axis(4, 2)), count_phases(Axis(4, 2, dilation=2))
        ((2, 1), (2, 2), (4, 0))
    """
    residues = [t * axis.dilation % axis.stride for t in range(axis.kernel)]
    return tuple(residues.count((f + axis.padding[0]) % axis.stride) for f in range(axis.stride))


def overlap(
    x: Subject, shape: Sequence[int] | None = None, *, tensor: str | None = None, direction: str | None = None
) -> Overlap:
    """How evenly an upsampling meets its outputs, or a strided layer its inputs.

    Formula:
        one axis of one layer: see :func:`count_phases`; N-D is the product, so that 1, 2 becomes 1, 2, 4 in 2-D.
        Chains and networks: counts are propagated through all layers, and read off one period away from borders.

    Example:
        >>> found = overlap(Conv.of(8, 8, 3, stride=2, padding=1, transposed=True))
        >>> found.counts.tolist(), found.levels, found.verdict
        ([[1.0, 2.0], [2.0, 4.0]], (1.0, 2.0, 4.0), 'uneven')

    Args:
        x: a `Conv`, `Chain` or `Program`.
        shape: input shape of a spec; then ``image`` is filled in, and remedies are costed for it.
        tensor: value of a program; default the first output.
        direction: ``"output"`` or ``"gradient"``; default gradient for specs that do not upsample, else output.

    Raises:
        SpecError: an unknown direction.

    Sources:
        A. Odena, V. Dumoulin, C. Olah: Deconvolution and Checkerboard Artifacts, Distill, 2016.
    """
    x = check_subject(x)
    if direction is None:
        direction = "output" if isinstance(x, Program) or _upsamples(x) else "gradient"
    as_choice("direction", direction, DIRECTIONS)
    image = None
    name = tensor or "output"
    if not isinstance(x, Program):
        name = x.text(shape)
        if shape is not None:
            program = as_program(x, shape)
            image = count_image(program, direction, program.outputs[0])
    if isinstance(x, Conv) and (direction == "output") == x.transposed:
        counts = _single(x if shape is None else x.resolve(shape))
    elif isinstance(x, Conv) and direction == "output":
        counts = np.full((1,) * x.dims, float(math.prod(x.kernel_size)))
    else:
        counts = _of_network(x, direction, tensor)
    remedies: tuple[Remedy, ...] = ()
    if isinstance(x, Conv) and x.transposed and direction == "output" and judge(counts) != "even":
        remedies = find_remedies(x, shape)
    return Overlap(name, direction, counts, image, remedies)


def _upsamples(x: Spec) -> bool:
    steps = x.steps if isinstance(x, Chain) else (x,)
    return any((isinstance(s, Conv) and s.transposed) or isinstance(s, PixelShuffle | Resize) for s in steps)


def _single(conv: Conv) -> Counts:
    if isinstance(conv.padding, str):  # "same" with a stride: where the period starts depends on the size
        conv = Conv.of(
            1,
            1,
            conv.kernel_size,
            dims=conv.dims,
            stride=conv.stride,
            dilation=conv.dilation,
            transposed=conv.transposed,
        )
    counts = np.ones(())
    for axis in conv.axes():
        counts = np.multiply.outer(counts, np.asarray(count_phases(axis), np.float64))
    return counts


def count_image(program: Program, direction: str, tensor: str, source: str | None = None) -> Counts:
    """Counts over the spatial positions of ``tensor``, or for the gradient of the input; borders included."""
    if direction == "output":
        counts = count_forward(program, tensor)
        return np.asarray(counts.mean(axis=tuple(range(min(2, counts.ndim)))))
    source = find_source(program, source)
    shape = program.shapes[tensor]
    demand = np.full(shape, 1.0 / (shape[0] * shape[1]))
    found = trace(program, tensor, demand, mode="mean").get(source)
    if found is None:
        return np.zeros(program.shapes[source][2:])
    return np.asarray(found.sum(axis=(0, 1)))


def _of_network(x: Subject, direction: str, tensor: str | None) -> Counts:
    """One period of the counts, from the middle of an image that is large enough."""
    for size in (0,) if isinstance(x, Program) else SIZES[: {1: 7, 2: 5, 3: 3}[x.dims]]:
        try:
            program = x if isinstance(x, Program) else as_program(x, default_shape(x, size))
        except ShapeError:
            continue
        name = find_tensor(program, tensor)
        phases = find_phases(program, name)
        if direction == "gradient":
            found = _gradient_period(program, name, phases)
        else:
            found = _output_period(program, name, phases.period)
        if found is not None:
            return found
    raise ShapeError(
        "no output is far enough from the border to see a whole period of the overlap",
        need="a larger input or fewer layers",
        at=x.text() if not isinstance(x, Program) else tensor or "",
    )


def _block(free: npt.NDArray[np.bool_], period: int) -> tuple[slice, ...] | None:
    """A block of one period on every axis, starting at phase 0, without borders; the one nearest to the middle."""
    slices = []
    for size in free.shape:
        start = max((size // 2 - period // 2) // period * period, 0)
        if start + period > size:
            return None
        slices.append(slice(start, start + period))
    block = tuple(slices)
    return block if free[block].all() else None


def _output_period(program: Program, tensor: str, period: int) -> Counts | None:
    border = find_border(program, tensor)
    seen = np.asarray(border.any(axis=tuple(range(min(2, border.ndim)))), bool)
    block = _block(~seen, period)
    return None if block is None else reduce_period(count_image(program, "output", tensor)[block])


def _gradient_period(program: Program, tensor: str, phases: Phases) -> Counts | None:
    """Inputs all of whose users exist: the counts repeat around the middle with the stride of the whole."""
    source = find_source(program, None)
    image = count_image(program, "gradient", tensor, source)
    blocks = []
    for axis, size in enumerate(image.shape):
        item = next((each for each in phases.on_axis(source, axis + 2) if each is not None), None)
        if item is None or not item.rate or item.whole:
            return None
        stride = int(phases.period * item.rate)
        extent = item.high - item.low + 1
        if size < 2 * extent + 2 * stride:
            return None
        start = (size // 2) // stride * stride
        blocks.append(slice(start, start + stride))
    return reduce_period(image[tuple(blocks)])


def reduce_period(counts: Counts) -> Counts:
    """The shortest block that repeats to the given one, on each axis."""
    for axis, size in enumerate(counts.shape):
        for short in range(1, size):
            if size % short == 0 and np.allclose(counts, np.roll(counts, short, axis), rtol=1e-12, atol=0):
                counts = np.take(counts, range(short), axis)
                break
    return counts


def overlaps(program: Program) -> tuple[tuple[str, Overlap], ...]:
    """Every transposed convolution of a network by label, each on its own."""
    found = []
    for step, label in zip(program.steps, program.labels, strict=True):
        if isinstance(step, ConvStep) and step.spec.transposed:
            shape: Shape = program.shapes[step.x]
            counts = _single(step.spec)
            remedies: tuple[Remedy, ...] = ()
            if judge(counts) != "even":
                remedies = find_remedies(step.spec, shape)
            found.append((label, Overlap(step.spec.text(shape), "output", counts, None, remedies)))
    return tuple(found)
