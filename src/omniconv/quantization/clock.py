"""What layers take at each precision on this machine, and which of them the clock leaves in floats.

Whole networks are compiled, one in float32, one with all weights in bfloat16 and one in integers, and every step of
them is timed in turns. What one of them computes in one step (a convolution with its activation, in floats) is one
*group* of layers for all: only sums of its times can be compared. Which groups leave the integers is measured on whole
networks again, as floats between integers have to be converted.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from typing import Final

from omniconv.api import compile as compile_model
from omniconv.graph.fix_shapes import narrow_inputs
from omniconv.integers import say_count
from omniconv.program.rewrite import with_labels
from omniconv.quantization.execute import Executor, NetworkSample
from omniconv.quantization.insert import Inserted, QdqPairs, insert
from omniconv.quantization.network import FloatNetwork
from omniconv.quantization.plan import QuantPlan, list_narrowable
from omniconv.records import dataclass
from omniconv.runtime.executable import Executable

ROUNDS: Final = 7
REPEAT: Final = 5
"""Calls of a network in a round, of which the median counts."""
NONE: Final = "no layers in floats by the clock"
"""The network as it was: others may be in floats, for other reasons."""
LEAST_GAIN: Final = 0.01
"""A network that is faster by a smaller share counts as no faster."""


@dataclass(frozen=True, slots=True)
class LayerGroup:
    """Layers that are computed together at one precision at least.

    Attributes:
        layers: their outputs, in execution order.
        seconds: precision -> time of them all in one call [s]; without those that they cannot have.
    """

    layers: tuple[str, ...]
    seconds: dict[str, float]


@dataclass(frozen=True, slots=True)
class ClockTimes:
    """What was measured.

    Attributes:
        groups: of layers, in execution order.
        networks: what was compiled -> times of all steps of a call together [s], the conversions at both ends included.
    """

    groups: tuple[LayerGroup, ...]
    networks: dict[str, float]


@dataclass(frozen=True, slots=True)
class _Contender:
    """A compiled network, and the layer that each label of its program belongs to."""

    net: Executable
    owners: dict[str, str]
    joined: tuple[tuple[str, str], ...]


class Clock:
    """Times networks on one sample.

    Args:
        executor: how they are compiled.
        network: in float32.
        sample: that they are run on.
    """

    def __init__(self, executor: Executor, network: FloatNetwork, sample: NetworkSample) -> None:
        self.executor, self.network = executor, network
        self.sample = {info.name: sample[info.name] for info in network.inputs}

    def measure(self, plan: QuantPlan) -> ClockTimes:
        """Times of a plan's layers at each precision.

        Raises:
            UnsupportedError: a network that is not compiled whole.
        """
        layers = plan.placing.layers
        floats = plan.keep({layer.output: "timed" for layer in layers})
        weighted = list_narrowable(self.network, floats)
        contenders = {
            "float32": self._compile(insert(self.network, floats, QdqPairs()), plan),
            "bfloat16": self._compile(insert(self.network, floats.narrowed(weighted), QdqPairs()), plan),
            "int8": self._compile(insert(self.network, plan, QdqPairs()), plan),
        }
        steps, totals = self._take_turns(contenders)
        groups = []
        for group in join_layers(self.network, plan, [pair for each in contenders.values() for pair in each.joined]):
            may = {
                "float32": True,
                "bfloat16": not set(weighted).isdisjoint(group),
                "int8": plan.kept.keys().isdisjoint(group),
            }
            seconds = {
                name: sum(steps[name].get(label, 0.0) for label, owner in contender.owners.items() if owner in group)
                for name, contender in contenders.items()
                if may[name]
            }
            groups.append(LayerGroup(group, seconds))
        return ClockTimes(tuple(groups), totals)

    def choose(self, plan: QuantPlan, times: ClockTimes, *, narrow: bool) -> tuple[QuantPlan, dict[str, float]]:
        """The plan with those groups in floats that make the network the fastest, and times of the networks tried [s].

        Args:
            plan: whose groups were measured.
            times: of them.
            narrow: layers in floats have their weights as bfloat16 where it holds them: in the times that count, and in
                the networks that are tried. (The plan leaves that open: a budget may allow fewer.)
        """
        gains: list[tuple[float, LayerGroup]] = []
        for group in times.groups:
            if "int8" in group.seconds:
                floats = "bfloat16" if narrow and "bfloat16" in group.seconds else "float32"
                gains.append((group.seconds["int8"] - group.seconds[floats], group))
        gains = sorted((each for each in gains if each[0] > 0), key=lambda each: -each[0])
        plans = {NONE: plan}
        for count in sorted({min(2**power, len(gains)) for power in range(len(gains).bit_length() + 1)} - {0}):
            kept = {name: f"the clock: {show_times(group)}" for _, group in gains[:count] for name in group.layers}
            plans[f"{say_count(len(kept), 'layer')} in floats by the clock"] = plan.keep(kept)
        contenders = {}
        for name, each in plans.items():
            written = each.narrowed(list_narrowable(self.network, each)) if narrow else each
            contenders[name] = self._compile(insert(self.network, written, QdqPairs()), written)
        _, totals = self._take_turns(contenders)
        fastest = min(totals, key=totals.__getitem__)
        if totals[fastest] > (1 - LEAST_GAIN) * totals[NONE]:
            fastest = NONE
        return plans[fastest], totals

    def _compile(self, found: Inserted, plan: QuantPlan) -> _Contender:
        shapes = {name: array.shape for name, array in self.sample.items()}
        graph = narrow_inputs(found.network.to_graph(), shapes)
        executor = self.executor
        net = compile_model(graph, threads=executor.threads, memory_limit=executor.memory_limit, strict=True)
        assert isinstance(net, Executable)  # all sizes are known, and nothing is left to the host
        outputs = {layer.output for layer in plan.placing.layers}
        owners, joined = dict[str, str](), []
        for step, label in with_labels(net.plan.program):
            names = [name for name in (found.owners.get(label), step.y) if name in outputs]
            if names:
                owners[label] = names[0]
                joined.append((names[0], names[-1]))
        return _Contender(net, owners, tuple(joined))

    def _take_turns(self, contenders: Mapping[str, _Contender]) -> tuple[dict[str, dict[str, float]], dict[str, float]]:
        """Times of all labels, and of whole networks [s]."""
        seen: dict[str, list[dict[str, float]]] = {name: [] for name in contenders}
        for _ in range(ROUNDS):
            for name, contender in contenders.items():
                seen[name].append(time_steps(contender.net, self.sample))
        totals = {name: statistics.median(sum(each.values()) for each in found) for name, found in seen.items()}
        steps = {
            name: {label: statistics.median(each[label] for each in found) for label in found[0]}
            for name, found in seen.items()
        }
        return steps, totals


def time_steps(net: Executable, sample: NetworkSample) -> dict[str, float]:
    """What each label of a network takes, the conversions at both ends as one more [s]."""
    found: dict[str, float] = {}
    for step in net.profile(sample, REPEAT):
        found[step.name] = found.get(step.name, 0.0) + step.seconds
    return found


def join_layers(network: FloatNetwork, plan: QuantPlan, joined: Iterable[tuple[str, str]]) -> list[tuple[str, ...]]:
    """Outputs of layers that share a step somewhere; those without any step go with the layer that they read.

    Args:
        network, plan: of the layers.
        joined: pairs of outputs that are of one step; both are the same where it is of one layer.
    """
    layers = {layer.index: layer for layer in plan.placing.layers}
    groups = {layer.output: {layer.output} for layer in layers.values()}

    def join(a: str, b: str) -> None:
        groups[a] |= groups[b]
        groups.update((name, groups[a]) for name in groups[b])

    seen = set[str]()
    for a, b in joined:
        join(a, b)
        seen |= {a, b}
    source: dict[str, str] = {}
    for index, node in enumerate(network.nodes):
        before = next((source[name] for name in node.inputs if name in source), "")
        if index in layers:
            output = layers[index].output
            if before and output not in seen:
                join(before, output)
            before = output
        source.update((name, before) for name in node.outputs if before)
    order = [layer.output for layer in plan.placing.layers]
    unique = {id(group): group for group in groups.values()}
    found = [tuple(name for name in order if name in group) for group in unique.values()]
    return sorted(found, key=lambda group: order.index(group[0]))


def show_times(group: LayerGroup) -> str:
    """What a group takes at each precision."""
    times = ", ".join(f"{1e6 * seconds:.3g} us in {name}" for name, seconds in group.seconds.items())
    return times if len(group.layers) == 1 else f"{times}, for {len(group.layers)} layers that one step computes"
