r"""Fused runs: layers that follow one another, band by band where the values between them overflow the cache.

Two layers are *linked* when the second reads what the first writes and nobody else does. Linked layers may be worked
off together, a band of output rows after another, so that a value between two of them only ever exists as the few rows
that its reader still needs (:mod:`omniconv.compiler.fusion.interleave`). It pays where the value would
overflow the second-level cache; otherwise it is read from there in any case. Which layers of a run of linked ones are
fused is a pure function of sizes, target and number of threads: of all cuts into segments that fit, that with the
largest

.. math:: \sum_{\text{values inside segments}} \text{bytes} - \tfrac12 \, \text{bytes kept for the next band}
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from omniconv.compiler.fusion.bands import Change, Stage, stage_of
from omniconv.compiler.fusion.frames import X, Y, frames, locate, row_axis, steps_of
from omniconv.compiler.fusion.interleave import Interleaving
from omniconv.compiler.fusion.together import bring_together
from omniconv.compiler.kernels.lane.rows import Lane
from omniconv.compiler.kernels.lane.staged import Staged
from omniconv.compiler.kernels.panel.kernel import Panel
from omniconv.compiler.memory.planner import Call, Group
from omniconv.compiler.memory.storage import Buffer
from omniconv.integers import ceil_div
from omniconv.program.element import Element
from omniconv.records import dataclass
from omniconv.target.model import Target

LONGEST = 12
"""Layers fused at most, which bounds the search."""
HEIGHTS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
"""Rows of a band that are considered."""
FILLED = 0.4
"""Part of the cache that the rows between fused layers should fill: weights, inputs and outputs pass through it too."""
MOST_FILLED = 0.75
"""Part of the cache that they may fill where shorter bands would keep too many rows for the next one."""
MOST_COPIED = 0.25
"""Part of the values that may be copied to keep rows for the next band; half of it where every layer is as quick as a
copy, which those are that mix no channels."""
EVEN = 4
"""Images for each thread from which on it does not matter that some get one more. Of a single image threads share the
rows."""
MOST_REPEATED = 0.05
"""Part of the multiply-adds that may be done twice, where the strips of two threads meet."""


class Fused(NamedTuple):
    """What became of a list of calls."""

    calls: tuple[Call, ...]
    groups: tuple[Group, ...]


@dataclass(frozen=True, slots=True)
class Segment:
    """Layers ``begin`` to ``end`` of a run, fused if there is an interleaving."""

    begin: int
    end: int
    interleaving: Interleaving | None = None


def fuse(
    calls: Sequence[Call],
    given: Sequence[Group],
    buffers: list[Buffer],
    target: Target,
    threads: int,
    cache: int | None = None,
) -> Fused:
    """Fuse what pays. The buffers of values between fused layers shrink, and all lifetimes are counted again.

    The calls of ``given`` groups stay as they are.

    ``cache`` is the size that values have to overflow [bytes], ``None`` for that of the target. With 0 everything is
    fused that can be, in bands of one row.
    """
    size = target.cache_bytes if cache is None else cache
    calls = bring_together(calls, given, buffers)
    users = [0] * len(buffers)
    for call in calls:
        for buffer in {ref.buffer for ref in call.args}:
            users[buffer] += 1
    found: list[Call] = []
    groups: list[Group] = []
    starts = {group.first: group for group in given}
    done = 0
    for run, reason in _runs(calls, users, buffers):
        for segment, why in _cut(run, reason, target.element, size, threads):
            if done + segment.begin in starts:
                groups.append(replace(starts[done + segment.begin], first=len(found)))
            if segment.interleaving is None:
                call = run[segment.begin]
                told = why and not call.moved
                found.append(replace(call, why=(*call.why, f"fusing with the next layer: {why}")) if told else call)
                continue
            strips = segment.interleaving.emit(buffers, target)
            if threads > 1:
                groups.append(Group(len(found), tuple(map(len, strips))))
            found += [call for strip in strips for call in strip]
        done += len(run)
    count_lifetimes(found, groups, buffers)
    return Fused(tuple(found), tuple(groups))


def count_lifetimes(calls: Sequence[Call], groups: Sequence[Group], buffers: Sequence[Buffer]) -> None:
    """Count the lifetimes of all buffers. What strips use lives as long as the group, because they may run at once."""
    for one in buffers:
        one.first = one.last = -1
    for index, call in enumerate(calls):
        for ref in call.args:
            buffer = buffers[ref.buffer]
            if buffer.first < 0:
                buffer.first = index
            buffer.last = index
    for group in groups:
        last = group.first + sum(group.counts) - 1
        for number in {ref.buffer for call in calls[group.first : last + 1] for ref in call.args}:
            buffers[number].touch(group.first)
            buffers[number].touch(last)


def _runs(calls: Sequence[Call], users: Sequence[int], buffers: Sequence[Buffer]) -> list[tuple[list[Call], str]]:
    """The calls in maximal runs of linked layers, each with the reason why it ends."""
    found = []
    begin = 0
    while begin < len(calls):
        end, reason = begin + 1, None
        while (reason := reject_link(calls[begin:end], calls[end : end + 1], users, buffers)) is None:
            end += 1
        found.append((list(calls[begin:end]), reason))
        begin = end
    return found


def reject_link(
    run: Sequence[Call], following: Sequence[Call], users: Sequence[int], buffers: Sequence[Buffer]
) -> str | None:
    """Why a run of linked layers ends before the call that follows; ``None`` where it goes on.

    The reason is empty where there was nothing to decide: at the end of a program, and behind other steps than layers.
    """
    last = run[-1]
    if not _divides(last) or not following:
        return ""
    result, call = last.args[locate(last, Y)], following[0]
    value = result.buffer
    if buffers[value].kind != "arena":
        return ""
    if users[value] != 2:
        return f"its result is used by {users[value] - 1} steps"
    if not _divides(call) or (last.moved and call.moved):
        return f"{call.what} follows"
    if isinstance(last.recipe, Staged) or isinstance(call.recipe, Staged):
        return "channels are computed in parts"
    if [ref.buffer for ref in call.args].count(value) != 1 or call.args[X].buffer != value:
        return "the layer that follows reads another value"
    if any(isinstance(each.recipe, Panel) and (each.recipe.sweep or each.recipe.turned) for each in (last, call)):
        return "products are not cut into bands"
    if any(isinstance(each.recipe, Panel) and any(each.recipe.w_strides) for each in (last, call)):
        return "a product has other weights in every row"
    pairs = frames([*run, call])
    if pairs is None:
        return "the next layer reads a part of its result"
    steps = steps_of(last, pairs[-1][0], Y)
    shift = call.args[X].offset - result.offset
    if steps != steps_of(call, pairs[-1][0], X) or not 0 <= shift < min(filter(None, steps), default=1):
        return "the next layer reads its result in another order"
    return None


def _divides(call: Call) -> bool:
    """Whether a call is a layer or a change of layout, which may be worked off row by row."""
    return isinstance(call.recipe, Lane | Panel) or bool(call.moved)


def _cut(run: Sequence[Call], reason: str, element: Element, cache: int, threads: int) -> list[tuple[Segment, str]]:
    """The best cut of a run into segments, and for layers that stay alone, why."""
    pairs = frames(run) if len(run) > 1 else None
    if pairs is None:
        return [(Segment(0, 1), reason)]
    axis = row_axis(pairs)
    stages = [stage_of(call, *pair, axis, element) for call, pair in zip(run, pairs, strict=True)]
    # The most bytes saved in the first layers, and the last segment that this takes.
    best = [(0.0, Segment(0, 0))]
    reasons: dict[int, str] = {}
    for end in range(1, len(stages) + 1):
        choice = best[end - 1][0], Segment(end - 1, end)
        for begin in range(end - 2, max(-1, end - 1 - LONGEST), -1):
            posts = stages[begin].posts
            if cache and any(post.activation and post.activation.transcendental for post in posts):
                reasons.setdefault(begin, "its activation takes longer than the memory between them")
                break
            if stages[begin].result_bytes <= cache:
                reasons.setdefault(begin, f"the {stages[begin].result_bytes // 1024} KiB between them fit the cache")
                break
            found = plan_bands(stages[begin:end], cache, threads)
            if isinstance(found, str):
                reasons.setdefault(end - 2, found)
            elif best[begin][0] + found[1] > choice[0]:
                choice = best[begin][0] + found[1], Segment(begin, end, found[0])
        best.append(choice)
    segments: list[tuple[Segment, str]] = []
    end = len(stages)
    while end:
        segment = best[end][1]
        why = reason if end == len(stages) else reasons.get(end - 1, "fusing other layers saves more")
        segments.append((segment, why))
        end = segment.begin
    return segments[::-1]


def plan_bands(stages: Sequence[Stage], cache: int, threads: int) -> tuple[Interleaving, float] | str:
    """The bands of a segment with the bytes that they save, or why it has none.

    Of the heights whose rows fit the cache, the tallest that leaves enough of it to others, else the shortest.
    """
    rows = stages[-1].rows
    images = stages[0].result.images
    changes = any(isinstance(stage, Change) for stage in stages)
    if rows < 2:
        return "there are no rows to divide"
    if cache and changes and images > 1 and images % threads and images < EVEN * threads:
        return f"changes of layout are made at once for {images} images and {threads} threads"
    tile = max(stage.tile for stage in stages)
    strips = count_strips(stages, threads, 1, 1.0) if cache == 0 else count_strips(stages, threads, 2 * tile)
    if strips is None:
        return f"{threads} threads would get too few rows, or do too much of the work twice where their rows meet"
    values = sum(stage.result_bytes for stage in stages[:-1])
    most = MOST_COPIED if any(stage.mixes for stage in stages) else MOST_COPIED / 2
    best: tuple[Interleaving, float] | None = None
    reason = "a few rows of every value between them overflow the cache"
    heights = {_balance(max(1, rows // strips), height, tile) for height in HEIGHTS}
    for height in sorted(heights, reverse=True) if cache else [1]:
        between, copied = estimate_bytes(stages, height)
        if cache and between > MOST_FILLED * cache:
            continue
        if cache and copied > most * values:
            reason = "bands that fit the cache would keep too many of their rows for the next one"
            break
        best = Interleaving(tuple(stages), height, strips, threads), max(values - copied / 2, 1.0)
        if between <= FILLED * cache:
            break
    if best is None and changes and images > 1:
        # Whole images keep no rows, and one of them is nearer than all of them.
        best = Interleaving(tuple(stages), ceil_div(rows, strips), strips, threads), float(values)
    return best or reason


def estimate_bytes(stages: Sequence[Stage], height: int) -> tuple[int, int]:
    """For bands of ``height`` rows: the size of all buffers between the stages, and what is copied in them in all.

    Counted for a band in the middle.
    """
    between = copied = 0
    bands = ceil_div(stages[-1].rows, height)
    advance = height
    for stage, source in zip(stages[:0:-1], stages[-2::-1], strict=True):
        advance = ceil_div(advance, stage.step) * stage.step
        low, high = stage.reach(0, advance)
        advance = stage.reach(advance, 2 * advance)[0] - low
        kept = max(0, high - low - advance)
        room = high - low + kept
        row = source.row_bytes
        between += row * min(room, source.rows)
        if room < source.rows:
            copied += row * kept * (bands - 1) * source.result.images
    return between, copied


def count_strips(stages: Sequence[Stage], threads: int, fewest: int, most: float = MOST_REPEATED) -> int | None:
    """Strips that the rows of an image are divided into, of ``fewest`` rows at least: two for each thread where that
    repeats next to no work, one where it repeats no more than ``most`` of it; ``None`` where it repeats more.
    """
    images = stages[-1].result.images
    if threads == 1 or images >= threads:
        return 1
    # Rows that both sides of a border compute, stage by stage.
    repeated, begin, end = 0.0, stages[-1].step, stages[-1].step
    for stage, source in zip(stages[:0:-1], stages[-2::-1], strict=True):
        begin, end = begin // stage.step * stage.step, ceil_div(end, stage.step) * stage.step
        begin, end = stage.reach(begin, begin + stage.step)[0], stage.reach(end - stage.step, end)[1]
        repeated += source.macs * max(0, end - begin) / source.rows
    repeated /= sum(stage.macs for stage in stages)
    for strips, limit in ((ceil_div(2 * threads, images), most / 4), (ceil_div(threads, images), most)):
        if strips * max(fewest, stages[-1].step) <= stages[-1].rows and repeated * (strips - 1) <= limit:
            return strips
    return None


def _balance(rows: int, height: int, tile: int) -> int:
    """A height of bands near ``height`` that divides the rows evenly, in whole tiles where there is more than one."""
    bands = ceil_div(rows, min(height, rows))
    even = ceil_div(rows, bands)
    return ceil_div(even, tile) * tile if even >= tile else even
