"""Machine code that reads sizes when it runs, and the sizes for which each piece of it is right.

Recipes say which. A method ``opened(opener)`` opens those that follow from the size of an image, for networks of images
of any size; ``shared(opener)`` those that no inner loop depends on, for calls of one plan.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from typing import Final, NamedTuple

from omniconv.compiler.memory.planner import Recipe
from omniconv.open_size import Guard, Opener, Trace, holds
from omniconv.records import dataclass
from omniconv.target.model import Target

MOST_VARIANTS: Final = 16
"""Pieces of code that are kept of one recipe, each right for other sizes."""
_NAME: Final = "oc_symbol_of_an_open_kernel"
_SERVES: Final = {"opened": "images of any size", "shared": "several sizes"}


@dataclass(frozen=True, slots=True)
class OpenKernel:
    """The recipe of such a kernel, for images of one size: its code depends on all but ``units``.

    Attributes:
        text: the recipe it was written from, open sizes left out; the argument that holds these, 64-bit integers; and
            the guards, what has to hold of them for the code to be right.
        written: its IR, under another name.
        units: units of work, shared out over the threads.
        serves: what it is right for, in words.
    """

    text: str
    written: str = field(compare=False)
    units: int
    serves: str = field(compare=False)

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
    """A kernel, the sizes that it is given, whether it was written for them, and what has to hold of them."""

    kernel: OpenKernel
    sizes: Sequence[int]
    fresh: bool
    guards: Sequence[Guard]


class OpenKernels:
    """The kernels that were written for some sizes, to be found again for others.

    Args:
        method: of the recipes, the one that opens their sizes: ``opened`` or ``shared``.
    """

    def __init__(self, method: str = "opened") -> None:
        self._method = method
        self._found: dict[tuple[str, int, Target], list[_Written]] = {}

    def describe(self, recipe: Recipe) -> str | None:
        """What the code of a recipe with its sizes opened depends on; ``None`` where none can be opened."""
        opener = Opener(Trace())
        opened = self._open(recipe, opener)
        return None if opened is None else repr(opened)

    def find(self, recipe: Recipe, at: int, target: Target) -> Opened | None:
        """The kernel of a recipe and the sizes that it is given at argument ``at``; ``None`` where none can be opened.

        Code is written where none of what there is serves these sizes.
        """
        trace = Trace(at)
        opener = Opener(trace)
        opened = self._open(recipe, opener)
        if opened is None:
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
        kernel = OpenKernel(variant.text, variant.written, recipe.units, _SERVES[self._method])
        return Opened(kernel, opener.values, fresh, variant.guards)

    def _open(self, recipe: Recipe, opener: Opener) -> Recipe | None:
        if not hasattr(recipe, self._method):
            return None
        opened: Recipe = getattr(recipe, self._method)(opener)
        return opened if opener.values else None
