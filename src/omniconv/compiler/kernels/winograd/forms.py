"""The forms in which a layer's kernel can be filtered: outputs of a block and taps of a part, along each axis."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import product
from typing import Final

from omniconv.compiler.kernels.winograd.blocks import BlockAxis, BlockGrid, Taps
from omniconv.compiler.kernels.winograd.matrices import POINTS, USUAL_POINTS, find_filtering, make_filtering
from omniconv.compiler.problem.problem import USUAL, Problem
from omniconv.compiler.problem.walk import AxisWalk
from omniconv.integers import ceil_div

LIMITS: Final = {
    "close": ((8, 8), 2.0),
    USUAL: ((8, 6), make_filtering(4, 3, USUAL_POINTS).growth ** 2),
    "wide": ((8, 8), find_filtering(6, 3).growth ** 2),
}
"""Points at most, along one axis and along each of two, and growth of rounding errors at most, for each accuracy."""
LONGEST: Final = max(POINTS) - 1
"""Taps of a part at most: with all points there are two outputs of it."""
UNDIVIDED: Final = 5
"""Taps of a kernel that is not taken apart."""
PLANES: Final = (8, 16, 32)
"""Planes that are summed directly in one slab, at most."""


def list_forms(problem: Problem) -> Iterator[BlockGrid]:
    """All forms worth a thought, one block to a slab; none where the layer cannot be filtered.

    Axes with the same kernel have the same form.
    """
    depth, *plane = problem.axes
    direct = depth.kernel > 1 and any(axis.kernel > 1 for axis in plane)
    seen: dict[tuple[int, int, int, int], int] = {}
    kinds = [(axis.kernel, axis.in_step, axis.phases, _find_span(axis)) for axis in problem.axes[direct:]]
    alike = [seen.setdefault(kind, len(seen)) for kind in kinds]
    passes = sum(axis.kernel > 1 for axis in problem.axes[direct:])
    most, growth = LIMITS[problem.accuracy]
    if passes > len(most):
        return
    for sizes in product(*(_list_parts(*kind, most[passes - 1], growth ** (1 / passes)) for kind in seen)):
        filtered = [_filter(axis, *sizes[index]) for axis, index in zip(problem.axes[direct:], alike, strict=True)]
        for planes in _list_planes(depth) if direct else [None]:
            found = filtered if planes is None else [_keep(depth, planes), *filtered]
            yield BlockGrid(problem.batch, (found[0], found[1], found[2]), 1)


def reject_forms(problem: Problem) -> str | None:
    """Why a layer has no form."""
    if problem.taps == 1:
        return "the kernel is a single tap"
    if not all(axis.share_inside for axis in problem.axes):
        return "no tap of the kernel lands in the input"
    for axis in problem.axes:
        if not axis.static and not (axis.phases == axis.out_step and axis.ostep == -1 and min(axis.taps) > 0):
            return "outputs have taps of different distances"
    if problem.axes[0].in_step > 1 or problem.axes[0].phases > 1:
        return "the stride along the depth is not 1"
    for axis in problem.axes:
        if axis.kernel <= max(axis.in_step, axis.phases) > 1:
            return "the kernel is no longer than its stride"
        if axis.in_step > 1 and (axis.ostep != 1 or axis.kernel > UNDIVIDED * axis.in_step):
            return "the kernel has a stride and is dilated or long"
    return None


@lru_cache(maxsize=1024)
def _list_parts(
    kernel: int, stride: int, phases: int, span: int, most: int, growth: float
) -> Sequence[tuple[int, int]]:
    """Outputs and taps (m, r) of an axis, with so many points at most, whose errors grow by no more than that: for a
    kernel in one part all, for one that is taken apart those that save most. Blocks of all phases of the output begin
    at their own places and have the taps of the longest, or at the same one and have those of all.
    """
    if kernel == 1:
        return [(1, 1)] if stride == 1 else []
    if stride > 1:
        lengths = [ceil_div(kernel, stride)]
    elif phases > 1:
        lengths = sorted({ceil_div(kernel, phases), span})
    else:
        lengths = [kernel] if kernel <= UNDIVIDED else list(range(3, LONGEST + 1))
    found = [(n - r + 1, r) for r in lengths for n in POINTS if 1 < r < n <= most]
    found = [(m, r) for m, r in found if find_filtering(m, r).growth <= (1 + 1e-9) * growth]
    if stride == phases == 1 and kernel > UNDIVIDED:
        found.sort(key=lambda form: ceil_div(kernel, form[1]) * (sum(form) - 1) / form[0])
        return found[:2]
    return found


def _list_planes(depth: AxisWalk) -> Sequence[int]:
    """How many planes are summed directly in one slab."""
    rows = ceil_div(depth.output, max(abs(depth.ostep), 1))
    return sorted({ceil_div(rows, ceil_div(rows, most)) for most in PLANES})


def _filter(axis: AxisWalk, m: int, r: int) -> BlockAxis:
    """An axis in blocks of m outputs, with parts of r taps."""
    if axis.phases > 1:
        return _share_phases(axis, m, r)
    stride = axis.in_step
    firsts = range(stride) if stride > 1 else range(0, axis.kernel, r)
    order = range(axis.kernel)[:: -1 if axis.ostep < 0 else 1]
    dilation = abs(axis.ostep) or 1
    return _place(
        axis,
        m,
        r,
        before=-min(axis.first[0], axis.first[0] + (axis.kernel - 1) * axis.ostep),
        dilation=dilation,
        taps=(tuple(_fill(order[first::stride][:r], r) for first in firsts),),
        between=(1 if stride > 1 else r) * dilation,
    )


def _find_lows(axis: AxisWalk) -> list[int]:
    """The first position that each phase of a transposed axis reads. Taps are counted from the last one."""
    return [first - taps + 1 for first, taps in zip(axis.first, axis.taps, strict=True)]


def _find_span(axis: AxisWalk) -> int:
    """Positions that all phases of a transposed axis read together."""
    return max(axis.first) - min(_find_lows(axis)) + 1 if axis.phases > 1 else 0


def _share_phases(axis: AxisWalk, m: int, r: int) -> BlockAxis:
    """A transposed axis in blocks whose phases read the same: they have taps in the span of all, or are shifted."""
    lows = _find_lows(axis)
    together = r >= _find_span(axis)
    taps = [
        _fill(
            [*[None] * (low - min(lows) if together else 0), *(k0 + axis.kstep * t for t in reversed(range(count)))], r
        )
        for k0, count, low in zip(axis.k0, axis.taps, lows, strict=True)
    ]
    return _place(
        axis,
        m,
        r,
        before=-min(lows),
        dilation=1,
        taps=tuple((each,) for each in taps),
        shifts=tuple(0 if together else min(lows) - low for low in lows),
    )


def _keep(axis: AxisWalk, planes: int) -> BlockAxis:
    """An axis whose taps are summed as they are."""
    return replace(_filter(axis, planes, axis.kernel), direct=True)


def _fill(taps: Sequence[int | None], r: int) -> Taps:
    """So many taps, the last of which may be none."""
    return (*taps, *[None] * (r - len(taps)))


def _place(
    axis: AxisWalk,
    m: int,
    r: int,
    *,
    before: int,
    dilation: int,
    taps: tuple[tuple[Taps, ...], ...],
    between: int = 0,
    shifts: tuple[int, ...] = (0,),
) -> BlockAxis:
    return BlockAxis(
        size=axis.size,
        output=axis.output,
        before=before,
        kernel=axis.kernel,
        dilation=dilation,
        stride=axis.in_step,
        m=m,
        r=r,
        taps=taps,
        between=between,
        shifts=shifts,
        pointwise=axis.pointwise,
    )
