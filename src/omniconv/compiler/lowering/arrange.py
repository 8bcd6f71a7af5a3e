"""Values in the layout that a step needs: as they lie where that serves, else by a copy that later steps share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Final

import numpy as np

from omniconv.compiler.lowering.copy import Copy
from omniconv.compiler.memory.layout import Layout, row_major
from omniconv.compiler.memory.planner import Planner, Recipe
from omniconv.compiler.memory.storage import BufferRef, Stored, merge_axes, permutation_of
from omniconv.program.element import Element
from omniconv.program.steps import Array, ConstantStep
from omniconv.records import dataclass
from omniconv.spec import Shape
from omniconv.target.model import Target


@dataclass(frozen=True, slots=True)
class OfElement:
    """A kernel that moves numbers of an element which is not the program's."""

    recipe: Copy
    element: Element

    @property
    def units(self) -> int:
        """Those of the kernel."""
        return self.recipe.units

    def emit(self, name: str, target: Target) -> str:
        """Its IR."""
        return self.recipe.emit(name, target.of(self.element))


def of_element(recipe: Copy, element: Element | None) -> Recipe:
    """A copy of numbers of an element as they are, ``None`` for the program's."""
    return recipe if element is None else OfElement(recipe, element)


def as_channels_last(planner: Planner, name: str, rank: int = 0) -> Stored:
    """A value as channels last in natural order, by a copy where it is not; seen with ``rank`` axes, where it has
    fewer.
    """
    found, layout = planner.get(name), layout_channels_last(planner, name, rank)
    if rank <= len(found.layout.shape):
        return found if layout == found.layout else copy_apart(planner, name)
    found = as_channels_last(planner, name) if found.layout.channels is not None else found
    found = replace(found, layout=found.layout.with_rank(rank))
    return found if layout == found.layout else _convert(planner, name, f"last of {rank}", layout, found)


def layout_channels_last(planner: Planner, name: str, rank: int = 0) -> Layout:
    """The layout that :func:`as_channels_last` gives a value."""
    found = planner.get(name).layout
    if rank <= len(found.shape):
        if found.channels_last and found.channels is None:
            return found
        return planner.default_layout(planner.shape(name), planner.get(name).element)
    found = layout_channels_last(planner, name) if found.channels is not None else found
    found = found.with_rank(rank)
    return found if found.channels_last else planner.default_layout(found.shape, planner.get(name).element)


def copy_apart(planner: Planner, name: str) -> Stored:
    """A copy of a value as channels last, whose pixels fall into all sets of the first-level cache."""
    return _convert(planner, name, "last", planner.default_layout(planner.shape(name), planner.get(name).element))


def as_row_major(planner: Planner, name: str) -> Stored:
    """A value in row-major order without gaps, by a copy where it is not."""
    found = planner.get(name)
    if found.layout.plain:
        return found
    return _convert(planner, name, "plain", replace(row_major(found.layout.shape), readable=True))


def as_rows(planner: Planner, name: str) -> tuple[Stored, int]:
    """A value as rows along its last axis at one distance from each other, which is returned too [elements]; by a copy
    where it is not.
    """
    found = planner.get(name)
    *outer, size = found.layout.shape
    *steps, step = found.layout.strides
    rows = None if found.layout.channels is not None else merge_axes(outer, steps)
    if rows is None or (step != 1 < size):
        return as_row_major(planner, name), size
    count, (distance,) = rows
    return found, distance if count > 1 else size


def as_expanded(planner: Planner, name: str, shape: Shape) -> Stored:
    """A value broadcast to ``shape``, in row-major order, by a copy."""
    found = as_row_major(planner, name)
    layout = found.layout.with_rank(len(shape))
    strides = tuple(0 if size == 1 else step for size, step in zip(layout.shape, layout.strides, strict=True))
    found = replace(found, layout=Layout(shape, strides))
    return _convert(planner, name, f"expanded to {shape}", replace(row_major(shape), readable=True), found)


def _convert(planner: Planner, name: str, kind: str, layout: Layout, source: Stored | None = None) -> Stored:
    if (name, kind) not in planner.converted:
        if name in planner.known:
            room = place_constant(planner, np.broadcast_to(planner.known[name], layout.shape), layout)
        else:
            room = planner.room(layout, planner.get(name).element)
            copy_value(planner, source or planner.get(name), room)
        planner.converted[name, kind] = room
    return planner.converted[name, kind]


def lower_constant(planner: Planner, step: ConstantStep) -> None:
    """A constant as a value, row major; whoever needs another layout gets a constant of that layout."""
    planner.known[step.y] = step.value
    layout = replace(row_major(planner.shape(step.y)), readable=True)
    planner.stored[step.y] = place_constant(planner, step.value, layout)


def place_constant(planner: Planner, array: Array, layout: Layout) -> Stored:
    """A constant in memory of its own, with zeros in the gaps and for a vector behind."""
    size = layout.extent + planner.target.lanes

    def make() -> Array:
        room = np.zeros(size, array.dtype)
        strides = [stride * array.itemsize for stride in layout.strides]
        np.lib.stride_tricks.as_strided(room, array.shape, strides)[...] = array
        return room

    return Stored(planner.constant(size, make).buffer, 0, layout)


def copy_value(planner: Planner, x: Stored, y: Stored) -> None:
    """Copy a value into another place and layout, channels put in natural order; rounded or widened, where the other
    place has another element.
    """
    dims = tuple(zip(x.layout.shape, x.layout.strides, y.layout.strides, strict=True))
    element, source, result = _agree(x.ref, y.ref)
    lanes, flags = planner.target_of(element).lanes, {"readable": x.layout.readable, "tail": y.layout.tail}
    if x.layout.channels is None:
        moved = dims if 3 <= len(dims) <= 5 and x.element is y.element is None else ()
        planner.call(of_element(Copy.of(dims, lanes, **flags), element), [source, result], "copy", moved=moved)
        return
    lattice = find_lattice(x.layout.channels)
    if lattice is not None:  # a shuffle of groups is a transpose
        (outer, so), (inner, si) = lattice
        sx, sy = x.layout.strides[1], y.layout.strides[1]
        split = ((outer, so * sx, inner * sy), (inner, si * sx, sy))
        first = source.shift(x.layout.channels[0] * sx)
        recipe = of_element(Copy.of((dims[0], *split, *dims[2:]), lanes), element)
        planner.call(recipe, [first, result], "copy")
        return
    table = planner.table([position * x.layout.strides[1] for position in x.layout.channels])
    recipe = of_element(Copy.of(dims, lanes, mapped=1, **flags), element)
    planner.call(recipe, [source, result, table], "gather")


def copy_axes(planner: Planner, dims: Sequence[tuple[int, int, int]], x: BufferRef, y: BufferRef) -> None:
    """A copy over axes of (size, stride of x, stride of y)."""
    element, source, result = _agree(x, y)
    recipe = Copy.of(tuple(dims), planner.target_of(element).lanes)
    planner.call(of_element(recipe, element), [source, result], "copy")


def _agree(x: BufferRef, y: BufferRef) -> tuple[Element | None, BufferRef, BufferRef]:
    """What a copy moves, and the places as it sees them: bits where both have one element, else numbers."""
    return (x.element, x.bits, y.bits) if x.element is y.element else (None, x, y)


def keep_order(planner: Planner, name: str, result: str) -> Stored:
    """A value with neighbouring channels, in storage order where the step at hand does not care.

    A step that treats all channels alike commutes with a permutation of them; see :func:`restore_order`.
    """
    found = planner.get(name)
    if found.layout.channels_last and permutation_of(found.layout) is not None and result not in planner.places:
        return found
    return as_channels_last(planner, name)


def restore_order(planner: Planner, x: Stored, name: str) -> None:
    """Record that a result has its channels in the order of its input."""
    y = planner.stored[name]
    planner.stored[name] = replace(y, layout=replace(y.layout, channels=x.layout.channels))


PAGE: Final = 4096
"""Addresses so far apart share a set of the first-level cache [bytes]."""


WAYS: Final = 8
"""Lines in such a set."""


def crowded(layout: Layout, element: Element, pixels: int, multiple: int) -> bool:
    """Whether so many pixels that are read together overflow the sets of the first-level cache that they share, because
    they are a multiple of so many bytes apart.

    Kernels that read more pixels side by side than these hold run at a third of their speed; a copy costs less. The
    arena keeps whole values apart, but for multiples of 512 bytes.
    """
    pitch = element.bytes * layout.grid.strides[2]
    held = WAYS * (PAGE // math.gcd(pitch, PAGE))
    return pitch % multiple == 0 and pixels > held and layout.grid.sizes[2] >= 4


def find_lattice(positions: Sequence[int]) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """Sizes and steps of two nested loops that visit ``positions`` in order; ``None`` where there are none.

    Example:
        >>> find_lattice([0, 3, 6, 1, 4, 7, 2, 5, 8])
        ((3, 1), (3, 3))
        >>> find_lattice([0, 1, 3]) is None
        True
    """
    steps = [b - a for a, b in pairwise(positions)]
    inner = next((index for index, step in enumerate(steps) if step != steps[0]), len(steps)) + 1
    outer, rest = divmod(len(positions), inner)
    if rest or not steps:
        return None
    step = positions[inner] - positions[0] if outer > 1 else 0
    visited = [positions[0] + i * step + j * steps[0] for i in range(outer) for j in range(inner)]
    return ((outer, step), (inner, steps[0])) if visited == list(positions) else None
