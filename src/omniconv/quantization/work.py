"""`QuantWork`: a network on its way into integers, step by step."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from omniconv.errors import ModelError, SpecError, UnsupportedError
from omniconv.graph.nodes import shorten
from omniconv.quantization.budget import find_few, keep_within, measure_layers
from omniconv.quantization.clock import Clock, ClockTimes
from omniconv.quantization.correct import correct_biases
from omniconv.quantization.equalise import absorb_biases, equalise, find_pairs, find_value
from omniconv.quantization.execute import Executor, count_values, find_channel_ranges
from omniconv.quantization.fold_norms import fold_norms
from omniconv.quantization.histogram import Histogram
from omniconv.quantization.insert import Rounded, insert
from omniconv.quantization.judge import Judge, Metric, Verdict
from omniconv.quantization.network import FloatNetwork
from omniconv.quantization.options import QuantOptions
from omniconv.quantization.placing import Placing, place_layers
from omniconv.quantization.plan import QuantPlan, list_narrowable, list_values, make_plan
from omniconv.quantization.ranges import find_range
from omniconv.quantization.samples import Samples
from omniconv.records import dataclass

Progress: TypeAlias = Callable[[str, float], None]
"""Told what is being done, and which share of it is."""


@dataclass(slots=True)
class _Counted:
    """Samples that tell how far they are."""

    samples: Samples
    text: str
    on_progress: Progress

    def __iter__(self) -> Any:
        for count, sample in enumerate(self.samples):
            self.on_progress(self.text, count / self.samples.total)
            yield sample


class QuantWork:
    """The network on its way, with what is needed at every step."""

    def __init__(
        self,
        network: FloatNetwork,
        options: QuantOptions,
        samples: Samples,
        judged: Samples,
        metric: Metric | None,
        on_progress: Progress,
    ) -> None:
        self.network, self.options, self.samples, self.on_progress = network, options, samples, on_progress
        self.executor = Executor(options.threads, options.memory_limit)
        self.folded = self.equalised = self.absorbed = self.corrected = 0
        self.judged = judged
        self.judge = Judge(self.executor, network.copy(), judged, metric)
        if options.max_drop is not None and metric is None and self.judge.best is None:
            raise SpecError(
                f"max_drop={options.max_drop:g} for an output without classes",
                need="an output (N, classes); or min_snr=, or metric=, a function of the outputs",
            )

    def _count(self, text: str) -> _Counted:
        return _Counted(self.samples, text, self.on_progress)

    def prepare(self) -> None:
        """Rewrite the network in float32, to the same function."""
        network = self.network
        self.folded = fold_norms(network)
        pairs = find_pairs(network) if self.options.equalize else []
        if not pairs:
            return
        names = list(dict.fromkeys(find_value(network, pair) for pair in pairs))
        ranges = find_channel_ranges(self.executor, network, self._count("equalising"), names)
        self.equalised = equalise(network, pairs, ranges, per_channel=self.options.per_channel)
        if any(not pair.between for pair in pairs):
            names = [find_value(network, pair) for pair in pairs if not pair.between]
            ranges = find_channel_ranges(self.executor, network, self._count("absorbing"), names)
            self.absorbed = absorb_biases(network, pairs, ranges)

    def make_plan(self) -> tuple[QuantPlan, dict[str, Histogram]]:
        """Find ranges, integers and corrections."""
        options, network = self.options, self.network
        placing = place_layers(network, options.per_channel)
        if not placing.layers:
            raise ModelError(
                "no layer can be computed in integers",
                need="a convolution, a dense layer or another that the guide lists",
            )
        names = list_values(placing)
        histograms = count_values(self.executor, network, self._count("calibrating"), names)
        found = {name: find_range(item, options.ranges, options.percentile) for name, item in histograms.items()}
        plan = make_plan(
            network, placing, found, reduce_range=options.reduce_range, kept=find_kept(placing, options.keep)
        )
        if options.correct_bias:
            self.corrected = correct_biases(
                self.executor, network, plan, self._count("correcting"), reduce_range=options.reduce_range
            )
        return plan, histograms

    def measure_times(self, plan: QuantPlan) -> tuple[QuantPlan, ClockTimes | None, dict[str, float | str]]:
        """The plan without the layers that are faster in floats, where that is asked for; what its layers take at each
        precision, and whole networks [s], or why that is not known.

        Raises:
            UnsupportedError: the fastest choice is asked for, of a network that is not compiled whole.
        """
        options = self.options
        if not (options.time or options.fastest):
            return plan, None, {}
        self.on_progress("timing", 0.0)
        clock = Clock(self.executor, self.network, next(iter(self.samples)))
        try:
            times = clock.measure(plan)
        except UnsupportedError as error:
            if options.fastest:
                raise
            return plan, None, {"time": f"not measured: {error}"}
        networks: dict[str, float | str] = {**times.networks}
        if options.fastest:
            self.on_progress("choosing by the clock", 0.5)
            plan, tried = clock.choose(plan, times, narrow=options.bfloat16)
            networks.update(tried)
        return plan, times, networks

    def keep_budget(self, plan: QuantPlan) -> tuple[Verdict, dict[str, Verdict], QuantPlan]:
        """What the plan does, each layer alone where that is asked for, and the plan that is within the budget."""
        options, network, judge = self.options, self.network, self.judge
        self.on_progress("comparing", 0.0)
        verdict = judge(insert(network, plan, Rounded()).network)
        fits = verdict.keeps(options.max_drop, options.min_snr)
        alone: dict[str, Verdict] = {}
        if options.sensitivity or not fits:
            alone = measure_layers(judge, network, plan, lambda share: self.on_progress("one layer at a time", share))
        if not fits:
            self.on_progress("keeping the budget", 0.0)
            plan, verdict = keep_within(judge, network, plan, alone, options.max_drop, options.min_snr)
        if options.bfloat16:
            plan, verdict = self._narrow(plan, verdict, alone)
        return verdict, alone, plan

    def _narrow(self, plan: QuantPlan, verdict: Verdict, alone: Mapping[str, Verdict]) -> tuple[QuantPlan, Verdict]:
        """The plan with the weights of layers in floats as bfloat16: of as many as the budget allows, and what it does.

        Those that cost most alone stay in float32 first.
        """
        options = self.options
        names = list_narrowable(self.network, plan)
        if not names:
            return plan, verdict
        self.on_progress("weights in bfloat16", 0.0)
        names.sort(key=lambda name: alone[name].snr if name in alone else math.inf)

        def attempt(exact: Sequence[str]) -> tuple[QuantPlan, Verdict]:
            found = plan.narrowed(name for name in names if name not in exact)
            return found, self.judge(insert(self.network, found, Rounded()).network)

        best = attempt(())
        if best[1].keeps(options.max_drop, options.min_snr):
            return best
        return find_few(names, attempt, lambda found: found[1].keeps(options.max_drop, options.min_snr))[1]


def find_kept(placing: Placing, names: Sequence[str]) -> dict[str, str]:
    """Outputs of layers that are named by their nodes or their outputs.

    Raises:
        SpecError: a name of no layer.
    """
    found: dict[str, str] = {}
    for name in names:
        outputs = [layer.output for layer in placing.layers if name in (layer.name, layer.output)]
        if not outputs:
            some = shorten(", ".join(layer.name for layer in placing.layers[:4]))
            raise SpecError(f"keep has {shorten(name)!r}, which is no layer", need="names of layers", fix=some)
        found.update(dict.fromkeys(outputs, "asked for"))
    return found
