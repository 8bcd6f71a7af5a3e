"""Machine code that reads the sizes of images when it runs, and the sizes for which each piece of it is right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol, Self, cast

from omniconv.compiler.memory.planner import Recipe
from omniconv.open_size import Guard, Opener, Trace, holds
from omniconv.target.model import Target

MOST_VARIANTS: Final = 16
"""Pieces of code that are kept of one recipe, each right for other sizes."""
_NAME: Final = "oc_symbol_of_an_open_kernel"


class Openable(Recipe, Protocol):
    """A recipe whose sizes can be read when the kernel runs."""

    def opened(self, opener: Opener) -> Self:
        """The same recipe with those sizes opened that follow from the size of an image."""


@dataclass(frozen=True, slots=True)
class OpenKernel:
    """The recipe of such a kernel, for images of one size: its code depends on all but ``units``.

    Attributes:
        text: the recipe it was written from, open sizes left out; the argument that holds these, 64-bit integers; and
            the guards, what has to hold of them for the code to be right.
        written: its IR, under another name.
        units: units of work, shared out over the threads.
    """

    text: str
    written: str = field(compare=False)
    units: int

    def __repr__(self) -> str:
        return self.text

    def emit(self, name: str, _target: Target) -> str:
        """The kernel's IR."""
        return self.written.replace(_NAME, name)


@dataclass(frozen=True, slots=True)
class _Written:
    """Code, and for which sizes it is right."""

    guards: tuple[Guard, ...]
    text: str
    written: str


class Opened(NamedTuple):
    """A kernel, the sizes that it is given, and whether it was written for them."""

    kernel: OpenKernel
    sizes: Sequence[int]
    fresh: bool


class OpenKernels:
    """The kernels that were written for some sizes, to be found again for others."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, int, Target], list[_Written]] = {}

    def find(self, recipe: Recipe, at: int, target: Target) -> Opened | None:
        """The kernel of a recipe and the sizes that it is given at argument ``at``; ``None`` where none can be opened.

        Code is written where none of what there is serves these sizes.
        """
        if not hasattr(recipe, "opened"):
            return None
        trace = Trace(at)
        opener = Opener(trace)
        opened = cast("Openable", recipe).opened(opener)
        if not opener.values:
            return None
        text = repr(opened)
        variants = self._found.setdefault((text, at, target), [])
        variant = next((each for each in variants if holds(each.guards, opener.values)), None)
        fresh = variant is None
        if variant is None:
            written, guards = opened.emit(_NAME, target), tuple(trace.guards)
            variant = _Written(guards, f"open kernel of {text}, sizes at {at}, {guards}", written)
            variants.append(variant)
            del variants[:-MOST_VARIANTS]
        return Opened(OpenKernel(variant.text, variant.written, recipe.units), opener.values, fresh)
