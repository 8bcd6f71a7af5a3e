r"""Products of two values, through the panel kernel.

.. math:: y_{b, m, n} = \sum_k x_{b, m, k} \, w_{b, k, n}

Every axis before the last two becomes an axis of positions, on which the weights may lie apart. Both sides are read
through their strides, so that a transpose before them is part of the packing. The right side is read as it lies where
its columns are neighbours and its rows near enough for the first-level cache, else it is packed at every call, once for
all that share it. The result is laid out as a transpose behind it wants it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Final, NamedTuple

import numpy as np

from omniconv.compiler.emit.epilogue import Post
from omniconv.compiler.kernels.panel.kernel import Panel
from omniconv.compiler.kernels.panel.lower import DIRECT
from omniconv.compiler.kernels.panel.packing import pack_panels
from omniconv.compiler.kernels.panel.row import ARGS
from omniconv.compiler.kernels.panel.tiles import plan_panel
from omniconv.compiler.lowering.arrange import PAGE, WAYS, as_channels_last, as_row_major, copy_axes, copy_value
from omniconv.compiler.lowering.posts import lower_posts
from omniconv.compiler.memory.layout import Layout, row_major
from omniconv.compiler.memory.planner import Planner
from omniconv.compiler.memory.storage import BufferRef, Stored, reshape_strides
from omniconv.compiler.problem.candidate import UNITS
from omniconv.compiler.problem.problem import Problem
from omniconv.compiler.problem.walk import AxisWalk
from omniconv.integers import ceil_div
from omniconv.program.rewrite import count_readers
from omniconv.program.steps import Array, ProductStep, RearrangeStep
from omniconv.spec import Shape

SPREAD: Final = 2**18
"""A right side is read as it lies if a column of it spans so much memory at most [bytes]: one page for each of its rows
would take more entries than the tables of addresses near a core have."""
TILES: Final = 8
"""Tiles in a unit of work that has all panels, at least."""
POSITIONS: Final = 4
"""Axes of positions that the panel kernel has."""


class _Side(NamedTuple):
    """One of the three matrices: its place, the strides of the axes before, of its rows and of its columns."""

    ref: BufferRef
    batch: tuple[int, ...]
    rows: int
    columns: int


class _Axis(NamedTuple):
    """An axis of positions: its size and the strides of x, w, y and the operands of the epilogue."""

    size: int
    strides: tuple[int, ...]


def lower_product(planner: Planner, step: ProductStep) -> None:
    """A product of two values."""
    shape = planner.shape(step.y)
    rank, rows, columns = len(shape), *shape[-2:]
    depth = planner.shape(step.x)[-1]
    turned = columns == 1 < rows  # a matrix times a vector: vectors run along the rows
    x, w = _find(planner, step.x), _find(planner, step.w)
    if not turned and x.layout.strides[-1] != 1 and depth >= DIRECT and rows > 1:
        x = as_row_major(planner, step.x)
    along = rank - 2 if turned else rank - 1
    result = _result(planner, step, along)
    left, right, out = _see(x, rank), _see(w, rank), _see(result, rank)
    posts, refs = lower_posts(planner, step.post, shape, ARGS, [[axis] for axis in range(rank)])
    steps = [_steps(post, rank) for post in posts]
    if turned:
        left, right = _turn(right), _turn(left)
        out = _turn(out)
        rows, columns = columns, rows
        steps = [each if each is None else (*each[:-2], each[-1], each[-2]) for each in steps]
    sizes = (*shape[:-2], rows)
    moving = [[*each[:-1]] for each in steps if each is not None]
    source = step.x if turned else step.w

    def join(w_batch: Sequence[int], x_side: _Side = left) -> list[_Axis] | None:
        strides = [(*x_side.batch, x_side.rows), (*w_batch, 0), (*out.batch, out.rows), *moving]
        return _merge([_Axis(size, tuple(each)) for size, *each in zip(sizes, *strides, strict=True)])

    apart = [size if stride else 1 for size, stride in zip(shape[:-2], right.batch, strict=True)]
    matrices = tuple(s if size > 1 else 0 for size, s in zip(apart, row_major(tuple(apart)).strides, strict=True))
    direct = source not in planner.known and right.columns == 1 and not _crowded(planner, right, depth)
    axes = join(right.batch if direct else matrices)
    if axes is None:
        # Broadcasts of both sides alternate: each is spread over all matrices.
        direct, apart = False, list(shape[:-2])
        matrices = row_major(shape[:-2]).strides
        left = _spread(planner, left, (*shape[:-2], rows, depth))
        axes = join(matrices, left)
        assert axes is not None, "the operands of an epilogue alternate between axes"
    n, *walks = (axis.size for axis in axes)
    problem = Problem(n, (AxisWalk.flat(walks[0]), AxisWalk.flat(walks[1]), AxisWalk.flat(walks[2])), 1, depth, columns)
    tile = plan_panel(problem, planner.target)
    x_strides, w_strides, y_strides, *moved = ([axis.strides[i] for axis in axes] for i in range(3 + len(moving)))
    recipe = Panel(
        batch=n,
        axes=problem.axes,
        groups=1,
        inputs=depth,
        outputs=columns,
        x_strides=_four(x_strides),
        y_strides=_four(y_strides),
        x_channel=left.columns,
        x_group=0,
        y_group=columns,
        mapped=False,
        tail=False,
        posts=_place_posts(posts, steps, moved),
        tile=replace(tile, inner=tile.inner or any(w_strides)),
        lanes=planner.target.lanes,
        w_line=(right.rows or columns) if direct else 0,
    )
    recipe = _sweep(recipe)
    size = 1 if direct else recipe.depth * recipe.columns
    recipe = replace(recipe, w_strides=(w_strides[0] * size, w_strides[1] * size, w_strides[2] * size))
    if direct:
        weights, why = right.ref, "the right side is read as it lies"
    elif source in planner.known:
        known = planner.known[source]
        weights = planner.constant(math.prod(apart) * size, lambda: _pack_known(known, turned, apart, recipe))
        why = "the right side is a constant"
    else:
        outer = list(zip(apart, right.batch, strict=True))
        weights = pack_panels(planner, recipe, right.ref, outer, [(depth, right.rows)], right.columns)
        why = "the right side is packed at each call"
    zero = planner.zeros(max(recipe.columns, depth * abs(left.columns) + 1))
    how = f"{why}; both are transposed, because it is one column" if turned else why
    planner.call(recipe, [left.ref, weights, zero, out.ref, zero, zero, *refs], "panel", how=how)
    if result is not planner.stored[step.y]:
        copy_value(planner, result, planner.stored[step.y])


def _sweep(recipe: Panel) -> Panel:
    """The kernel with all panels in a unit of work, where that leaves units enough: rows are then written whole."""
    block = min(recipe.tile.block, ceil_div(TILES, recipe.panels))
    swept = replace(recipe, sweep=True, tile=replace(recipe.tile, block=block))
    return swept if swept.units >= UNITS else recipe


def _find(planner: Planner, name: str) -> Stored:
    """A value that strides describe."""
    found = planner.get(name)
    return found if found.layout.channels is None else as_channels_last(planner, name)


def _see(value: Stored, rank: int) -> _Side:
    """A value as matrices along ``rank - 2`` axes, those that it lacks or is broadcast along with a stride of 0."""
    *batch, rows, columns = (
        0 if size == 1 else stride for size, stride in zip(value.layout.shape, value.layout.strides, strict=True)
    )
    return _Side(value.ref, (0,) * (rank - 2 - len(batch)) + tuple(batch), rows, columns or 1)


def _turn(side: _Side) -> _Side:
    """The transposed matrices."""
    return side._replace(rows=side.columns, columns=side.rows or 1)


def _result(planner: Planner, step: ProductStep, along: int) -> Stored:
    """Where the kernel writes: vectors run along an axis. If that is not the value's own place, a copy follows."""
    shape = planner.shape(step.y)
    place = planner.places.get(step.y)
    for found in (place and Stored(*place), planner.wanted.get(step.y)):
        if found and (found.layout.strides[along] == 1 or shape[along] == 1):
            planner.stored[step.y] = found
            return found
    if place is not None:
        planner.produce(step.y)
        return planner.fresh_plain(shape)
    found = _foresee(planner, step, along)
    if found is None:
        return planner.produce(step.y, plain=True)
    planner.stored[step.y] = found
    return found


def _foresee(planner: Planner, step: ProductStep, along: int) -> Stored | None:
    """The result as a transpose that is all that reads it wants it, so that this is a view; ``None`` without one."""
    shape = planner.shape(step.y)
    reader = next((other for other in planner.program.steps if step.y in other.reads), None)
    if count_readers(planner.program)[step.y] != 1 or not isinstance(reader, RearrangeStep) or reader.split != shape:
        return None
    sizes = tuple(shape[axis] for axis in reader.perm)
    target = planner.shape(reader.y)
    place = planner.places.get(reader.y)
    if place is not None:
        moved = reshape_strides(target, place[2].strides, sizes)
    else:
        moved = row_major(sizes).strides
    if moved is None or (moved[reader.perm.index(along)] != 1 and shape[along] > 1):
        return None
    strides = tuple(moved[reader.perm.index(axis)] for axis in range(len(shape)))
    layout = Layout(shape, strides, readable=place is None)
    if place is not None:
        return Stored(place[0], place[1], layout)
    return Stored(planner.add_buffer("arena", layout.extent + planner.target.lanes), 0, layout)


def _crowded(planner: Planner, side: _Side, depth: int) -> bool:
    """Whether the rows of a right side are too far apart for the first-level cache, or share too few sets of it."""
    stride = planner.target.element.bytes * abs(side.rows)
    return depth * stride > SPREAD or 2 * depth > WAYS * (PAGE // math.gcd(stride, PAGE))


def _spread(planner: Planner, side: _Side, shape: Shape) -> _Side:
    """A left side copied to as many matrices as the result has."""
    room = planner.fresh_plain(shape)
    strides = (*side.batch, side.rows, side.columns)
    copy_axes(planner, list(zip(shape, strides, room.layout.strides, strict=True)), side.ref, room.ref)
    return _see(room, len(shape))


def _steps(post: Post, rank: int) -> tuple[int, ...] | None:
    """Strides of an epilogue's operand along the axes of the result; ``None`` where it has none."""
    if post.operand is None:
        return None
    n, c, *rest = post.operand.strides
    return (n, *rest[3 - (rank - 2) :], c) if rank > 2 else (n, c)


def _merge(axes: Sequence[_Axis]) -> list[_Axis] | None:
    """The axes of positions of the kernel, the last one with the same weights all along; ``None`` of too many."""
    found: list[_Axis] = []
    for axis in axes:
        if axis.size == 1:
            continue
        joined = found and all(a == axis.size * b for a, b in zip(found[-1].strides, axis.strides, strict=True))
        if joined:
            found[-1] = _Axis(found[-1].size * axis.size, axis.strides)
        else:
            found.append(axis)
    single = _Axis(1, (0,) * len(axes[0].strides))
    if not found or found[-1].strides[1]:
        found.append(single)
    return None if len(found) > POSITIONS else [single] * (POSITIONS - len(found)) + found


def _place_posts(
    posts: Sequence[Post], steps: Sequence[tuple[int, ...] | None], moved: Sequence[Sequence[int]]
) -> tuple[Post, ...]:
    """The epilogue over the kernel's axes of positions."""
    rest = iter(moved)
    found = []
    for post, step in zip(posts, steps, strict=True):
        if post.operand is not None and step is not None:
            n, d, h, w = next(rest)
            post = replace(post, operand=replace(post.operand, strides=(n, step[-1], d, h, w)))
        found.append(post)
    return tuple(found)


def _pack_known(known: Array, turned: bool, apart: Sequence[int], recipe: Panel) -> Array:
    """A constant right side, packed once: matrices one after another."""
    matrices = known.swapaxes(-1, -2) if turned else known
    spread = np.broadcast_to(matrices, (*apart, *matrices.shape[-2:])).reshape(-1, *matrices.shape[-2:])
    weights = spread.swapaxes(-1, -2).reshape(-1, recipe.inputs, 1, 1, 1)
    return replace(recipe, groups=len(spread)).pack_weights(weights, transposed=False, flip=False)


def _four(values: Sequence[int]) -> tuple[int, int, int, int]:
    return values[0], values[1], values[2], values[3]
