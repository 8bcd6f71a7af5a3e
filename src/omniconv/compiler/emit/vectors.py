"""Channel vectors: the innermost loop of every kernel that works on each channel by itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from omniconv.compiler.emit import ir
from omniconv.compiler.emit.builder import Kernel
from omniconv.compiler.emit.machine import Index, Pointer, Value
from omniconv.integers import ceil_div
from omniconv.open_size import Known, is_open, may_exceed


def emit_vectors(
    k: Kernel,
    channels: int,
    body: Callable[[Index, int, int | None], None],
    *,
    group: int = 1,
    masked: bool = True,
    part: Index = 0,
    parts: Known = 1,
) -> None:
    """Run ``body(first channel, vectors, tail)`` over all channels, or over one of ``parts`` equal shares of them.

    Args:
        k: the kernel.
        channels: how many there are; where that is an `OpenSize`, groups end with vectors one by one, and a tail has
            pinned lanes.
        body: emits the work on some neighbouring vectors; the last of them holds only ``tail`` channels unless that
            is None.
        group: vectors at a time.
        masked: whether a last vector that is not full needs its tail told; without, it counts as a whole one.
        part: this share.
        parts: number of shares.
    """
    vectors = ceil_div(channels, k.lanes)
    tail = int(channels % k.lanes) if masked else 0
    if is_open(channels):
        _emit_open(k, vectors, tail, body, group, part, parts)
        return
    groups = ceil_div(vectors, group)
    short = vectors - (groups - 1) * group

    def emit(index: Index, last: bool) -> None:
        body(k.mul(index, group * k.lanes), short if last else group, (tail or None) if last else None)

    emit_share(k, groups, emit, ragged=bool(tail) or short != group, part=part, parts=parts)


def _emit_open(
    k: Kernel,
    vectors: Known,
    tail: int,
    body: Callable[[Index, int, int | None], None],
    group: int,
    part: Index,
    parts: Known,
) -> None:
    """:func:`emit_vectors` where the number of vectors is open."""
    begin = k.divmod(k.mul(part, vectors), parts)[0]
    last = k.divmod(k.mul(k.add(part, 1), vectors), parts)[0]
    end = k.min(last, vectors - 1) if tail else last
    whole = k.add(begin, k.mul(k.divmod(k.max(k.sub(end, begin), 0), group)[0], group))
    with k.loop(whole, start=begin, step=group) as index:
        body(k.mul(index, k.lanes), group, None)
    if group > 1:
        with k.loop(end, start=whole) as index:
            body(k.mul(index, k.lanes), 1, None)
    if tail:
        with k.when(k.compare("==", last, vectors)):
            body(k.mul(k.sub(last, 1), k.lanes), 1, tail)


def emit_share(
    k: Kernel, count: int, body: Callable[[Index, bool], None], *, ragged: bool, part: Index, parts: Known
) -> None:
    """Run ``body(index, False)`` for each index below ``count``, or for one of ``parts`` equal shares of them.

    Where the last one is ``ragged``, which the others are not, it has code of its own: ``body(count - 1, True)``.
    """
    whole = count - 1 if ragged else count
    begin: Index = 0
    end: Index = whole
    last: Index = count
    if may_exceed(parts, 1):
        begin = k.divmod(k.mul(part, count), parts)[0]
        last = k.divmod(k.mul(k.add(part, 1), count), parts)[0]
        end = k.min(last, whole)
    if whole:
        with k.loop(end, start=begin) as index:
            body(index, False)
    if ragged:
        with k.when(k.compare("==", last, count)):
            body(count - 1, True)


def count_groups(channels: int, lanes: int, group: int) -> int:
    """Iterations of :func:`emit_vectors`: the finest split into parts."""
    return ceil_div(ceil_div(channels, lanes), group)


def largest(k: Kernel, a: Value, b: Value) -> Value:
    """The larger of two values, NaN if either is one; either zero where both are zeros."""
    return _extreme(k, "maximum", a, b)


def smallest(k: Kernel, a: Value, b: Value) -> Value:
    """The smaller of two values, NaN if either is one; either zero where both are zeros."""
    return _extreme(k, "minimum", a, b)


def _extreme(k: Kernel, which: str, a: Value, b: Value) -> Value:
    return k.call(which, a, b, flags="nsz")


def emit_fold(k: Kernel, combine: Callable[[Value, Value], Value], vector: Value) -> Value:
    """All lanes combined into a scalar, in a fixed order."""
    width = k.lanes
    while width > 1:
        width //= 2
        upper = k.permute(vector, [lane + width for lane in range(width)])
        vector = combine(k.permute(vector, list(range(width))), upper)
    return k.b.extract_element(vector, 0)


def emit_gather(k: Kernel, sources: Sequence[Value], wanted: Sequence[tuple[int, int]]) -> Value:
    """The vector whose lanes are lane l of ``sources[s]`` for ``(s, l)`` in ``wanted``, by constant shuffles."""
    used = sorted({source for source, _ in wanted})
    undefined = Value(ir.undefined(sources[0].type))
    first, *others = used
    lanes = [lane if source == first else 0 for source, lane in wanted]
    if not others:
        return k.b.shuffle_vector(sources[first], undefined, lanes)
    second, *others = others
    width = sources[0].type.count
    start = {first: 0, second: width}
    lanes = [start[source] + lane if source in start else 0 for source, lane in wanted]
    result = k.b.shuffle_vector(sources[first], sources[second], lanes)
    for other in others:
        lanes = [width + at[1] if at[0] == other else place for place, at in enumerate(wanted)]
        result = k.b.shuffle_vector(result, sources[other], lanes)
    return result


def emit_transpose(k: Kernel, rows: Sequence[Value]) -> list[Value]:
    """The transpose of ``lanes`` vectors, in log2(lanes) rounds of exchanges between two vectors."""
    values, lanes = list(rows), k.lanes
    step = 1
    while step < lanes:
        lower = [x if not x & step else x - step + lanes for x in range(lanes)]
        upper = [x + step if not x & step else x + lanes for x in range(lanes)]
        for r in range(lanes):
            if not r & step:
                a, b = values[r], values[r + step]
                values[r] = k.b.shuffle_vector(a, b, lower)
                values[r + step] = k.b.shuffle_vector(a, b, upper)
        step *= 2
    return values


def emit_transpose_from(k: Kernel, rows: Sequence[Pointer]) -> list[Value]:
    """The transpose of ``lanes`` vectors in memory.

    Quarters of 4 lanes are put where they belong as they are loaded, which leaves blocks of 4 x 4 to transpose: two
    rounds of shuffles that stay within 4 lanes, each of them one instruction.
    """
    lanes = k.lanes
    if lanes < 4:
        return emit_transpose(k, [k.load(row) for row in rows])
    results: list[Value] = []
    for column in range(0, lanes, 4):
        found = []
        for r in range(4):
            parts = [k.load(row, column, lanes=4) for row in rows[r::4]]
            while len(parts) > 1:
                parts = [_join(k, a, b) for a, b in zip(parts[::2], parts[1::2], strict=True)]
            found.append(parts[0])
        a, b, c, d = found
        for pairs in ((0, 4, 1, 5), (2, 6, 3, 7)):
            first, second = _shuffle(k, a, b, pairs), _shuffle(k, c, d, pairs)
            results += [_shuffle(k, first, second, (0, 1, 4, 5)), _shuffle(k, first, second, (2, 3, 6, 7))]
    return results


def _join(k: Kernel, a: Value, b: Value) -> Value:
    """The lanes of ``a``, then those of ``b``."""
    width = 2 * a.type.count
    return k.b.shuffle_vector(a, b, range(width))


def _shuffle(k: Kernel, a: Value, b: Value, wanted: tuple[int, int, int, int]) -> Value:
    """Lanes of two vectors (4 and up are those of ``b``), the same in every group of 4."""
    width = a.type.count
    lanes = [group + lane % 4 + lane // 4 * width for group in range(0, width, 4) for lane in wanted]
    return k.b.shuffle_vector(a, b, lanes)
