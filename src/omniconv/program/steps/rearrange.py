"""`RearrangeStep`: reshapes and transposes."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import ClassVar

from omniconv.errors import ShapeError, UnsupportedError
from omniconv.integers import ceil_div
from omniconv.program.cut import Box, Cut, Interval, group_axes, whole
from omniconv.program.dependence import Dependence, Part, Regroup
from omniconv.program.steps.step import Move, Shapes
from omniconv.records import dataclass
from omniconv.spec import Shape


@dataclass(frozen=True, slots=True)
class RearrangeStep(Move):
    """View x row-major as shape ``split``, permute the axes by ``perm``, read row-major as y's shape.

    Covers reshape (identity ``perm``), transpose (``split`` = x's shape), depth-to-space and space-to-depth.
    """

    word: ClassVar[str] = "rearrange"
    x: str
    y: str
    split: Shape
    perm: tuple[int, ...]

    def output_shape(self, shapes: Shapes) -> Shape:
        """y's shape where it is said, else ``split`` permuted."""
        size = math.prod(shapes[self.x])
        stated = shapes.get(self.y, tuple(self.split[axis] for axis in self.perm))
        sizes = math.prod(self.split), math.prod(stated)
        if sorted(self.perm) != list(range(len(self.split))) or sizes != (size, size):
            raise ShapeError(
                f"{shapes[self.x]} seen as {self.split}, permuted by {self.perm}, read as {stated}",
                need="equal numbers of elements and a permutation",
            )
        return stated

    def dependence(self, shapes: Shapes) -> Dependence:
        """Each entry on one entry."""
        form = Regroup(shapes[self.x], tuple(self.split), tuple(self.perm), shapes[self.y])
        return Dependence((Part(self.x, (form,)),), linear=True)

    def cut(self, shapes: Shapes, box: Box) -> Cut:
        """Axes are cut at their outermost digits, in whole numbers of what these count.

        An axis whose positions are all made of channels is not cut: there are no more of them in a larger image.
        """
        source, result = shapes[self.x], shapes[self.y]
        if box == whole(result):
            return Cut(self, box, (whole(source),))
        digits = [(0, size) for size in self.split]
        outputs, reads = list(whole(result)), list(whole(source))
        refusal = UnsupportedError(
            f"a reshape of {tuple(source)} to {tuple(result)} mixes the axes that tiles cut",
            need="axes that stay apart",
        )
        after, before = group_axes(result, [self.split[axis] for axis in self.perm]), group_axes(source, self.split)
        if after is None or before is None:
            raise refusal
        for axis, (span, group) in enumerate(zip(box, after, strict=True)):
            if span != (0, result[axis]):
                digit, inner = _outermost([self.perm[n] for n in group], self.split)
                digits[digit] = part = (span[0] // inner, ceil_div(span[1], inner))
                outputs[axis] = _times(part, inner)
        for axis, group in enumerate(before):
            cut = [digit for digit in group if digits[digit] != (0, self.split[digit])]
            if cut:
                digit, inner = _outermost(group, self.split)
                if cut != [digit] and axis == 1 and len(source) == len(result):
                    for number, places in enumerate(after):
                        if {self.perm[n] for n in places} & set(cut):
                            outputs[number] = (0, result[number])
                    digits = [(0, self.split[n]) if n in cut else span for n, span in enumerate(digits)]
                    continue
                if cut != [digit]:
                    raise refusal
                reads[axis] = _times(digits[digit], inner)
        split = tuple(stop - first for first, stop in digits)
        return Cut(replace(self, split=split), tuple(outputs), (tuple(reads),))


def _outermost(digits: list[int], sizes: Shape) -> tuple[int, int]:
    """The first digit of an axis that counts anything, and the positions that a step of it moves."""
    lead = next(n for n, digit in enumerate(digits) if sizes[digit] > 1)
    return digits[lead], math.prod(sizes[digit] for digit in digits[lead + 1 :])


def _times(span: Interval, factor: int) -> Interval:
    return span[0] * factor, span[1] * factor
