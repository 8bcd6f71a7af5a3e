"""`find_claims`: each claim with the numbers that it is judged by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from omniconv.analysis import connectivity
from omniconv.study.bootstrap import LEVEL, Float64, Spread, compare_sums, interval
from omniconv.study.claims import (
    ARRIVED,
    REST,
    SLOWER,
    Claim,
    ClaimPart,
    join_all,
    join_any,
    judge_above,
    judge_at_most,
    judge_factor,
    judge_gain,
    judge_loss,
    judge_near,
    judge_no_loss,
)
from omniconv.study.rules import RULES
from omniconv.study.study import DecoderResult, KernelResult, KindResult
from omniconv.study.variants import STANDARD, VARIANTS
from omniconv.study.words import count_times, say_points

GROUPED: Final = ("grouped_2", "grouped_4", "grouped_8")
RUNTIMES: Final = {
    "pytorch_training": "training by PyTorch",
    "omniconv_training": "training by Omniconv",
    "pytorch_inference": "inference by PyTorch",
    "omniconv_inference": "inference by Omniconv",
}
Kinds = Mapping[str, KindResult]


def find_claims(
    same_width: Sequence[KindResult],
    same_time: Sequence[KindResult],
    kernels: KernelResult,
    decoders: Sequence[DecoderResult],
    grids: Mapping[tuple[str, int], Float64],
    draws: Mapping[str, Float64],
) -> tuple[Claim, ...]:
    """The claims whose kinds were studied.

    Args:
        same_width, same_time, kernels, decoders: as in a `Study`.
        grids: energies at the frequencies of the grid, seed by seed, by the name and the axes of a decoder.
        draws: accuracies of each kind of the same width, drawn anew.
    """
    width, pace = ({item.kind: item for item in group} for group in (same_width, same_time))
    found: list[Claim] = []
    if "depthwise_separable" in width:
        found += [_lose_capacity(width, pace), _arrive(width)]
    grouped = [kind for kind in GROUPED if kind in width]
    if grouped:
        found += [_group(grouped, width, pace), _gain(grouped, width, draws)]
    if {"unshuffled", "shuffled_grouped"} <= width.keys():
        found.append(_shuffle(width, draws))
    if "dilated" in width:
        found.append(_see_further(width))
    return (*found, _divide(kernels, width), _overlap(decoders), _show(decoders, grids))


def _claim(name: str, verdict: str, parts: Sequence[ClaimPart], *beside: str) -> Claim:
    return Claim(name, *RULES[name], verdict, tuple(parts), beside)


def _lose_capacity(width: Kinds, pace: Kinds) -> Claim:
    own, other, base = width["depthwise_separable"], pace["depthwise_separable"], width[STANDARD]
    part = ClaimPart("accuracy at the same width", own.difference, "points", judge_loss(own.difference))
    fewer = count_times(base.parameters / own.parameters)
    return _claim(
        "capacity",
        part.verdict,
        [part],
        f"It has {fewer} times fewer parameters and does {count_times(base.macs / own.macs)} times fewer MACs.",
        f"With width {other.width} instead of {base.width}, where a step of training takes {other.pace:.2f} times as "
        f"long as the standard network's, the difference is {say_points(other.difference)}.",
    )


def _arrive(width: Kinds) -> Claim:
    own, base = width["depthwise_separable"], width[STANDARD]
    paper = base.macs / own.macs
    parts = []
    for name, words in RUNTIMES.items():
        ratio = own.times[name].ratio
        saved = Spread(1 / ratio.value, 1 / ratio.high, 1 / ratio.low)
        parts.append(ClaimPart(f"times less time, {words}", saved, "times", judge_above(saved, ARRIVED * paper)))
    return _claim(
        "clock",
        join_all(part.verdict for part in parts),
        parts,
        f"On paper it does {count_times(paper)} times fewer MACs.",
    )


def _group(kinds: Sequence[str], width: Kinds, pace: Kinds) -> Claim:
    base = width[STANDARD]
    found = {kind: width[kind].difference for kind in kinds}
    parts = [ClaimPart(f"accuracy of {kind}", item, "points", judge_no_loss(item)) for kind, item in found.items()]
    fewer = ", ".join(count_times(base.parameters / width[kind].parameters) for kind in kinds)
    matched = "; ".join(f"{kind} at width {pace[kind].width} {say_points(pace[kind].difference)}" for kind in kinds)
    return _claim(
        "groups",
        join_all(part.verdict for part in parts),
        parts,
        f"The networks have {fewer} times fewer parameters.",
        f"With widths that take the same time: {matched}.",
    )


def _gain(kinds: Sequence[str], width: Kinds, draws: Mapping[str, Float64]) -> Claim:
    level = 1 - (1 - LEVEL) / len(kinds)
    parts = []
    for kind in kinds:
        found = interval(width[kind].difference.value, draws[kind] - draws[STANDARD], level)
        parts.append(ClaimPart(f"accuracy of {kind}", found, "points", judge_gain(found)))
    return _claim(
        "gain", join_any(part.verdict for part in parts), parts, f"These intervals are of {100 * level:.1f} %."
    )


def _shuffle(width: Kinds, draws: Mapping[str, Float64]) -> Claim:
    own, other = width["shuffled_grouped"], width["unshuffled"]
    found = interval(own.accuracy.value - other.accuracy.value, draws[own.kind] - draws[other.kind])
    part = ClaimPart("accuracy with the shuffle against without", found, "points", judge_gain(found))
    seen = [connectivity(VARIANTS[item.kind].build(item.width, item.width)).fraction for item in (own, other)]
    return _claim(
        "shuffle",
        part.verdict,
        [part],
        f"Both have {own.parameters} parameters. With the shuffle each output of a layer sees {100 * seen[0]:.0f} % of "
        f"its inputs, without {100 * seen[1]:.0f} %.",
        f"Against the standard network: {say_points(own.difference)} with, {say_points(other.difference)} without.",
    )


def _see_further(width: Kinds) -> Claim:
    own, base = width["dilated"], width[STANDARD]
    parts = []
    for name, words in RUNTIMES.items():
        ratio = own.times[name].ratio
        parts.append(ClaimPart(f"time, {words}", ratio, "times", judge_at_most(ratio, SLOWER)))
    equal = "equal" if (own.parameters, own.macs) == (base.parameters, base.macs) else "not equal"
    return _claim(
        "field",
        join_all(part.verdict for part in parts),
        parts,
        f"Its three layers see {own.field} positions on a side, those of the standard network {base.field}; parameters "
        f"and MACs are {equal}.",
        f"Its accuracy differs by {say_points(own.difference)}.",
    )


def _divide(kernels: KernelResult, width: Kinds) -> Claim:
    parts = (
        ClaimPart("energy beyond rank 1", kernels.rest, "share", judge_above(kernels.rest, REST)),
        ClaimPart("accuracy when only rank 1 is left", kernels.cut, "points", judge_loss(kernels.cut)),
    )
    beside = [f"Of the first weights, which are random, {100 * kernels.before.value:.0f} % of the energy lie there."]
    for kind, words in (
        ("spatially_separable", "Dense 3x1 and 1x3 layers from the beginning, whose kernels are sums of products,"),
        ("flattened", "Flattened ones, whose kernels are single products,"),
    ):
        if kind in width:
            beside.append(f"{words} differ from the standard one by {say_points(width[kind].difference)}.")
    return _claim("kernels", join_all(part.verdict for part in parts), parts, *beside)


def _overlap(decoders: Sequence[DecoderResult]) -> Claim:
    parts = []
    for item in decoders:
        predicted = max(item.predicted) / min(item.predicted)
        if predicted > 1:
            what = f"largest over least energy, {item.name} in {item.dims}-D, predicted {predicted:g}"
            parts.append(ClaimPart(what, item.contrast, "times", judge_near(item.contrast, predicted)))
    shown = next(item for item in decoders if item.name == "transposed k3 s2" and item.dims == 2)
    counts, energies = (":".join(f"{value:.3g}" for value in values) for values in (shown.predicted, shown.energies))
    return _claim(
        "overlap",
        join_all(part.verdict for part in parts),
        parts,
        f"Kernel 3 and stride 2 in 2-D: {counts} taps in the four phases, energies {energies}.",
    )


def _show(decoders: Sequence[DecoderResult], grids: Mapping[tuple[str, int], Float64]) -> Claim:
    parts = []
    beside = []
    for dims in (1, 2):
        uneven, even = grids["transposed k3 s2", dims], grids["transposed k4 s2", dims]
        ratio = compare_sums(np.stack([uneven, even], axis=1), 0, 1)
        parts.append(
            ClaimPart(f"energy of the grid, k3 s2 over k4 s2 in {dims}-D", ratio, "times", judge_factor(ratio))
        )
        least = min((item for item in decoders if item.dims == dims), key=lambda item: item.grid.value)
        times = count_times(float(uneven.mean()) / max(least.grid.value, float(np.finfo(np.float64).tiny)))
        beside.append(f"In {dims}-D it is weakest with {least.name}, {times} times weaker than with k3 s2.")
    plane = next(item for item in decoders if item.name == "transposed k4 s2" and item.dims == 2)
    share = f"{100 * plane.untrained.value:.0f} %"
    beside.append(
        f"Before training even overlap is no remedy: with k4 s2 in 2-D {share} of the energy of what is generated are "
        "at the frequencies of the grid, as each phase has random weights of its own."
    )
    return _claim("generated", join_all(part.verdict for part in parts), parts, *beside)
