"""Running a corpus: every problem in both layouts of ours, against every peer, with its limit on this machine."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np

from omniconv.bench.compare import OURS, Comparison, Contender, Result, compare, fastest
from omniconv.bench.compilation import Compilation
from omniconv.bench.cost import count_executed_macs, count_macs, count_traffic
from omniconv.bench.interleave import Timing
from omniconv.bench.peers import Peer, TimedCall
from omniconv.bench.precision import FLOAT32, INT8, WEIGHT_BYTES, compute_integers
from omniconv.bench.roofline import Bound, Roofline
from omniconv.bench.sources import Case, problem_workload
from omniconv.bench.workload import Array, Workload
from omniconv.records import dataclass
from omniconv.reference import reference

LAYOUTS: Final = ("NHWC", "NCHW")
WINOGRAD_PEERS: Final = frozenset({"ncnn"})
"""Runtimes that use Winograd filtering where it is faster."""
REFERENCE_MACS: Final = 50_000_000
"""Problems of at most so many multiply-accumulates are verified against the float64 reference as well."""
BUSY: Final = 0.2
"""Distance of the quartiles, relative to the median, from which on a ratio is marked as unreliable."""
SLOW: Final = 0.85
"""Share of the peak at the start, below which the machine counts as busy too."""
PROBE, PROBE_ALONE = "peak", "peak on one thread"
CALL: Final = 2.5e-6
"""About what a call of a layer from Python takes beside its kernels [s]."""
SHORT: Final = 4 * CALL
FULL: Final = 0.85
"""Share of the roofline from which on a kernel counts as good as it can be."""
LONG: Final = 1e-4
"""Time on one thread from which on scaling is looked at [s]."""
CORPUS_ROUNDS: Final = 15
CORPUS_TURN: Final = 2e-3
CORPUS_PATIENCE: Final = 2.0
QUICK_ROUNDS: Final = 5
QUICK_TURN: Final = 1e-3
QUICK_PATIENCE: Final = 0.4


@dataclass(frozen=True, slots=True)
class Measured:
    """One problem of a corpus with everything that was measured.

    Attributes:
        case: the problem.
        comparison: all contenders; GFLOP/s are on executed work.
        nominal_macs: the textbook formula [MAC].
        bound: least time on this machine.
        working_set: input, weights and output [bytes].
        verified: whether the float64 reference was computed too.
        compilation: what compiling it took.
        peak: the peak of multiply-adds, measured in turns with the contenders [FLOP/s].
        slow: whether that is far below the peak measured at the start: others used the machine.
        peak_scaling: the peak on all threads over that on one, in the same turns.
        multiplications: that our fastest contender does, where it filters; ``None`` where it does not.
    """

    case: Case
    comparison: Comparison
    nominal_macs: int
    bound: Bound
    working_set: int
    verified: bool
    compilation: Compilation | None = None
    peak: float = 0.0
    slow: bool = False
    peak_scaling: float | None = None
    multiplications: int | None = None

    def ours(self, layout: str, *, exact: bool = False) -> Result | None:
        """Our contender in one layout, where it ran and is right."""
        return fastest(i for i in self.comparison.ours if i.layout == layout and i.exact == exact and not i.solo)

    @property
    def share(self) -> float | None:
        """Share of the roofline that our best layout reaches."""
        best = self.comparison.our_best
        return None if best is None else self.bound.seconds / best.median

    @property
    def direct_peer(self) -> Result | None:
        """The fastest peer that has no Winograd filtering."""
        return fastest(item for item in self.comparison.peers if item.runtime not in WINOGRAD_PEERS)

    @property
    def scaling(self) -> float | None:
        """Our time on one thread over that on all, each in its best layout; ``None`` unless there are several."""
        return self._scaling(lambda timing: timing.median)

    @property
    def scaling_fastest(self) -> float | None:
        """The same of the shortest rounds, which other programs on the machine disturb least."""
        return self._scaling(lambda timing: timing.fastest)

    def _scaling(self, time: Callable[[Timing], float]) -> float | None:
        alone, best = fastest(item for item in self.comparison.ours if item.solo), self.comparison.our_best
        if alone is None or best is None or alone.timing is None or best.timing is None:
            return None
        return time(alone.timing) / time(best.timing)

    @property
    def why_slower(self) -> str | None:
        """What keeps us behind the best peer, as far as the numbers say; ``None`` where we are not."""
        ratio, ours = self.comparison.ratio(), self.comparison.our_best
        if ratio is None or ratio >= 1 or ours is None or self.share is None:
            return None
        if self.busy:
            return "the machine was busy, measure again"
        if ours.median < SHORT:
            return f"it takes {ours.median * 1e6:.0f} us, of which a call from Python is {CALL * 1e6:.0f} us"
        if self.share >= FULL:
            return f"at {self.share:.0%} of the limit ({self.bound.limiter}) there is little left to win"
        return f"our kernel reaches {self.share:.0%} of the limit ({self.bound.limiter})"

    def ratios(self) -> dict[str, float | None]:
        """What goals are about, by name (see :data:`omniconv.bench.sources.GOALS`)."""
        compared, direct = self.comparison, self.direct_peer
        exact = fastest(item for item in compared.ours if item.exact)
        first = self.ours("NCHW")
        return {
            "wanted": compared.ratio(),
            "direct": compared.ratio(None, direct) if direct else None,
            "exact": compared.ratio(exact, direct) if exact and direct else None,
            "first": compared.ratio(first) if first else None,
        }

    @property
    def busy(self) -> bool:
        """Whether the machine was so busy that the numbers should not be believed."""
        if self.slow:
            return True
        pair = (self.comparison.our_best, self.comparison.best)
        return any(item is not None and item.timing is not None and item.timing.spread > BUSY for item in pair)

    def short(self) -> dict[str, tuple[float | None, float]]:
        """The goals that are not reached: what was reached, and what is wanted. Without peers there are no goals."""
        if not any(peer.valid for peer in self.comparison.peers):
            return {}
        reached = self.ratios()
        found = {}
        for name, wanted in (self.case.goals or {}).items():
            value = reached[name]
            if value is None or value < wanted:
                found[name] = (value, wanted)
        return found

    def as_dict(self) -> dict[str, Any]:
        """For a JSON report."""
        return {
            **self.comparison.as_dict(),
            "corpus": self.case.corpus,
            "kind": self.case.kind,
            "goals": dict(self.case.goals or {}),
            "ratios": self.ratios(),
            "short": sorted(self.short()),
            "busy": self.busy,
            "scaling": self.scaling,
            "scaling_fastest": self.scaling_fastest,
            "peak_scaling": self.peak_scaling,
            "why_slower": self.why_slower,
            "peak_meanwhile_gflop_per_second": self.peak * 1e-9,
            "nominal_macs": self.nominal_macs,
            "multiplications": self.multiplications,
            "working_set_bytes": self.working_set,
            "limit_ms": self.bound.seconds * 1e3,
            "limit_is": self.bound.limiter,
            "roofline_share": self.share,
            "verified_against_reference": self.verified,
            "compile_ms": self.compilation.seconds * 1e3 if self.compilation else None,
            "compile_peak_bytes": self.compilation.peak_bytes if self.compilation else None,
        }


def measure_case(
    case: Case,
    peers: Iterable[Peer],
    roofline: Roofline,
    *,
    threads: int = 1,
    target: str | None = None,
    tuned: bool = False,
    seed: int = 0,
    verify: bool = True,
    precision: str = FLOAT32,
    **settings: Any,
) -> Measured:
    """Verify and time one problem; settings are those of :func:`omniconv.bench.compare.compare`.

    In int8 all run the same integers and are verified against an oracle of integers, where the problem is made of
    convolutions and limits alone.
    """
    workload = problem_workload(case.line, case.spec, case.shape, seed, case.title, precision)
    executed = count_executed_macs(case.spec, case.shape)
    exactly = "exact" in (case.goals or {})
    done: dict[str, int] = {}
    layouts = LAYOUTS[1:] if precision == INT8 else LAYOUTS
    ours = [
        contender(workload, layout, done, threads=threads, target=target, exact=exact, tuned=tuned)
        for exact in ((False, True) if exactly else (False,))
        for layout in layouts
    ]
    if threads > 1:
        ours += [
            contender(workload, layout, done, threads=1, target=target, exact=False, tuned=tuned, solo=True)
            for layout in layouts
        ]
    expected: list[Array] | None = None
    if verify and executed <= REFERENCE_MACS and precision == INT8:
        expected = [compute_integers(workload.layers, workload.inputs["x"])] if workload.layers else None
    elif verify and executed <= REFERENCE_MACS:
        expected = [reference(case.spec, workload.inputs["x"], workload.weights).astype(np.float32)]
    probes = {PROBE: roofline.probe, PROBE_ALONE: roofline.probe_alone}
    compared = compare(
        workload,
        ours,
        peers,
        threads=threads,
        expected=expected,
        macs=executed,
        keep_going=True,
        probes={name: call for name, call in probes.items() if call is not None},
        **settings,
    )
    probe = compared.probes.get(PROBE)
    alone = compared.probes.get(PROBE_ALONE)
    peak = roofline.probe_flops / probe.median if probe else 0.0
    read, written = count_traffic(case.spec, case.shape, WEIGHT_BYTES[precision])
    best = compared.our_best
    multiplications = None if best is None else done.get(best.name)
    bound = roofline.bound(2 * (executed if multiplications is None else multiplications), read, written)
    return Measured(
        case,
        compared,
        count_macs(case.spec, case.shape),
        bound,
        read + written,
        expected is not None,
        peak=peak,
        slow=probe is not None and peak < SLOW * roofline.peak,
        peak_scaling=threads * alone.median / probe.median if probe and alone else None,
        multiplications=multiplications,
    )


def contender(
    workload: Workload,
    layout: str,
    done: dict[str, int],
    *,
    threads: int,
    target: str | None,
    exact: bool,
    tuned: bool,
    solo: bool = False,
) -> Contender:
    """Omniconv on arrays of one layout, outputs as channels-first views. The multiplications of a filtered one are put
    into ``done``, by its name.
    """

    def load() -> TimedCall:
        from omniconv.api import compile as compile_spec
        from omniconv.inspection import cost

        assert workload.spec is not None
        x = workload.inputs["x"]
        settings: dict[str, Any] = {"threads": threads, "exact": exact, "tuned": tuned, "target": target}
        compiled: Any
        if workload.precision == INT8:
            compiled = compile_spec(workload.model, strict=True, **settings)
        else:
            settings["precision"] = workload.precision
            compiled = compile_spec(workload.spec, x.shape, workload.weights, layout=layout, **settings)
        steps = cost(compiled).layers
        if any(step.filtered is not None for step in steps):
            done[name] = sum(step.executed_macs if step.filtered is None else step.filtered for step in steps)
        if layout == "NCHW":
            return lambda: [compiled(x)]
        last = np.ascontiguousarray(np.moveaxis(x, 1, -1))
        first = (0, x.ndim - 1, *range(1, x.ndim - 1))
        return lambda: [compiled(last).transpose(first)]

    name = f"{OURS} {layout}{' exact' if exact else ''}{' 1 thread' if solo else ''}"
    return Contender(name, load, layout, exact, solo)


def add_compilations(measured: Sequence[Measured], compiled: Sequence[Compilation]) -> list[Measured]:
    """Put compile times beside the problems that they belong to."""
    by_line = {item.line: item for item in compiled}
    return [replace(item, compilation=by_line.get(item.case.line)) for item in measured]


@dataclass(frozen=True, slots=True)
class Summary:
    """What a corpus says as a whole. Ratios are the best peer's time over ours, each in its best layout.

    Attributes:
        cases: number of problems; ``compared`` of them were run by some peer.
        ratio: geometric mean of the ratios.
        worst: the problem with the smallest ratio.
        share: geometric mean of the shares of the roofline.
        goals: number of goals; ``met`` of them are reached.
        compile_median, compile_worst: time to compile a layer [s].
        compile_peak: most memory the compiler took for a layer [bytes].
        compile_process: the same with all that its process held [bytes].
        failed: problems that ours did not run or got wrong.
        scaling, worst_scaling: geometric mean and least of the scaling of problems that take 100 us on one thread.
        scaling_fastest: geometric mean of that of their shortest rounds.
        peak_scaling: geometric mean of what the peak itself gains from the threads, in the same turns.
    """

    cases: int
    compared: int
    ratio: float | None
    worst: Measured | None
    share: float | None
    goals: int
    met: int
    compile_median: float | None
    compile_worst: float | None
    compile_peak: int | None
    compile_process: int | None
    failed: tuple[str, ...]
    scaling: float | None = None
    worst_scaling: float | None = None
    scaling_fastest: float | None = None
    peak_scaling: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """For a JSON report."""
        return {
            "cases": self.cases,
            "compared": self.compared,
            "ratio_geometric_mean": self.ratio,
            "worst_ratio": self.worst.comparison.ratio() if self.worst else None,
            "worst_case": self.worst.case.line if self.worst else None,
            "roofline_share_geometric_mean": self.share,
            "goals": self.goals,
            "goals_met": self.met,
            "compile_median_ms": None if self.compile_median is None else self.compile_median * 1e3,
            "compile_worst_ms": None if self.compile_worst is None else self.compile_worst * 1e3,
            "compile_peak_bytes": self.compile_peak,
            "compile_process_bytes": self.compile_process,
            "failed": list(self.failed),
            "scaling_geometric_mean": self.scaling,
            "worst_scaling": self.worst_scaling,
            "scaling_fastest_geometric_mean": self.scaling_fastest,
            "peak_scaling_geometric_mean": self.peak_scaling,
        }


def summarise(measured: Sequence[Measured]) -> Summary:
    """Sum up a run."""
    ratios = {index: r for index, item in enumerate(measured) if (r := item.comparison.ratio()) is not None}
    compiled = [item.compilation for item in measured if item.compilation is not None and not item.compilation.reason]
    seconds = [item.seconds for item in compiled]
    goals = sum(len(item.case.goals or {}) for item in measured if any(p.valid for p in item.comparison.peers))
    worst = min(ratios, key=lambda index: ratios[index], default=None)
    long = [
        item
        for item in measured
        if item.scaling is not None
        and item.comparison.our_best is not None
        and item.scaling * item.comparison.our_best.median >= LONG
    ]
    scalings = [item.scaling for item in long if item.scaling is not None]
    return Summary(
        len(measured),
        len(ratios),
        geometric_mean(ratios.values()),
        None if worst is None else measured[worst],
        geometric_mean(item.share for item in measured if item.share is not None),
        goals,
        goals - sum(len(item.short()) for item in measured),
        statistics.median(seconds) if seconds else None,
        max(seconds, default=None),
        max((item.peak_bytes for item in compiled if item.peak_bytes is not None), default=None),
        max((item.process_bytes for item in compiled if item.process_bytes is not None), default=None),
        tuple(item.case.line for item in measured if any(not ours.valid for ours in item.comparison.ours)),
        geometric_mean(scalings),
        min(scalings, default=None),
        geometric_mean(item.scaling_fastest for item in long if item.scaling_fastest is not None),
        geometric_mean(item.peak_scaling for item in long if item.peak_scaling is not None),
    )


def group_by_kind(measured: Iterable[Measured]) -> dict[str, list[Measured]]:
    """Problems by kind, kinds in the order of their first problem."""
    found: dict[str, list[Measured]] = {}
    for item in measured:
        found.setdefault(item.case.kind, []).append(item)
    return found


def geometric_mean(values: Iterable[float]) -> float | None:
    """The mean of ratios; ``None`` of none.

    Example:
        >>> geometric_mean([0.5, 2.0])
        1.0
    """
    logs = [math.log(value) for value in values]
    return math.exp(math.fsum(logs) / len(logs)) if logs else None


def list_runtimes(measured: Iterable[Measured]) -> Iterator[str]:
    """Names of the peer runtimes that took part."""
    yield from dict.fromkeys(peer.runtime for item in measured for peer in item.comparison.peers if peer.valid)
