"""The claims of the field that are judged, each with its rule, in the order in which they are told."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from omniconv.study.claims import ARRIVED, FACTOR, MARGIN, NEAR, REST, SLOWER

POINTS: Final = f"{100 * MARGIN:g} point"

_TITLES: Final = {
    "capacity": "A depthwise separable layer may lose capacity.",
    "clock": "What is efficient on paper is efficient on the clock.",
    "groups": "Groups need fewer parameters, at no loss.",
    "gain": "Groups may even give the better model.",
    "shuffle": "A shuffle repairs what grouping cuts.",
    "field": "Dilation sees more at no extra cost.",
    "kernels": "Not every kernel divides.",
    "overlap": "Uneven overlap is a checkerboard, and squared in two dimensions.",
    "generated": "Uneven overlap is seen in what trained decoders generate.",
}
_RULES: Final = {
    "capacity": f"""
        Held where its network of the same width is worse by {POINTS} or more, and certainly worse; not held where a
        loss of {POINTS} is excluded.""",
    "clock": f"""
        Held where the depthwise separable network saves at least {ARRIVED:g} times as much time as multiply-accumulates
        (both in times), by each runtime, in training and in inference; not held where one certainly saves less.""",
    "groups": f"""
        Held where a loss of {POINTS} at the same width is excluded for each number of groups; not held where one
        network is certainly worse, by {POINTS} or more.""",
    "gain": f"""
        Held where one network in groups is better than the standard one by {POINTS} or more, and certainly better; not
        held where such a gain is excluded for all. As one is enough, intervals are wider by their number.""",
    "shuffle": f"""
        Held where the network with shuffles is better than the same one without by {POINTS} or more, and certainly
        better; not held where a gain of {POINTS} is excluded.""",
    "field": f"""
        Held where the dilated network takes at most {SLOWER:g} times as long as the standard one by each runtime, in
        training and in inference; not held where one certainly takes longer.""",
    "kernels": f"""
        Held where more than {100 * REST:g} % of the energy of the 3x3 kernels that standard networks learn lie beyond
        rank 1, and cutting that off, without training anew, costs {POINTS} or more.""",
    "overlap": f"""
        Held where in untrained layers the energies of the phases have the ratio that the numbers of taps have, within
        {100 * NEAR:g} %: 2 on one axis, 4 on two; not held where one is certainly another.""",
    "generated": f"""
        Held where what is wrong with generated images has {FACTOR:g} times or more as much energy at the frequencies of
        the grid with kernel 3 and stride 2 as with kernel 4, and certainly more, in 1-D and in 2-D; not held where that
        is excluded for one.""",
}

RULES: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {name: (title, " ".join(_RULES[name].split())) for name, title in _TITLES.items()}
)
"""Name of each claim -> the claim in a sentence, and the rule by which it is judged."""
