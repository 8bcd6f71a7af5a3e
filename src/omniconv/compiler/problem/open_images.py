"""Recipes of images with their sizes opened."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol, TypeVar

from omniconv.open_size import Opener


class _Opens(Protocol):
    def opened(self, opener: Opener) -> Any: ...


class OfImages(Protocol):
    """A recipe of images and their strides; see :func:`open_images`."""

    @property
    def batch(self) -> int:
        """Images."""

    @property
    def axes(self) -> Sequence[_Opens]:
        """Walks or windows along depth, height, width."""

    @property
    def x_strides(self) -> tuple[int, int, int, int]:
        """N, D, H, W strides of the input [elements]."""

    @property
    def y_strides(self) -> tuple[int, int, int, int]:
        """N, D, H, W strides of the result [elements]."""


R = TypeVar("R", bound=OfImages)


def open_images(recipe: R, opener: Opener, **more: Any) -> R:
    """A recipe with its number of images, its axes and its strides opened, and ``more`` of its fields replaced."""
    changed: Any = recipe
    opened: R = replace(
        changed,
        batch=opener(recipe.batch),
        axes=tuple(axis.opened(opener) for axis in recipe.axes),
        x_strides=opener.strides(recipe.x_strides),
        y_strides=opener.strides(recipe.y_strides),
        **more,
    )
    return opened
