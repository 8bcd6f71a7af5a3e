"""The layers that are compared: every kind in the same place of the same network, 3 x 3, from one width to another.

A kind that does not mix its channels is followed by a pointwise layer, as it is wherever it is used. `unshuffled` is
the shuffled pair without the shuffle, which is all that the claim on shuffles may compare it with.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Final

from omniconv.errors import SpecError
from omniconv.integers import ceil_div
from omniconv.kinds import (
    asymmetric,
    cross_correlation,
    depthwise,
    depthwise_separable,
    dilated,
    flattened,
    grouped,
    mixed,
    pointwise,
    pointwise_grouped,
    shuffled_grouped,
    spatially_separable,
)
from omniconv.records import dataclass
from omniconv.spec import Chain, Spec

STANDARD: Final = "standard"
"""The variant that all others are compared with."""
KERNEL: Final = 3
GROUPS: Final = 4
"""Of the pairs with and without a shuffle, and of the pointwise grouped layers."""


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to make a layer.

    Attributes:
        name: snake_case.
        words: what the layer is.
        build: the layer from so many channels to so many.
        multiple: that widths have to be of.
    """

    name: str
    words: str
    build: Callable[[int, int], Spec]
    multiple: int = 1

    def fit(self, width: int) -> int:
        """The width itself, or the next larger one that this kind can have.

        Example:
            >>> VARIANTS["grouped_8"].fit(20), VARIANTS["standard"].fit(20)
            (24, 20)
        """
        return ceil_div(width, self.multiple) * self.multiple


def _mixed(narrow: int, wide: int) -> Spec:
    return Chain((*mixed(narrow, (3, 5)).steps, pointwise(narrow, wide)))


def _pointwise_grouped(narrow: int, wide: int) -> Spec:
    return Chain((depthwise(narrow, KERNEL, padding=1), pointwise_grouped(narrow, wide, groups=GROUPS)))


def _unshuffled(narrow: int, wide: int) -> Spec:
    first = grouped(narrow, wide, KERNEL, groups=GROUPS, padding=1)
    return Chain((first, pointwise_grouped(wide, wide, groups=GROUPS)))


_LISTED: Final = (
    Variant(STANDARD, "3x3, every channel to every channel", partial(cross_correlation, kernel_size=KERNEL, padding=1)),
    Variant(
        "depthwise_separable",
        "3x3 depthwise, then pointwise",
        partial(depthwise_separable, kernel_size=KERNEL, padding=1),
    ),
    Variant(
        "spatially_separable",
        "3x1, then 1x3, both dense",
        partial(spatially_separable, kernel_size=KERNEL, form="dense", padding=1),
    ),
    Variant(
        "asymmetric",
        "3x1, ReLU, 1x3, both dense",
        partial(asymmetric, kernel_size=KERNEL, padding=1, activation="relu"),
    ),
    Variant("flattened", "pointwise, then 3x1 and 1x3 depthwise", partial(flattened, kernel_size=KERNEL, padding=1)),
    *(
        Variant(
            f"grouped_{groups}",
            f"3x3 in {groups} groups",
            partial(grouped, kernel_size=KERNEL, groups=groups, padding=1),
            groups,
        )
        for groups in (2, 4, 8)
    ),
    Variant("unshuffled", f"3x3, then pointwise, both in {GROUPS} groups", _unshuffled, GROUPS),
    Variant(
        "shuffled_grouped",
        f"3x3, shuffle, then pointwise, both in {GROUPS} groups",
        partial(shuffled_grouped, kernel_size=KERNEL, groups=GROUPS, form="layers", padding=1),
        GROUPS,
    ),
    Variant("pointwise_grouped", f"3x3 depthwise, then pointwise in {GROUPS} groups", _pointwise_grouped, GROUPS),
    Variant("dilated", "3x3 with taps 2 apart", partial(dilated, kernel_size=KERNEL, dilation=2, padding=2)),
    Variant("mixed", "3x3 and 5x5 depthwise, then pointwise", _mixed, 2),
)

VARIANTS: Final[Mapping[str, Variant]] = MappingProxyType({item.name: item for item in _LISTED})
"""Every variant by name; :data:`STANDARD` comes first."""


def find_variants(names: tuple[str, ...]) -> tuple[Variant, ...]:
    """Variants by name, in their own order, the standard one always among them.

    Example:
        >>> [item.name for item in find_variants(("dilated",))]
        ['standard', 'dilated']

    Raises:
        SpecError: a name that is none.
    """
    for name in names:
        if name not in VARIANTS:
            raise SpecError(f"kind {name!r} is not in the study", need="some of " + ", ".join(VARIANTS))
    return tuple(item for item in _LISTED if item.name in names or item.name == STANDARD or not names)
