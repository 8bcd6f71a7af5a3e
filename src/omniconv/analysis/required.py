"""The part of an input that a part of an output needs: what a tile has to read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import field
from typing import Any

import numpy as np

from omniconv.analysis.border import Mask, find_border
from omniconv.analysis.record import Record
from omniconv.analysis.subject import Subject, as_program, find_source, find_tensor
from omniconv.analysis.support import bounding_box, spatial
from omniconv.analysis.trace import trace
from omniconv.errors import SpecError
from omniconv.integers import as_integers, read_sequence
from omniconv.limits import check_memory
from omniconv.records import dataclass
from omniconv.spec import Shape


@dataclass(frozen=True, eq=False)
class RequiredInput(Record):
    """What a region of a value needs of one input.

    Attributes:
        tensor, source: names of the value and of the input.
        input_shape, output_shape: their shapes.
        output_box: the region of the value, a half-open range for each spatial axis.
        box: the smallest region of the input that holds all positions that are needed, likewise; empty where none is.
        channels: those of the input that are needed anywhere, as the smallest half-open range; ``(0, 0)`` for none.
        support: for each spatial position of the input, whether it is needed (exact, with holes).
        padded: whether the region also depends on the padding of some layer.
    """

    tensor: str
    source: str
    input_shape: Shape
    output_shape: Shape
    output_box: tuple[tuple[int, int], ...]
    box: tuple[tuple[int, int], ...]
    channels: tuple[int, int]
    support: Mask = field(repr=False)
    padded: bool

    @property
    def positions(self) -> int:
        """Spatial positions in ``box``."""
        return math.prod(stop - start for start, stop in self.box) if self.support.any() else 0

    @property
    def share(self) -> float:
        """Share of the input's positions that lie in ``box``."""
        return self.positions / self.support.size


def required_input(
    x: Subject,
    box: Sequence[Sequence[int]],
    tensor: str | None = None,
    shape: Sequence[int] | None = None,
    *,
    source: str | None = None,
) -> RequiredInput:
    """The region of an input that a region of a value needs, all its channels and all of the batch.

    Formula:
        support = all positions that some entry of the region depends on, for generic weights, carried back through
        every step; box = its bounding box. Whatever lies outside ``support`` may be anything without changing the
        region, and each position inside changes it.

    Example:
        >>> from omniconv.spec import Conv
        >>> layer = Conv.of(1, 1, 3, stride=2, padding=1)
        >>> found = required_input(layer, [(0, 2), (1, 3)], shape=(1, 1, 8, 8))
        >>> found.box, found.padded
        (((0, 4), (1, 6)), True)

    Args:
        x: a `Conv`, `Chain` or `Program`.
        box: for each spatial axis of the value a half-open range ``(start, stop)`` of positions.
        tensor: name of a value or of the layer that produces it; default the first output.
        shape: input shape, for a spec.
        source: name of the input; default the first.

    Raises:
        SpecError: no such tensor or source, or a region that the value does not have.
        ShapeError: a spec without a shape, or a shape that does not fit.
        LimitError: larger than the memory limit.
    """
    program = as_program(x, shape)
    tensor, source = find_tensor(program, tensor), find_source(program, source)
    result = program.shapes[tensor]
    region = _check_box(box, result)
    check_memory(2 * sum(math.prod(size) for size in program.shapes.values()), "the supports of all values together")
    demand = np.zeros(result, bool)
    part: tuple[Any, ...] = (..., *(slice(start, stop) for start, stop in region))
    demand[part] = True
    found = trace(program, tensor, demand).get(source)
    whole = np.zeros(program.shapes[source], bool) if found is None else np.asarray(found, bool)
    support = spatial(whole)
    others = tuple(n for n in range(whole.ndim) if n != 1)
    channels = bounding_box(np.asarray(whole.any(axis=others))) if whole.ndim > 1 else ()
    padded = bool(find_border(program, tensor)[part].any())
    return RequiredInput(
        tensor,
        source,
        program.shapes[source],
        result,
        region,
        bounding_box(support) or ((0, 0),) * support.ndim,
        channels[0] if channels else (0, 0),
        support,
        padded,
    )


def _check_box(box: object, shape: Shape) -> tuple[tuple[int, int], ...]:
    """The ranges of a region of a value of ``shape``."""
    sizes = shape[2:]
    need = f"one (start, stop) within 0 to the size for each of {sizes}"
    rows = read_sequence(box)
    if rows is None or len(rows) != len(sizes):
        raise SpecError(f"box={box!r}"[:120] + f" for a value of shape {shape}", need=need)
    found = []
    for row, size in zip(rows, sizes, strict=True):
        pair = as_integers("box", row, None, None, need=need)
        if len(pair) != 2 or not 0 <= pair[0] < pair[1] <= size:
            raise SpecError(f"box has the range {pair} on an axis of size {size}", need=need)
        found.append((pair[0], pair[1]))
    return tuple(found)
