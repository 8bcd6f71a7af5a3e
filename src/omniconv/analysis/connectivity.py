"""Connectivity: which input channels reach which outputs of grouped and shuffled stacks, and over how many paths."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import field

import numpy as np
import numpy.typing as npt

from omniconv.analysis.push import push
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
from omniconv.analysis.taps import AnyArray
from omniconv.errors import ShapeError
from omniconv.integers import as_integer, as_shape
from omniconv.program.dependence import Blocks, Broadcast, Everything, Form, Product, Regroup, Scale, Window
from omniconv.program.program import Program
from omniconv.records import dataclass
from omniconv.spec import Chain, Conv, Shape, Shuffle, Spec
from omniconv.spec.chain import ChainStep

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
    program = x if isinstance(x, Program) else as_program(x, _any_shape(x) if shape is None else shape)
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

    def held(name: str) -> AnyArray:
        found = counts.get(name)
        return np.zeros((size, _channels(program.shapes[name])), np.int64) if found is None else found

    for index in needed_steps(program, tensor):
        step = program.steps[index]
        parts = []
        for part in program.dependence(step).parts:
            x = held(part.name)
            for form in part.forms:
                x = _through(form, x)
            parts.append(x)
        if parts:
            counts[step.y] = _total(parts)
    return held(tensor).T


def _channels(shape: Shape) -> int:
    return shape[1] if len(shape) > 1 else 1


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


def _through(form: Form, x: AnyArray) -> AnyArray:
    """What reaches each channel, one row for each input: axis 1 is that of the channels, and no other is looked at."""
    match form:
        case Regroup():
            return _rearranged(form, x)
        case Broadcast():
            return np.broadcast_to(x, (x.shape[0], _channels(form.shape)))
        case Scale():
            return x
        case Everything():
            form = Blocks(1, x.shape[1], _channels(form.shape))
        case Product():
            form = form.blocks
    if form.axis != 1:
        return x
    terms = 1
    if isinstance(form, Blocks):
        terms = form.inputs // form.groups
    elif isinstance(form, Window):
        terms = form.taps.kernel
    (x,) = _widen([x], terms)
    return push(form, x, "count")


def _rearranged(form: Regroup, x: AnyArray) -> AnyArray:
    """Each output channel sees the channels whose values land in it; once, however many values there are."""
    labels = np.arange(_channels(form.source))
    if len(form.source) > 1:
        labels = labels.reshape(1, -1, *(1,) * (len(form.source) - 2))
    moved = push(form, np.broadcast_to(labels, form.source), "count")
    rows = np.moveaxis(moved, 1, 0).reshape(form.shape[1], -1) if len(form.shape) > 1 else moved.reshape(1, -1)
    if (rows == rows[:, :1]).all():
        return x[:, rows[:, 0]]
    (x,) = _widen([x], rows.shape[1])
    return np.stack([x[:, np.unique(row)].sum(axis=1) for row in rows], axis=1)


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
    shape = _any_shape(chain) if shape is None else as_shape(shape, at=chain.text())

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
        steps: list[ChainStep] = []
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
    channels, groups = as_integer("channels", channels), as_integer("groups", groups)
    width = channels // groups
    if channels % groups or width < 2:
        return 1 if groups == 1 else 0
    return math.ceil(round(math.log(channels, width), 9))
