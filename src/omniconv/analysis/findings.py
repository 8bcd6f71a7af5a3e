"""What a network's analyses amount to, in plain words, most important first."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final

from omniconv.analysis.connectivity import connectivity
from omniconv.analysis.cost import cost
from omniconv.analysis.coverage import Coverage, coverage
from omniconv.analysis.overlap import Overlap, count_phases, overlaps
from omniconv.analysis.receptive_field import receptive_field
from omniconv.analysis.record import Record
from omniconv.program.program import Program
from omniconv.program.steps import ChannelStep, ConvStep, MapStep, PoolStep, ProgramStep
from omniconv.records import dataclass
from omniconv.spec import Chain, Conv

TOPICS: Final = ("overlap", "coverage", "connectivity", "field", "cost")


@dataclass(frozen=True, slots=True)
class Finding(Record):
    """One thing worth knowing.

    Attributes:
        topic: one of :data:`TOPICS`.
        where: name of the layer or value.
        severity: 0 (good to know) to 1 (part of the input or of the output is lost).
        text: what it is, in one sentence.
        fix: what would be better; empty where nothing has to be.
    """

    topic: str
    where: str
    severity: float
    text: str
    fix: str = ""


def find_findings(program: Program, topics: tuple[str, ...] = TOPICS) -> tuple[Finding, ...]:
    """All findings about a network, most important first.

    Args:
        program: the network.
        topics: which of :data:`TOPICS` to look into.
    """
    sources = {
        "overlap": _overlap,
        "coverage": _coverage,
        "connectivity": _connectivity,
        "field": _field,
        "cost": _cost,
    }
    found = [finding for topic in TOPICS if topic in topics for finding in sources[topic](program)]
    return tuple(sorted(found, key=lambda finding: -finding.severity))


def last_spatial(program: Program) -> str | None:
    """The last value, on the way to the first output, that has more than one spatial position; ``None`` if none has."""
    from omniconv.analysis.subject import find_tensor, needed_steps

    output = find_tensor(program, None)
    for index in reversed(needed_steps(program, output)):
        name = program.steps[index].y
        if len(program.shapes[name]) > 2 and math.prod(program.shapes[name][2:]) > 1:
            return name
    return None


def _times(sizes: tuple[int, ...]) -> str:
    return str(sizes[0]) if len(sizes) == 1 else "x".join(str(size) for size in sizes)


def _strided(conv: Conv) -> str:
    stride = str(conv.stride[0]) if len(set(conv.stride)) == 1 else _times(conv.stride)
    words = f"{_times(conv.kernel_size)} stride {stride}"
    if any(d > 1 for d in conv.dilation):
        words += f" dilation {conv.dilation[0] if len(set(conv.dilation)) == 1 else _times(conv.dilation)}"
    return words


def _overlap(program: Program) -> Iterator[Finding]:
    pairs = zip(program.steps, program.labels, strict=True)
    convs = {label: step.spec for step, label in pairs if isinstance(step, ConvStep)}
    for label, item in overlaps(program):
        if item.verdict != "even":
            yield _uneven(label, convs[label], item)
    skipping: dict[str, list[str]] = {}
    for step, label in zip(program.steps, program.labels, strict=True):
        window = _window(step)
        if window is not None and any(0 in count_phases(axis) for axis in window.axes()):
            used = math.prod(sum(c > 0 for c in count_phases(axis)) for axis in window.axes())
            words = f"{_strided(window)} reads {used / math.prod(window.stride):.0%} of its input positions"
            skipping.setdefault(words, []).append(label)
    for words, labels in skipping.items():
        more = f" (and {len(labels) - 1} more)" if len(labels) > 1 else ""
        fix = "a kernel at least as wide as the stride, or a mean before it"
        yield Finding("overlap", labels[0], 0.3, words + more, fix)


def _window(step: ProgramStep) -> Conv | None:
    """The taps of a convolution that is not transposed, or of a pool."""
    if isinstance(step, PoolStep):
        return Conv.of(1, 1, step.kernel, dims=len(step.kernel), stride=step.stride, dilation=step.dilation)
    return step.spec if isinstance(step, ConvStep) and not step.spec.transposed else None


def _uneven(label: str, conv: Conv, item: Overlap) -> Finding:
    levels = ":".join(f"{level:g}" for level in item.levels)
    remedy = next((r for r in item.remedies if r.name == "kernel"), None)
    fix = "" if remedy is None else f"{remedy.advice} ({remedy.mac_ratio:.2g} times the multiply-accumulates)"
    if item.verdict == "holes":
        empty = float((item.counts == 0).mean())
        text = f"{_strided(conv)} leaves {empty:.0%} of its outputs without any input"
        return Finding("overlap", label, 1.0, text, fix)
    severity = min(0.9, 0.5 + 0.1 * math.log2(item.ratio))
    return Finding("overlap", label, severity, f"{_strided(conv)} leaves a {levels} overlap (checkerboard)", fix)


def find_stacks(program: Program) -> Iterator[tuple[str, Chain]]:
    """Runs of stride-1 convolutions of which some are dilated, with nothing but elementwise steps between."""
    producer = {step.y: (step, label) for step, label in zip(program.steps, program.labels, strict=True)}
    runs: list[tuple[str, list[ConvStep]]] = []
    inner: set[str] = set()
    for step, label in zip(program.steps, program.labels, strict=True):
        if not isinstance(step, ConvStep) or step.spec.transposed or step.spec.is_pointwise:
            continue
        run, current = [step], step.x
        while current in producer:
            before = producer[current][0]
            if isinstance(before, ConvStep):
                spec = before.spec
                if spec.transposed or spec.dims != step.spec.dims or max(spec.stride) > 1:
                    break
                if not before.spec.is_pointwise:
                    run.insert(0, before)
                    inner.add(before.y)
            elif not isinstance(before, MapStep | ChannelStep):
                break
            current = before.x
        if any(d > 1 for conv in run for d in conv.spec.dilation):
            runs.append((label, run))
    for label, run in runs:
        if run[-1].y not in inner:
            yield label, Chain(tuple(_single(conv.spec) for conv in run))


def _single(conv: Conv) -> Conv:
    return Conv.of(1, 1, conv.kernel_size, dims=conv.dims, stride=conv.stride, dilation=conv.dilation)


def _coverage(program: Program) -> Iterator[Finding]:
    for label, stack in find_stacks(program):
        found = coverage(stack)
        if not found.full:
            yield _gridding(label, stack, found)


def _gridding(label: str, stack: Chain, found: Coverage) -> Finding:
    rates = ", ".join(str(max(conv.dilation)) for conv in stack.convs)
    layers = "layer" if len(stack.convs) == 1 else "layers"
    text = f"{layers} with dilation {rates} read {found.fraction:.0%} of the {_times(found.size)} field (gridding)"
    if len(stack.convs) > 1 and all(axis.rule_holds for axis in found.axes):
        text += ", although the usual rule accepts them"
    fix = f"dilations {', '.join(map(str, found.suggestion))}" if found.suggestion else "smaller dilations before it"
    return Finding("coverage", label, 0.4 + 0.4 * (1 - found.fraction), text, fix)


def _connectivity(program: Program) -> Iterator[Finding]:
    grouped = any(isinstance(step, ConvStep) and step.spec.groups > 1 for step in program.steps)
    if not grouped:
        return
    tensor = last_spatial(program)
    if tensor is None:
        return
    found = connectivity(program, tensor)
    if not found.full:
        outs, ins = found.blocks[0]
        text = f"outputs see {found.fraction:.0%} of the input channels"
        if len(found.blocks) > 1:
            text += f": {len(found.blocks)} parts that share nothing, the first of {outs} outputs and {ins} inputs"
        yield Finding("connectivity", tensor, 0.5, text, "a channel shuffle between the grouped layers")


def _field(program: Program) -> Iterator[Finding]:
    tensor = last_spatial(program)
    if tensor is None:
        return
    found = receptive_field(program, tensor)
    where = f"{_times(found.size)} of {_times(found.input_shape[2:])} positions"
    if found.whole:
        local = receptive_field(program, tensor, gates=False)
        names = len(found.whole)
        text = f"sees the whole input through {found.whole[0]}" + (f" and {names - 1} more" if names > 1 else "")
        if not local.whole:
            text += f"; {_times(local.size)} positions by its local path"
        yield Finding("field", tensor, 0.05, text)
    elif any(size < whole for size, whole in zip(found.size, found.input_shape[2:], strict=True)):
        yield Finding("field", tensor, 0.2, f"each position sees {where}")
    else:
        text = f"each position sees {_times(found.size)} positions, more than the input has"
        yield Finding("field", tensor, 0.05, text)
    if not found.aligned:
        yield Finding(
            "field",
            tensor,
            0.25,
            "branches that are joined are not centred on the same positions",
            "the same stride and symmetric padding in every branch",
        )
    if found.density < 1:
        yield Finding("field", tensor, 0.3, f"reads {found.density:.0%} of the positions inside its field")


def _cost(program: Program) -> Iterator[Finding]:
    found = cost(program)
    if not found.macs:
        return
    wasted = 1 - found.executed_macs / found.macs
    if wasted > 0.02:
        yield Finding("cost", "", 0.1 + wasted / 2, f"{wasted:.0%} of the multiply-accumulates fall into the padding")
    heaviest = max(found.layers, key=lambda layer: layer.macs)
    share = heaviest.macs / found.macs
    if len(found.layers) > 1 and share > 0.2:
        yield Finding("cost", heaviest.name, 0.1, f"does {share:.0%} of all multiply-accumulates")
    light = [layer for layer in found.layers if layer.macs and layer.intensity < 4]
    if light:
        part = sum(layer.bytes for layer in light) / found.bytes
        words = "1 layer does" if len(light) == 1 else f"{len(light)} layers do"
        text = f"{words} less than 4 FLOP for each byte, with {part:.0%} of all bytes moved: memory limits them"
        yield Finding("cost", light[0].name, 0.1, text)
