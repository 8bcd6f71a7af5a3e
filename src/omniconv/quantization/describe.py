"""`describe_layers`: a record for each layer of a network that was quantised."""

from __future__ import annotations

from collections.abc import Mapping

from omniconv.quantization.clock import ClockTimes
from omniconv.quantization.histogram import Histogram
from omniconv.quantization.insert import Rounded, insert
from omniconv.quantization.judge import Verdict, compare_values
from omniconv.quantization.network import FloatNetwork
from omniconv.quantization.placing import QuantLayer
from omniconv.quantization.plan import QuantPlan
from omniconv.quantization.report import LayerReport
from omniconv.quantization.work import QuantWork


def describe_layers(
    work: QuantWork,
    plan: QuantPlan,
    histograms: Mapping[str, Histogram],
    alone: Mapping[str, Verdict],
    times: ClockTimes | None,
) -> tuple[LayerReport, ...]:
    """A record for each layer.

    Args:
        work: after all that was done.
        plan: that is written.
        histograms: of values, by name.
        alone: what each layer does alone, where that was measured.
        times: of layers, likewise.
    """
    layers = plan.placing.layers
    rounded = insert(work.network, plan, Rounded()).network
    snr = compare_values(work.executor, work.network, rounded, work.judged, [layer.output for layer in layers])
    groups = {} if times is None else {name: group for group in times.groups for name in group.layers}
    heads = {layer.output: layer.name for layer in layers}
    found = []
    for layer in layers:
        group = groups.get(layer.output)
        head = "" if group is None else heads[group.layers[0]]
        affine = plan.affine(layer.output) if layer.rounds else None
        seen, each = histograms.get(layer.output), alone.get(layer.output)
        before, after = _count_bytes(work.network, layer, plan)
        found.append(
            LayerReport(
                name=layer.name,
                op=layer.op,
                precision=_name_precision(layer, plan),
                reason=plan.kept.get(layer.output, ""),
                snr=snr.get(layer.output),
                alone=None if each is None else each.snr,
                drop=None if each is None else each.drop,
                low=None if affine is None else affine.low,
                high=None if affine is None else affine.high,
                seen=None if seen is None else (seen.low, seen.high),
                bytes_before=before,
                bytes_after=after,
                seconds=group.seconds if group is not None and head == layer.name else {},
                timed_with=head if head != layer.name else "",
            )
        )
    return tuple(found)


def _name_precision(layer: QuantLayer, plan: QuantPlan) -> str:
    if layer.output not in plan.kept:
        return "int8"
    return "bfloat16" if layer.output in plan.narrow else "float32"


def _count_bytes(network: FloatNetwork, layer: QuantLayer, plan: QuantPlan) -> tuple[int, int]:
    """Of a layer's constants, in float32 and as the plan has them [bytes]."""
    before = sum(network.constants[name].nbytes for name in (layer.weights, layer.bias, *layer.operands) if name)
    if layer.output in plan.kept:
        halved = network.constants[layer.weights].nbytes // 2 if layer.output in plan.narrow else 0
        return before, before - halved
    after = sum(network.constants[name].size + 5 for name in layer.operands)
    code = plan.codes.get(layer.output)
    if code is not None:
        after += code.weights.integers.nbytes + 5 * code.weights.scales.size
        after += 0 if code.bias is None else 12 * code.bias.size
    return before, after
