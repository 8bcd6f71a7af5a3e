"""Fused runs: layers that follow one another, band by band where the values between them overflow the cache.

Two layers are *linked* when the second reads what the first writes and nobody else does. The calls of linked layers may
be emitted for a band of output rows after another instead of layer by layer, so that a value between two layers only
ever exists as the few rows that its reader still needs (:mod:`omniconv.compiler.interleave`). It pays when the value
would not fit the second-level cache; otherwise it is read from there anyway. Which layers of a run are fused is a pure
function of sizes, target and threads::

    for every cut of a run into segments that fit: bytes = sum over values between fused layers of
        (their bytes - half of the bytes copied to keep rows for the next band);  take the cut with the most
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from omniconv.compiler.bands import X, Y, Stage, frames, row_axis, steps_of
from omniconv.compiler.interleave import Interleaving
from omniconv.compiler.lane import Lane
from omniconv.compiler.panel import Panel
from omniconv.compiler.planner import Call
from omniconv.compiler.storage import Buffer
from omniconv.compiler.target import Target

LONGEST = 12
"""Layers fused at most, to bound the search."""
FILLED = 0.4
"""Part of the cache that the rows between fused layers should fill: weights, inputs and outputs pass through the rest."""
MOST_FILLED = 0.75
"""Part of the cache that they may fill where shorter bands would keep too many rows for the next one."""
MOST_COPIED = 0.25
"""Part of a value that may be copied to keep rows for the next band."""
MOST_REPEATED = 0.05
"""Part of the multiply-adds that may be done twice, where the rows of two threads meet."""


@dataclass(frozen=True, slots=True)
class Group:
    """Neighbouring calls that divide into strips: those of one strip run in order, strips in any order or at once.

    Attributes:
        first: index of the first call.
        counts: calls of each strip.
    """

    first: int
    counts: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Fused:
    """What became of a list of calls."""

    calls: tuple[Call, ...]
    groups: tuple[Group, ...]


def cache_bytes(target: Target) -> int:
    """Second-level cache of a core [bytes]."""
    return 2**20 if target.lanes == 16 else 2**19


def fuse(calls: Sequence[Call], buffers: list[Buffer], target: Target, threads: int, cache: int | None = None) -> Fused:
    """Fuse what pays; buffers of values between fused layers shrink, and all lifetimes are counted again.

    ``cache`` is the size that values overflow [bytes]; ``None`` for that of the target. With 0 everything is fused that
    can be.
    """
    size = cache_bytes(target) if cache is None else cache
    users = [0] * len(buffers)
    for call in calls:
        for buffer in {ref.buffer for ref in call.args}:
            users[buffer] += 1
    found: list[Call] = []
    groups: list[Group] = []
    begin = 0
    while begin < len(calls):
        run = [calls[begin]]
        reason = None
        while reason is None:
            reason = reject_link(run, calls[begin + len(run)] if begin + len(run) < len(calls) else None, users, buffers)
            if reason is None:
                run.append(calls[begin + len(run)])
        begin += len(run)
        _fuse_run(run, reason, size, threads, buffers, target, found, groups)
    for one in buffers:
        one.first = one.last = -1
    for index, call in enumerate(found):
        for ref in call.args:
            buffers[ref.buffer].touch(index)
    for group in groups:
        # Strips may run at once: all that they use lives as long as the group.
        inside = found[group.first : group.first + sum(group.counts)]
        for buffer in {ref.buffer for call in inside for ref in call.args}:
            buffers[buffer].touch(group.first)
            buffers[buffer].touch(group.first + len(inside) - 1)
    return Fused(tuple(found), tuple(groups))


def reject_link(run: Sequence[Call], following: Call | None, users: Sequence[int], buffers: Sequence[Buffer]) -> str | None:
    """Why a run of linked layers ends before a call; ``None`` where it goes on."""
    last = run[-1]
    if not isinstance(last.recipe, Lane | Panel):
        return "not a layer of rows"
    value = last.args[Y].buffer
    if buffers[value].kind != "arena":
        return "its result is an output"
    if users[value] != 2:
        return f"its result is used by {users[value] - 1} steps" if users[value] > 2 else "nobody reads its result"
    if following is None or not isinstance(following.recipe, Lane | Panel):
        return f"{'nothing' if following is None else following.what} follows"
    if following.args[X].buffer != value or value in (ref.buffer for ref in following.args[X + 1 :]):
        return "the next layer does not read its result alone"
    pairs = frames([call.recipe for call in (*run, following) if isinstance(call.recipe, Lane | Panel)])
    if pairs is None:
        return "the next layer reads only a part of it"
    middle = pairs[-1][0]
    steps = steps_of(last.recipe, middle, Y)
    shift = following.args[X].offset - last.args[Y].offset
    if steps != steps_of(following.recipe, middle, X) or not 0 <= shift < 4 * min((s for s in steps if s), default=1):
        return "the next layer reads it in another order"
    return None


def _fuse_run(
    run: Sequence[Call], reason: str, cache: int, threads: int, buffers: list[Buffer], target: Target,
    found: list[Call], groups: list[Group],
) -> None:  # fmt: skip
    """Append the calls of one run: the best cut into segments, each segment fused."""
    if len(run) == 1:
        found.append(_reject(run[0], reason))
        return
    recipes = [call.recipe for call in run if isinstance(call.recipe, Lane | Panel)]
    pairs = frames(recipes)
    assert pairs is not None
    axis = row_axis(pairs)
    stages = [Stage(call, *pair, axis) for call, pair in zip(run, pairs, strict=True)]
    # best[i]: the most bytes saved in the first i layers, where the last segment starts, and how it is interleaved.
    best: list[tuple[float, int, Interleaving | None]] = [(0.0, 0, None)]
    reasons: dict[int, str] = {}
    for end in range(1, len(stages) + 1):
        choice: tuple[float, int, Interleaving | None] = (best[end - 1][0], end - 1, None)
        for begin in range(end - 2, max(-1, end - 1 - LONGEST), -1):
            interleaving = plan_bands(stages[begin:end], cache, threads)
            if isinstance(interleaving, str):
                reasons.setdefault(end - 2, interleaving)
                if interleaving.endswith("fit the cache"):
                    break
                continue
            saved = best[begin][0] + interleaving.saved_bytes
            if saved > choice[0]:
                choice = saved, begin, interleaving
        best.append(choice)
    segments: list[tuple[int, int, Interleaving | None]] = []
    end = len(stages)
    while end:
        _, begin, interleaving = best[end]
        segments.append((begin, end, interleaving))
        end = begin
    for begin, end, interleaving in reversed(segments):
        why = reason if end == len(stages) else reasons.get(end - 1, "another cut of the run saves more")
        if interleaving is None:
            found.append(_reject(run[begin], why))
            continue
        strips = interleaving.emit(buffers, target)
        if threads > 1:
            groups.append(Group(len(found), tuple(map(len, strips))))
        found += [call for strip in strips for call in strip]


def _reject(call: Call, why: str) -> Call:
    return replace(call, why=(*call.why, f"fused with the next layer: {why}")) if why else call


def plan_bands(stages: Sequence[Stage], cache: int, threads: int) -> Interleaving | str:
    """The bands of a segment, or why it has none: the tallest bands whose rows fit the cache."""
    between = [stage.result_bytes for stage in stages[:-1]]
    small = min(between)
    if small <= cache:
        return f"the {small // 1024} KiB between them fit the cache"
    rows = stages[-1].rows
    if rows < 2:
        return "there are no rows to divide"
    strips = count_strips(stages, threads)
    if strips is None:
        return f"{threads} threads would repeat more than {MOST_REPEATED:.0%} of the work where their rows meet"
    tile = max(stage.tile for stage in stages)
    heights = sorted({_balance(rows // strips, height, tile) for height in range(1, min(rows, 64) + 1)}, reverse=True)
    best: Interleaving | None = None
    reason = "a few rows of every value do not fit the cache"
    for height in heights:
        found = Interleaving(tuple(stages), height, strips, threads)
        if found.between_bytes > MOST_FILLED * cache and (cache or height > 1):
            continue
        if cache and found.copied_bytes > MOST_COPIED * sum(between):
            reason = "bands that fit the cache would keep most of their rows for the next one"
            break
        best = found
        if found.between_bytes <= FILLED * cache:
            break
    return best or reason


def count_strips(stages: Sequence[Stage], threads: int) -> int | None:
    """Parts that the rows of an image are divided into for the threads; ``None`` where that repeats too much."""
    images = stages[-1].result.images
    if threads == 1 or images >= threads:
        return 1
    for strips, most in ((-(2 * threads // -images), MOST_REPEATED / 4), (-(threads // -images), MOST_REPEATED)):
        if strips <= stages[-1].rows // max(1, stages[-1].step):
            whole = Interleaving(tuple(stages), stages[-1].rows, strips, threads)
            if whole.repeated <= most:
                return strips
    return None


def _balance(rows: int, height: int, tile: int) -> int:
    """A height of bands near ``height`` that divides the rows evenly, a whole number of tiles if there are several."""
    rows = max(rows, 1)
    even = -(rows // -(-(rows // -min(height, rows))))
    return -(even // -tile) * tile if even >= tile else even
