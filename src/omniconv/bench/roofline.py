r"""What this machine can do at most, measured: multiply-adds in registers, and streams through each level of memory.

A layer of :math:`F` floating-point operations that must read :math:`R` and write :math:`W` bytes cannot take less time
than

.. math:: T = \max\Big(\frac{F}{P},\; \frac{2 \min(R, W)}{B_{copy}} + \frac{|R - W|}{B_{read\ or\ write}}\Big)

with the measured peak :math:`P` and the measured bandwidths :math:`B` of the smallest level that holds input, weights
and output together: equal amounts of reading and writing flow as in a copy, what is left of one of them as in a pure
stream. The *share of the roofline* is :math:`T` over the time taken. It is a bound for direct sums: Winograd filtering
executes fewer multiplications and may exceed 1.

All kernels are made with the kernel builder and for the target of the layers; several threads measure together, each
on memory of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import field
from typing import Any, Final

import numpy as np

from omniconv.bench.precision import BFLOAT16, FLOAT32, INT8
from omniconv.compiler.code.build import Source, load
from omniconv.compiler.code.cache import open_cache
from omniconv.compiler.emit.builder import Kernel
from omniconv.compiler.emit.integers import add_exact_quads, add_pairs, add_quads, load_words, store_words, words
from omniconv.compiler.emit.integers import sums as sums_of
from omniconv.compiler.emit.machine import Bits, Value
from omniconv.records import dataclass
from omniconv.runtime.arena import Arena
from omniconv.runtime.driver import STEP_WORDS
from omniconv.runtime.threads import Job, run_on_team
from omniconv.target.caches import find_caches
from omniconv.target.model import Target
from omniconv.target.select import select_target

CHAINS: Final = 12
"""Independent sums: enough for two units of latency 4 to 6, and with two operands they fit into 16 registers."""
INTEGER_CHAINS: Final = 8
"""The same of products of integers, which are added by an instruction of their own in one cycle and take registers."""
UNROLL: Final = 8
"""Vectors of a stream in one turn of its loop."""
TRIES: Final = 9
TRY_SECONDS: Final = 1.5e-3
MEMORY: Final = "memory"


@dataclass(frozen=True, slots=True)
class MemoryLevel:
    """Measured bandwidth of one level.

    Attributes:
        name: ``L1`` ... or ``memory``.
        capacity: bytes that it holds for all threads together; 0 for memory, which holds everything.
        read, write, copy: all threads together; a copy counts what is read and what is written [bytes/s].
    """

    name: str
    capacity: int
    read: float
    write: float
    copy: float

    def seconds(self, read: int, written: int) -> float:
        """Least time to read and write so many bytes [s]."""
        both = min(read, written)
        rest = (read - both) / self.read + (written - both) / self.write
        return 2 * both / self.copy + rest


@dataclass(frozen=True, slots=True)
class Bound:
    """Least time of a layer: what it is [s], and what sets it (``FMA`` or the name of a level)."""

    seconds: float
    limiter: str


@dataclass(frozen=True, slots=True)
class Roofline:
    """The limits of this machine for one target and a number of threads.

    Attributes:
        target: name of the instruction set.
        threads: that measured together.
        peak: multiply-adds counted as two operations [FLOP/s].
        levels: caches from the smallest, then memory.
        probe: does ``probe_flops`` operations at the peak, to see later whether the machine still reaches it.
        probe_alone: does the share of one thread on one thread; ``None`` where there is no other.
        precision: what is multiplied.
    """

    target: str
    threads: int
    peak: float
    levels: tuple[MemoryLevel, ...]
    probe: Callable[[], None] | None = field(default=None, repr=False, compare=False)
    probe_flops: float = 0.0
    probe_alone: Callable[[], None] | None = field(default=None, repr=False, compare=False)
    precision: str = FLOAT32

    def bound(self, flops: float, read: int, written: int) -> Bound:
        """Least time for so many operations and bytes."""
        level = next((level for level in self.levels if read + written <= level.capacity), self.levels[-1])
        compute, memory = flops / self.peak, level.seconds(read, written)
        return Bound(compute, "FMA") if compute >= memory else Bound(memory, level.name)

    def as_dict(self) -> dict[str, Any]:
        """For a JSON report."""
        return {
            "target": self.target,
            "threads": self.threads,
            "precision": self.precision,
            "peak_gflop_per_second": self.peak * 1e-9,
            "levels": [
                {
                    "name": level.name,
                    "capacity_bytes": level.capacity,
                    "read_gb_per_second": level.read * 1e-9,
                    "write_gb_per_second": level.write * 1e-9,
                    "copy_gb_per_second": level.copy * 1e-9,
                }
                for level in self.levels
            ],
        }


def measure_roofline(target: str | None = None, threads: int = 1, precision: str = FLOAT32) -> Roofline:
    """Measure the limits; takes about a second.

    Args:
        target: instruction set, by default this machine's.
        threads: that measure together.
        precision: what is multiplied: in bfloat16 pairs, where the machine multiplies such, else float32; in int8
            bytes or words, whichever is faster.
    """
    chosen = select_target(target)
    repeats = 2**18  # half a millisecond: the call from Python no longer counts
    operands = np.zeros(CHAINS * 4 * chosen.lanes, np.float32)
    args = [operands.ctypes.data]
    kernels = [(source, 2.0 * products * repeats * threads) for source, products in _peaks(chosen, repeats, precision)]
    source, flops = max(
        kernels, key=lambda kernel: kernel[1] / _time(_prepare(kernel[0], chosen, threads, args, operands))
    )
    probe = _prepare(source, chosen, threads, args, operands)
    alone = _prepare(source, chosen, 1, args, operands) if threads > 1 else None
    peak = flops / _time(probe)
    caches = find_caches()
    levels = []
    below = 0
    for cache in caches:
        capacity = cache.size * (threads if cache.private else 1)
        working = max(capacity // 2 if cache.private else capacity // 4, 2 * below)
        if working < capacity:
            levels.append(_measure_level(cache.name, capacity, working, chosen, threads))
        below = capacity
    levels.append(_measure_level(MEMORY, 0, 4 * max(below, 2**23), chosen, threads))
    return Roofline(chosen.name, threads, peak, tuple(levels), probe, flops, alone, precision)


def _measure_level(name: str, capacity: int, working: int, target: Target, threads: int) -> MemoryLevel:
    """Streams over ``working`` bytes, all threads and both arrays of a copy together."""
    step = target.lanes * UNROLL
    half = max(working // threads // 8 // step, 1) * step  # floats of one of two arrays, for each thread
    pitch = 2 * half + 16 * target.lanes
    room = Arena(4 * pitch * threads + 64)
    repeats = max(1, 2**20 // half)
    rates = {}
    for what, reads, writes in (
        ("write", 0, 2),
        ("read", 2, 0),
        ("copy", 1, 1),
    ):  # pages that were never written are one
        source = _stream_source(target, half, pitch, repeats, reads, writes)
        seconds = _time(_prepare(source, target, threads, [room.address], room))
        rates[what] = 8.0 * half * repeats * threads / seconds
    return MemoryLevel(name, capacity, **rates)


def _prepare(source: Source, target: Target, threads: int, args: Sequence[int], held: object) -> Callable[[], None]:
    """A call that runs a kernel once on every thread; it holds the memory that the kernel works on."""
    [kernel] = load([source], target, cache=open_cache())
    table = np.asarray(args, np.int64)
    step = np.zeros((1, STEP_WORDS), np.int64)
    step[0] = kernel.address, table.ctypes.data, threads, 0
    job = Job(step.ctypes.data, 1)

    def run(_held: object = (kernel, table, step, held)) -> None:
        run_on_team(threads, job)

    return run


def _time(run: Callable[[], None]) -> float:
    """Shortest time of a call [s]."""
    best = float("inf")
    for _ in range(TRIES):
        begin = now = time.perf_counter()
        while now - begin < TRY_SECONDS:
            start = now
            run()
            now = time.perf_counter()
            best = min(best, now - start)
    return best


def _peaks(target: Target, repeats: int, precision: str) -> list[tuple[Source, int]]:
    """Kernels that multiply as fast as they can, and the products of a step of all chains."""
    lanes = target.lanes
    if precision == INT8:
        depths = (0, 1, 2) if target.traits.words.quads else (0,)
        found = [
            (_integer_source(target, repeats, depth), INTEGER_CHAINS * 2 * max(2 * depth, 1) * lanes)
            for depth in depths
        ]
        if target.traits.quad_sums is not None:
            found.append((_integer_source(target, repeats, 1, exact=True), CHAINS * 4 * lanes))
        return found
    pairs = precision == BFLOAT16 and bool(target.traits.pair_sums)
    return [(_fma_source(target, repeats, pairs=pairs), CHAINS * (1 + pairs) * lanes)]


def _integer_source(target: Target, repeats: int, depth: int, *, exact: bool = False) -> Source:
    return Source(
        f"integer peak {INTEGER_CHAINS} {repeats} {depth}{' exact' if exact else ''}",
        lambda name: emit_integers(name, target, repeats, depth, exact=exact),
        "peak",
    )


def emit_integers(name: str, target: Target, repeats: int, depth: int, *, exact: bool = False) -> str:
    """Independent chains of products of words, or of bytes where they have a depth, as the kernels of layers add them,
    in 32 bits at once where they are ``exact``; each has weights of its own, which are read from the first-level cache.
    """
    k = Kernel(name, target)
    x, lanes, count = k.arg(0), target.lanes, max(depth, 1)
    sums = [k.variable(sums_of(lanes), k.splat(0, sums_of(lanes))) for _ in range(CHAINS if exact else INTEGER_CHAINS)]
    with k.loop(k.end, k.begin), k.loop(repeats):
        k.fence()  # else LLVM would multiply once
        a = [load_words(k, x, 2 * lanes * number, 2 * lanes) for number in range(count)]
        for chain, slot in enumerate(sums):
            b = [load_words(k, x, 2 * lanes * (count * chain + number), 2 * lanes) for number in range(count)]
            total = Bits(k.get(slot))
            if exact:
                total = add_exact_quads(k, total, a[0], b[0])
            else:
                total = add_quads(k, total, a, b) if depth else add_pairs(k, total, a[0], b[0])
            k.set(slot, Value(total))
    for slot in sums:
        store_words(k, Bits(k.b.bitcast(k.get(slot), words(2 * lanes))), x, 0)
    return k.finish()


def _fma_source(target: Target, repeats: int, *, pairs: bool) -> Source:
    key = f"peak {CHAINS} {repeats}{' pairs' if pairs else ''}"
    return Source(key, lambda name: emit_fma(name, target, repeats, pairs=pairs), "peak")


def emit_fma(name: str, target: Target, repeats: int, *, pairs: bool) -> str:
    """Independent chains of multiply-adds, of pairs of bfloat16 where asked for; nothing else in the loop."""
    k = Kernel(name, target)
    x = k.arg(0)
    a, b = k.load(x, 0), k.load(x, target.lanes)
    sums = [k.variable(k.vector_type(), k.splat(0.0)) for _ in range(CHAINS)]
    with k.loop(k.end, k.begin), k.loop(repeats // 4):
        for _ in range(4):
            for slot in sums:
                total = k.get(slot)
                k.set(slot, k.add_pairs(total, Bits(a), Bits(b)) if pairs else k.fma(a, b, total))
    for slot in sums:
        k.store(k.get(slot), x)
    return k.finish()


def _stream_source(target: Target, half: int, pitch: int, repeats: int, reads: int, writes: int) -> Source:
    return Source(
        f"stream {half} {pitch} {repeats} {reads} {writes}",
        lambda name: _emit_stream(name, target, half, pitch, repeats, reads, writes),
        "stream",
    )


def _emit_stream(name: str, target: Target, half: int, pitch: int, repeats: int, reads: int, writes: int) -> str:
    """Read both halves of a thread's memory, write both, or copy the first to the second."""
    k = Kernel(name, target)
    lanes = target.lanes
    sums = [k.variable(k.vector_type(), k.splat(0.0)) for _ in range(UNROLL)]
    length = half * max(reads, writes)
    with k.loop(k.end, k.begin) as unit:
        base = k.shift(k.arg(0), k.mul(unit, pitch))
        other = k.shift(base, half + 8 * lanes)
        with k.loop(repeats), k.loop(length, 0, UNROLL * lanes) as i:
            values = [k.splat(0.0)] * UNROLL
            if reads:
                values = [k.load(base, k.add(i, j * lanes)) for j in range(UNROLL)]
            for j, value in enumerate(values):
                if reads and writes:
                    k.store(value, other, k.add(i, j * lanes))
                elif writes:
                    k.store(value, base, k.add(i, j * lanes))
                else:
                    k.set(sums[j], k.b.fadd(value, k.get(sums[j])))
        for slot in sums:
            k.store(k.get(slot), base)
    return k.finish()
