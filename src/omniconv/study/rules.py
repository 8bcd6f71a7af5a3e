"""The claims of the field that are judged, each with its rule, in the order in which they are told."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from omniconv.study.claims import ARRIVED, FACTOR, MARGIN, NEAR, REST, SLOWER

POINTS: Final = f"{100 * MARGIN:g} point"

_LISTED: Final = (
    (
        "capacity",
        "A depthwise separable layer may lose capacity.",
        f"Held where its network of the same width is worse by {POINTS} or more, and certainly worse; not held where a "
        f"loss of {POINTS} is excluded.",
    ),
    (
        "clock",
        "What is efficient on paper is efficient on the clock.",
        f"Held where the depthwise separable network saves at least {100 * ARRIVED:g} % as many times of time as of "
        "multiply-accumulates, by each runtime, in training and in inference; not held where one certainly saves less.",
    ),
    (
        "groups",
        "Groups need fewer parameters, at no loss.",
        f"Held where a loss of {POINTS} at the same width is excluded for each number of groups; not held where one "
        f"network is certainly worse, by {POINTS} or more.",
    ),
    (
        "gain",
        "Groups may even give the better model.",
        f"Held where one network in groups is better than the standard one by {POINTS} or more, and certainly better; "
        "not held where such a gain is excluded for all. As one is enough, intervals are wider by their number.",
    ),
    (
        "shuffle",
        "A shuffle repairs what grouping cuts.",
        f"Held where the network with shuffles is better than the same one without by {POINTS} or more, and certainly "
        f"better; not held where a gain of {POINTS} is excluded.",
    ),
    (
        "field",
        "Dilation sees more at no extra cost.",
        f"Held where the dilated network takes at most {SLOWER:g} times as long as the standard one by each runtime, in "
        "training and in inference; not held where one certainly takes longer.",
    ),
    (
        "kernels",
        "Not every kernel divides.",
        f"Held where more than {100 * REST:g} % of the energy of the 3x3 kernels that standard networks learn lie beyond "
        f"rank 1, and cutting that off, without training anew, costs {POINTS} or more.",
    ),
    (
        "overlap",
        "Uneven overlap is a checkerboard, and squared in two dimensions.",
        "Held where in untrained layers the energies of the phases have the ratio that the numbers of taps have, within "
        f"{100 * NEAR:g} %: 2 on one axis, 4 on two; not held where one is certainly another.",
    ),
    (
        "generated",
        "Uneven overlap is seen in what trained decoders generate.",
        f"Held where what is wrong with generated images has {FACTOR:g} times or more as much energy at the frequencies "
        "of the grid with kernel 3 and stride 2 as with kernel 4, and certainly more, in 1-D and in 2-D; not held where "
        "that is excluded for one.",
    ),
)

RULES: Final[Mapping[str, tuple[str, str]]] = MappingProxyType({name: (title, rule) for name, title, rule in _LISTED})
"""Name of each claim -> the claim in a sentence, and the rule by which it is judged."""
