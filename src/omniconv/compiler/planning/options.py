"""`Options`: what a caller asks of a plan, apart from what is computed and for which machine."""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import Final

from omniconv.compiler.problem.problem import USUAL
from omniconv.compiler.problem.tuning import Tuning
from omniconv.program.element import BFLOAT16, FLOAT32
from omniconv.records import dataclass

LAYOUTS: Final = ("NCHW", "NHWC")
"""Channels first, or last."""

PRECISIONS: Final = (FLOAT32.name, BFLOAT16.name)
"""What numbers between layers, and weights, are kept in: as they are computed, or rounded."""


def is_channels_last(layout: str, row_major: Container[str], name: str, axes: int) -> bool:
    """Whether the caller's array for a value has its channels last: images of 1 to 3 axes, beside batch and channels.

    Args:
        layout: one of :data:`LAYOUTS`.
        row_major: names of values that are row major in any layout.
        name: of the value.
        axes: of the array.
    """
    return layout == "NHWC" and 3 <= axes <= 5 and name not in row_major


def channels_to_last(shape: Sequence[int]) -> tuple[int, ...]:
    """``(N, C, *spatial)`` as ``(N, *spatial, C)``."""
    return (shape[0], *shape[2:], shape[1])


def channels_to_first(shape: Sequence[int]) -> tuple[int, ...]:
    """``(N, *spatial, C)`` as ``(N, C, *spatial)``."""
    return (shape[0], shape[-1], *shape[1:-1])


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What is asked of a plan, and of the executable that is made of it.

    Attributes:
        layout: of the caller's arrays, one of :data:`LAYOUTS`.
        row_major: names of those that are row major in any layout.
        threads: threads that share each call: decides how fused and filtered layers are divided, never what they
            compute.
        threads_why: why so many, where nobody said how many; work that is not worth so many then gets fewer.
        exact: keep to direct sums, in which every product appears as it is; without, layers may use Winograd filtering.
        precision: what values between layers and weights are kept in, one of :data:`PRECISIONS`.
        float32_layers: labels of layers whose weights and results stay in float32 all the same.
        accuracy: how far filtering may go, one of :data:`omniconv.compiler.problem.problem.ACCURACIES`.
        tuning: choices for convolutions that were measured on the target, in place of estimates.
        cache: size that values between fused layers overflow [bytes]; ``None`` for that of the target's second-level
            cache.
        memory_limit: most memory to use [bytes]; ``None`` for the default limit.
    """

    layout: str = "NCHW"
    row_major: frozenset[str] = frozenset()
    threads: int = 1
    threads_why: str = ""
    exact: bool = False
    precision: str = FLOAT32.name
    float32_layers: frozenset[str] = frozenset()
    accuracy: str = USUAL
    tuning: Tuning | None = None
    cache: int | None = None
    memory_limit: int | None = None
