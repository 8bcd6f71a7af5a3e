"""`find_claims`: each claim with the numbers that it is judged by. The rules are those of `omniconv.study.claims`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import numpy as np

from omniconv.analysis import connectivity
from omniconv.study.bootstrap import LEVEL, Float64, Interval, compare_sums, interval
from omniconv.study.claims import (
    ARRIVED,
    FACTOR,
    MARGIN,
    NEAR,
    REST,
    SLOWER,
    Claim,
    Part,
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
from omniconv.study.study import DecoderResult, KernelResult, KindResult
from omniconv.study.variants import STANDARD, VARIANTS

GROUPED: Final = ("grouped_2", "grouped_4", "grouped_8")
RUNTIMES: Final = {
    "pytorch_training": "training by PyTorch",
    "omniconv_training": "training by Omniconv",
    "pytorch_inference": "inference by PyTorch",
    "omniconv_inference": "inference by Omniconv",
}
_POINTS: Final = f"{100 * MARGIN:g} point"


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
    found: list[Claim | None] = [
        _lose_capacity(width, pace),
        _arrive(width),
        _group(width, pace),
        _gain_by_groups(width, draws),
        _shuffle(width, draws),
        _see_further(width),
        _divide(kernels, width),
        _overlap(decoders),
        _show(decoders, grids),
    ]
    return tuple(item for item in found if item is not None)


def _words(found: Interval) -> str:
    """A difference of accuracies.

    Example:
        >>> _words(Interval(-0.0123, -0.02, 0.001))
        '-1.2 points (-2.0 to +0.1)'
    """
    return f"{100 * found.value:+.1f} points ({100 * found.low:+.1f} to {100 * found.high:+.1f})"


def _lose_capacity(width: Mapping[str, KindResult], pace: Mapping[str, KindResult]) -> Claim | None:
    if "depthwise_separable" not in width:
        return None
    own, other, base = width["depthwise_separable"], pace["depthwise_separable"], width[STANDARD]
    part = Part("accuracy at the same width", own.difference, "points", judge_loss(own.difference))
    return Claim(
        "capacity",
        "A depthwise separable layer may lose capacity.",
        f"Held where the network of the same width is worse by {_POINTS} or more, and certainly worse; not held where a loss of "
        f"{_POINTS} is excluded.",
        part.verdict,
        (part,),
        (
            f"It has {base.parameters / own.parameters:.1f} times fewer parameters and {base.macs / own.macs:.1f} times fewer "
            "multiply-accumulates.",
            f"With width {other.width} instead of {base.width}, a step of training of which takes {other.pace or 1:.2f} times as "
            f"long as the standard network's, the difference is {_words(other.difference)}.",
        ),
    )


def _arrive(width: Mapping[str, KindResult]) -> Claim | None:
    if "depthwise_separable" not in width:
        return None
    own, base = width["depthwise_separable"], width[STANDARD]
    paper = base.macs / own.macs
    parts = []
    for name, words in RUNTIMES.items():
        ratio = own.times[name].ratio
        saved = Interval(1 / ratio.value, 1 / ratio.high, 1 / ratio.low)
        parts.append(Part(f"times less time, {words}", saved, "times", judge_above(saved, ARRIVED * paper)))
    return Claim(
        "clock",
        "What is efficient on paper is efficient on the clock.",
        f"Held where the depthwise separable network saves at least {100 * ARRIVED:g} % as much time as multiply-accumulates, by "
        "each runtime, in training and in inference.",
        join_all(part.verdict for part in parts),
        tuple(parts),
        (f"On paper it does {paper:.1f} times fewer multiply-accumulates.",),
    )


def _group(width: Mapping[str, KindResult], pace: Mapping[str, KindResult]) -> Claim | None:
    kinds = [kind for kind in GROUPED if kind in width]
    if not kinds:
        return None
    base = width[STANDARD]
    parts = [
        Part(f"accuracy of {kind}", width[kind].difference, "points", judge_no_loss(width[kind].difference))
        for kind in kinds
    ]
    fewer = ", ".join(f"{base.parameters / width[kind].parameters:.1f}" for kind in kinds)
    matched = "; ".join(f"{kind} at width {pace[kind].width} {_words(pace[kind].difference)}" for kind in kinds)
    return Claim(
        "groups",
        "Groups need fewer parameters, at no loss.",
        f"Held where a loss of {_POINTS} is excluded for each number of groups at the same width; not held where one network is "
        f"certainly worse, by {_POINTS} or more.",
        join_all(part.verdict for part in parts),
        tuple(parts),
        (f"The networks have {fewer} times fewer parameters.", f"With widths that take the same time: {matched}."),
    )


def _gain_by_groups(width: Mapping[str, KindResult], draws: Mapping[str, Float64]) -> Claim | None:
    kinds = [kind for kind in GROUPED if kind in width]
    if not kinds:
        return None
    level = 1 - (1 - LEVEL) / len(kinds)
    parts = []
    for kind in kinds:
        found = interval(width[kind].difference.value, draws[kind] - draws[STANDARD], level)
        parts.append(Part(f"accuracy of {kind}", found, "points", judge_gain(found)))
    return Claim(
        "gain",
        "Groups may even give the better model.",
        f"Held where one of the networks in groups is better than the standard one by {_POINTS} or more, and certainly better; not "
        f"held where such a gain is excluded for all. As one of {len(kinds)} is enough, intervals are of {100 * level:.1f} %.",
        join_any(part.verdict for part in parts),
        tuple(parts),
    )


def _shuffle(width: Mapping[str, KindResult], draws: Mapping[str, Float64]) -> Claim | None:
    if not {"unshuffled", "shuffled_grouped"} <= width.keys():
        return None
    own, other = width["shuffled_grouped"], width["unshuffled"]
    found = interval(own.accuracy.value - other.accuracy.value, draws[own.kind] - draws[other.kind])
    part = Part("accuracy with the shuffle against without", found, "points", judge_gain(found))
    seen = [connectivity(VARIANTS[item.kind].build(item.width, item.width)).fraction for item in (own, other)]
    return Claim(
        "shuffle",
        "A shuffle repairs what grouping cuts.",
        f"Held where the network with shuffles is better than the same one without by {_POINTS} or more, and certainly better; not "
        f"held where a gain of {_POINTS} is excluded.",
        part.verdict,
        (part,),
        (
            f"Both have {own.parameters} parameters. With the shuffle each output of a layer sees {100 * seen[0]:.0f} % of its "
            f"inputs, without {100 * seen[1]:.0f} %.",
            f"Against the standard network: {_words(own.difference)} with, {_words(other.difference)} without.",
        ),
    )


def _see_further(width: Mapping[str, KindResult]) -> Claim | None:
    if "dilated" not in width:
        return None
    own, base = width["dilated"], width[STANDARD]
    parts = []
    for name, words in RUNTIMES.items():
        ratio = own.times[name].ratio
        parts.append(Part(f"time, {words}", ratio, "times", judge_at_most(ratio, SLOWER)))
    return Claim(
        "field",
        "Dilation sees more at no extra cost.",
        f"Held where the dilated network takes at most {SLOWER:g} times as long as the standard one by each runtime, in training "
        "and in inference; not held where one certainly takes longer.",
        join_all(part.verdict for part in parts),
        tuple(parts),
        (
            f"Its three layers see {own.field} positions on a side, those of the standard network {base.field}; parameters and "
            f"multiply-accumulates are {'equal' if (own.parameters, own.macs) == (base.parameters, base.macs) else 'not equal'}.",
            f"Its accuracy differs by {_words(own.difference)}.",
        ),
    )


def _divide(kernels: KernelResult, width: Mapping[str, KindResult]) -> Claim:
    parts = (
        Part("energy beyond rank 1", kernels.rest, "share", judge_above(kernels.rest, REST)),
        Part("accuracy when only rank 1 is left", kernels.cut, "points", judge_loss(kernels.cut)),
    )
    beside = [
        f"Of the first weights, which are random, {100 * kernels.before.value:.0f} % of the energy lie beyond rank 1."
    ]
    if "spatially_separable" in width:
        beside.append(
            "Networks that are trained with dense 3x1 and 1x3 layers from the beginning, whose kernels are sums of products, "
            f"differ from the standard one by {_words(width['spatially_separable'].difference)}."
        )
    if "flattened" in width:
        beside.append(f"Flattened ones, whose kernels are single products, by {_words(width['flattened'].difference)}.")
    return Claim(
        "kernels",
        "Not every kernel divides.",
        f"Held where more than {100 * REST:g} % of the energy of the 3x3 kernels that standard networks learn lie beyond rank 1, and "
        f"cutting it off without training anew costs {_POINTS} or more.",
        join_all(part.verdict for part in parts),
        parts,
        tuple(beside),
    )


def _overlap(decoders: Sequence[DecoderResult]) -> Claim:
    parts = []
    for item in decoders:
        predicted = max(item.predicted) / min(item.predicted)
        if predicted > 1:
            what = f"largest over least energy of a phase, {item.name}, {item.dims}-D, predicted {predicted:g}"
            parts.append(Part(what, item.contrast, "times", judge_near(item.contrast, predicted)))
    shown = next(item for item in decoders if item.name == "transposed k3 s2" and item.dims == 2)
    counts, energies = (":".join(f"{value:.3g}" for value in values) for values in (shown.predicted, shown.energies))
    return Claim(
        "overlap",
        "Uneven overlap is a checkerboard, and squared in two dimensions.",
        f"Held where in untrained layers the energies of the phases have the ratio that the numbers of taps have, within "
        f"{100 * NEAR:g} %: 2 on one axis, 4 on two.",
        join_all(part.verdict for part in parts),
        tuple(parts),
        (f"Kernel 3 and stride 2 in 2-D: taps {counts} in the four phases, energies {energies}.",),
    )


def _show(decoders: Sequence[DecoderResult], grids: Mapping[tuple[str, int], Float64]) -> Claim:
    parts = []
    beside = []
    for dims in (1, 2):
        uneven, even = grids["transposed k3 s2", dims], grids["transposed k4 s2", dims]
        ratio = compare_sums(np.stack([uneven, even], axis=1), 0, 1)
        what = f"energy of the grid, k3 s2 over k4 s2, {dims}-D, trained"
        parts.append(Part(what, ratio, "times", judge_factor(ratio)))
        least = min((item for item in decoders if item.dims == dims), key=lambda item: item.grid.value)
        beside.append(
            f"In {dims}-D the grid is weakest with {least.name}: {uneven.mean() / least.grid.value:.3g} times less energy than "
            "with transposed k3 s2."
        )
    even_2d = next(item for item in decoders if item.name == "transposed k4 s2" and item.dims == 2)
    beside.append(
        f"Even overlap alone is no remedy before training: with transposed k4 s2 {100 * even_2d.untrained.value:.0f} % of the energy "
        "of untrained images in 2-D are at the frequencies of the grid, as each phase has random weights of its own."
    )
    return Claim(
        "generated",
        "Uneven overlap is seen in what trained decoders generate.",
        f"Held where the error of images that a trained decoder generates has {FACTOR:g} times or more as much energy at the "
        "frequencies of the grid with kernel 3 and stride 2 as with kernel 4, and certainly more, in 1-D and in 2-D; not held where "
        "that is excluded for one.",
        join_all(part.verdict for part in parts),
        tuple(parts),
        tuple(beside),
    )


def paragraphs(claims: Sequence[Claim]) -> Iterator[tuple[str, str]]:
    """The verdict on each claim and a paragraph with its numbers, in words."""
    for claim in claims:
        sentences = [f"{part.what[0].upper()}{part.what[1:]}: {say(part)}." for part in claim.parts]
        yield claim.verdict, " ".join([*sentences, *claim.beside])


def say(part: Part) -> str:
    """The value of a part with its interval.

    Example:
        >>> say(Part("time", Interval(1.0, 0.98, 1.02), "times", "held"))
        '1.00 (0.98 to 1.02)'
        >>> say(Part("energy", Interval(0.25, 0.2, 0.3), "share", "held"))
        '25.0 % (20.0 to 30.0)'
    """
    found = part.found
    if part.unit == "points":
        return _words(found)
    if part.unit == "share":
        return f"{100 * found.value:.1f} % ({100 * found.low:.1f} to {100 * found.high:.1f})"
    return f"{found.value:.2f} ({found.low:.2f} to {found.high:.2f})"
