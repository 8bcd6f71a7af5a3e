"""Connectivity: which input channels reach which outputs of grouped and shuffled stacks, and over how many paths."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from omniconv.analysis.record import Record
from omniconv.analysis.subject import (
    Subject,
    as_program,
    check_subject,
    default_shape,
    find_source,
    find_tensor,
    needed_steps,
)
from omniconv.analysis.taps import AnyArray, pad_index, take
from omniconv.errors import ShapeError
from omniconv.program.program import Program
from omniconv.program.steps import (
    WITH_POSTS,
    ChannelStep,
    ConcatStep,
    ConstantStep,
    ConvStep,
    DenseStep,
    LrnStep,
    PadStep,
    ProductStep,
    ProgramStep,
    RearrangeStep,
    SliceStep,
    SoftmaxStep,
    weight_values,
)
from omniconv.spec import Chain, Conv, Shape, Shuffle, Spec
from omniconv.spec.chain import Step

LARGEST_INT = 2**62


@dataclass(frozen=True, slots=True)
class Repair(Record):
    """Shuffles that connect more.

    Attributes:
        after: indices of the grouped steps that one goes behind, each with the groups of that step.
        spec: the chain with them.
        fraction: connected pairs of the repaired chain.
    """

    after: tuple[int, ...]
    spec: Chain
    fraction: float


@dataclass(frozen=True, eq=False)
class Connectivity(Record):
    """Which inputs reach which outputs.

    Attributes:
        tensor, source: names.
        matrix: boolean, outputs x inputs.
        paths: how many paths of channels join each pair (taps not counted); int64, or Python integers where larger.
        blocks: sets of (outputs, inputs) that see nothing of one another, as counts.
        repairs: shuffles that would connect more, best first; for chains.
    """

    tensor: str
    source: str
    matrix: npt.NDArray[np.bool_] = field(repr=False)
    paths: AnyArray = field(repr=False)
    blocks: tuple[tuple[int, int], ...]
    repairs: tuple[Repair, ...] = ()

    @property
    def full(self) -> bool:
        """Whether every output sees every input."""
        return bool(self.matrix.all())

    @property
    def fraction(self) -> float:
        """Share of the pairs that are connected."""
        return float(self.matrix.mean()) if self.matrix.size else 0.0


def connectivity(
    x: Subject, tensor: str | None = None, shape: Sequence[int] | None = None, *, source: str | None = None
) -> Connectivity:
    """Which input channels each output channel depends on, anywhere in space.

    Formula:
        matrix = product, over the steps, of group masks (output c sees input j iff c g / out = j g / in, rounded down)
        and of the permutations of shuffles; paths is the same product in integers, with the sum at merges.

    Example:
        >>> from omniconv.kinds import shuffled_grouped
        >>> found = connectivity(shuffled_grouped(8, 8, groups=2, form="layers", padding=1))
        >>> found.full, found.paths[0].tolist()
        (True, [2, 2, 2, 2, 2, 2, 2, 2])

    Args:
        x: a `Conv`, `Chain` or `Program`.
        tensor: name of the value; default the first output.
        shape: input shape, where a spec needs one; channels do not depend on it.
        source: name of the input; default the first.

    Raises:
        SpecError: no such tensor or input.
    """
    x = check_subject(x)
    program = x if isinstance(x, Program) else as_program(x, shape or _any_shape(x))
    tensor, source = find_tensor(program, tensor), find_source(program, source)
    paths = count_paths(program, tensor, source)
    matrix = np.asarray(paths != 0, bool)
    repairs = find_repairs(x, shape) if isinstance(x, Chain) and not matrix.all() else ()
    return Connectivity(tensor, source, matrix, paths, find_blocks(matrix), repairs)


def _any_shape(spec: Spec) -> Shape:
    """The smallest input that is tried and fits."""
    for size in (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024):
        shape = default_shape(spec, size)
        try:
            spec.output_shape(shape)
        except ShapeError:
            continue
        return shape
    raise ShapeError("no shape was given and none that was tried fits", need="shape=(N, C, *spatial)", at=spec.text())


def count_paths(program: Program, tensor: str, source: str) -> AnyArray:
    """Number of channel paths from each channel of ``source`` to each channel of ``tensor``."""
    size = _channels(program.shapes[source])
    counts: dict[str, AnyArray] = {source: np.eye(size, dtype=np.int64)}
    for index in needed_steps(program, tensor):
        step = program.steps[index]
        if isinstance(step, ConcatStep):
            parts = [_get(program, counts, name, size) for name in step.xs]
            counts[step.y] = np.concatenate(parts) if step.axis == 1 else _total(parts)
            continue
        if isinstance(step, ConstantStep):
            continue
        found = _forward(program, step, _get(program, counts, step.x, size))
        found = _fit(found, _channels(program.shapes[step.y]))
        for name in weight_values(step):
            found = _total([found, _forward_weights(program, step, name, _get(program, counts, name, size))])
        for post in step.post if isinstance(step, WITH_POSTS) else ():
            if isinstance(post.operand, str):
                other = _get(program, counts, post.operand, size)
                found = _total([found, _fit(other, found.shape[0])])
        counts[step.y] = found
    return _get(program, counts, tensor, size)


def _channels(shape: Shape) -> int:
    return shape[1] if len(shape) > 1 else 1


def _get(program: Program, counts: dict[str, AnyArray], name: str, size: int) -> AnyArray:
    found = counts.get(name)
    return np.zeros((_channels(program.shapes[name]), size), np.int64) if found is None else found


def _fit(found: AnyArray, channels: int) -> AnyArray:
    """Broadcast a single channel over several."""
    return np.broadcast_to(found, (channels, found.shape[1])) if found.shape[0] == 1 < channels else found


def _widen(parts: Sequence[AnyArray], terms: int) -> list[AnyArray]:
    """Python integers where a sum of ``terms`` could overflow."""
    largest = max((int(abs(part).max()) if part.size else 0) for part in parts)
    if largest * terms >= LARGEST_INT:
        return [part.astype(object) for part in parts]
    return list(parts)


def _total(parts: Sequence[AnyArray]) -> AnyArray:
    wide = _widen(parts, len(parts))
    result = wide[0]
    for part in wide[1:]:
        result = result + part
    return result


def _sums(found: AnyArray, groups: int, outputs: int) -> AnyArray:
    """Each of ``outputs`` channels sees all of its group."""
    (wide,) = _widen([found], max(1, found.shape[0] // groups))
    sums = wide.reshape(groups, -1, found.shape[1]).sum(axis=1)
    return np.repeat(sums, outputs // groups, axis=0)


def _forward(program: Program, step: ProgramStep, x: AnyArray) -> AnyArray:
    shape, result = program.shapes[_source(step)], program.shapes[step.y]
    match step:
        case ConvStep():
            return _sums(x, step.spec.groups, step.spec.out_channels)
        case DenseStep():
            return _sums(x, 1, result[1]) if len(shape) == 2 else x
        case ProductStep():
            own = len(shape) == len(result) > 2
            return _fit(x, result[1]) if own else _sums(x, 1, _channels(result))
        case ChannelStep():
            return x[list(step.source)]
        case SoftmaxStep():
            return _sums(x, 1, x.shape[0]) if step.axis % len(shape) == 1 else x
        case LrnStep():
            channels = x.shape[0]
            (x,) = _widen([x], step.size)
            rows = [
                x[max(c - (step.size - 1) // 2, 0) : min(c + step.size // 2, channels - 1) + 1].sum(axis=0)
                for c in range(channels)
            ]
            return np.stack(rows)
        case SliceStep():
            return x[step.starts[1] + step.steps[1] * np.arange(result[1])] if len(shape) > 1 else x
        case PadStep():
            return take(x, 0, pad_index(x.shape[0], step.pads[1], step.mode)) if len(shape) > 1 else x
        case RearrangeStep():
            return _rearranged(step, shape, result, x)
        case _:
            return x


def _forward_weights(program: Program, step: ProgramStep, name: str, x: AnyArray) -> AnyArray:
    """What weights that are computed bring to each channel: each its own where they are the columns of a product or
    the axes before them, else all of them.
    """
    shape, result = program.shapes[name], program.shapes[step.y]
    rank = len(shape)
    if isinstance(step, ProductStep) and rank == len(result) != 3:
        return _fit(x, result[1])
    return _sums(x, 1, _channels(result))


def _source(step: ProgramStep) -> str:
    assert not isinstance(step, ConcatStep | ConstantStep)
    return step.x


def _rearranged(step: RearrangeStep, shape: Shape, result: Shape, x: AnyArray) -> AnyArray:
    """Each output channel sees the channels whose values land in it; once, however many values there are."""
    labels = np.arange(_channels(shape))
    if len(shape) > 1:
        labels = labels.reshape(1, -1, *(1,) * (len(shape) - 2))
    moved = np.broadcast_to(labels, shape).reshape(step.split).transpose(step.perm).reshape(result)
    rows = np.moveaxis(moved, 1, 0).reshape(result[1], -1) if len(result) > 1 else moved.reshape(1, -1)
    if (rows == rows[:, :1]).all():
        return x[rows[:, 0]]
    (x,) = _widen([x], rows.shape[1])
    return np.stack([x[np.unique(row)].sum(axis=0) for row in rows])


def find_blocks(matrix: npt.NDArray[np.bool_]) -> tuple[tuple[int, int], ...]:
    """Sizes (outputs, inputs) of the parts that share no connection, in order of their first output."""
    rows_left = np.ones(matrix.shape[0], bool)
    blocks = []
    while rows_left.any():
        rows = np.zeros_like(rows_left)
        rows[np.flatnonzero(rows_left)[0]] = True
        while True:
            columns = matrix[rows].any(axis=0)
            wider = matrix[:, columns].any(axis=1) | rows
            if (wider == rows).all():
                break
            rows = wider
        rows_left &= ~rows
        blocks.append((int(rows.sum()), int(columns.sum())))
    return tuple(blocks)


def find_repairs(chain: Chain, shape: Sequence[int] | None = None) -> tuple[Repair, ...]:
    """Shuffles behind one grouped layer, or behind all of them, that connect more than the chain does."""
    shape = tuple(shape) if shape is not None else _any_shape(chain)

    def measure(spec: Chain) -> float:
        program = as_program(spec, shape)
        return float((count_paths(program, program.outputs[0], program.inputs[0]) != 0).mean())

    base = measure(chain)
    places = [
        index
        for index, step in enumerate(chain.steps[:-1])
        if isinstance(step, Conv)
        and step.groups not in (1, step.out_channels)
        and not isinstance(chain.steps[index + 1], Shuffle)
    ]
    found: list[Repair] = []
    for chosen in [(place,) for place in places] + ([tuple(places)] if len(places) > 1 else []):
        steps: list[Step] = []
        for index, step in enumerate(chain.steps):
            steps.append(step)
            if index in chosen and isinstance(step, Conv):
                steps.append(Shuffle(step.groups))
        spec = Chain(tuple(steps))
        fraction = measure(spec)
        if fraction > base:
            found.append(Repair(chosen, spec, fraction))
    return tuple(sorted(found, key=lambda repair: (-repair.fraction, len(repair.after), repair.after)))


def least_layers(channels: int, groups: int) -> int:
    """Grouped layers, with a shuffle between each two, until every output sees every input.

    Formula:
        the smallest n with (channels / groups)^n >= channels; 1 for one group.

    Example:
        >>> least_layers(64, 8), least_layers(64, 16)
        (2, 3)
    """
    width = channels // groups
    if channels % groups or width < 2:
        return 1 if groups == 1 else 0
    return math.ceil(round(math.log(channels, width), 9))
