"""Reaches through a reshape with a permutation: axes are split into digits, permuted and put together again."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction

from omniconv.analysis.hull import MIXED, Reach, at, everything
from omniconv.analysis.runs import Runs, add, count, divide, scale, wrap
from omniconv.analysis.terms import Box
from omniconv.program.cut import group_axes
from omniconv.program.dependence import Regroup


def regroup(form: Regroup, y: Box) -> Box:
    """What a box of the result demands of the source."""
    wide = [form.split[axis] for axis in form.perm]
    after = group_axes(form.shape, wide)
    before = group_axes(form.source, form.split)
    if after is None or before is None:
        return tuple(everything(size, MIXED if size > 1 else "") for size in form.source)
    parts: list[Reach] = [] if form.shape else [at(0, 0)] * len(wide)
    for item, group in zip(y, after, strict=True):
        parts.extend([item] if len(group) == 1 else _split(item, [wide[n] for n in group]))
    placed = dict(zip(form.perm, parts, strict=True))
    return tuple(_compose([placed[n] for n in group], [form.split[n] for n in group]) for group in before)


def couples(form: Regroup, y: Box) -> bool:
    """Whether the output positions of several axes decide together what is read: where they choose channels."""
    wide = [form.split[axis] for axis in form.perm]
    after = group_axes(form.shape, wide)
    return after is not None and any(
        item.moves and sum(wide[n] > 1 for n in group) > 1 for item, group in zip(y[2:], after[2:], strict=True)
    )


def _split(item: Reach, sizes: list[int]) -> list[Reach]:
    """One axis that is the row-major merge of several: what each of those is asked for."""
    found: list[Reach] = []
    inner = math.prod(sizes)
    major = next((n for n, size in enumerate(sizes) if size > 1), 0)
    for number, size in enumerate(sizes):
        inner //= size
        runs = divide(item.runs, inner)
        if number < major:
            found.append(at(0, 0))
        elif number == major:
            shift = Fraction(1, 2 * inner) - Fraction(1, 2)
            part = item.scaled(runs, Fraction(1, inner), shift)
            assert part is not None
            found.append(part)
        else:
            runs = wrap(runs, size)
            mixed = item.moves and size > 1 and runs != ((0, size - 1),)
            found.append(Reach(runs, whole=frozenset({MIXED}) if mixed else item.whole))
    if not item.whole and math.prod(count(part.runs) for part in found) != count(item.runs):
        found = [replace(part, exact=False) for part in found]
    return found


def _compose(items: list[Reach], sizes: list[int]) -> Reach:
    """The opposite of `_split`: the axis that is the row-major merge of several."""
    if len(items) == 1:
        return items[0]
    runs: Runs = ((0, 0),)
    moving: list[tuple[Reach, int]] = []
    still = Fraction(0)
    inner = 1
    for item, size in zip(reversed(items), reversed(sizes), strict=True):
        if runs == ((0, inner - 1),):
            runs = tuple((first * inner, last * inner + inner - 1) for first, last in item.runs)
        else:
            runs = add(scale(item.runs, inner, 0), runs)
        if item.origin is None:
            still += Fraction((item.low + item.high) * inner, 2)
        else:
            moving.append((item, inner))
        inner *= size
    whole = frozenset().union(*(item.whole for item in items))
    aligned, exact = all(item.aligned for item in items), all(item.exact for item in items)
    if len(moving) != 1:
        return Reach(runs, aligned=aligned, exact=exact, whole=whole | ({MIXED} if moving else set()))
    item, inner = moving[0]
    found = item.scaled(runs, Fraction(inner), still)
    assert found is not None
    return replace(found, whole=whole, aligned=aligned, exact=exact)
