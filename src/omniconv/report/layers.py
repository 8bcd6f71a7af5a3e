"""One row for each layer: what it costs, how long it takes, what it could take, how far it sees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction

from omniconv.analysis import LayerCost, Machine, Record
from omniconv.analysis.axis_field import AxisField, find_axes
from omniconv.bench.roofline import Bound, MemoryLevel, Roofline
from omniconv.program.program import Program
from omniconv.records import dataclass
from omniconv.spec import Shape


@dataclass(frozen=True, slots=True)
class LayerRow(Record):
    """One step of a program.

    Attributes:
        name, kind: of the layer; ``text`` is the problem line of a convolution.
        input_shape, output_shape: channels first.
        parameters: weights and biases.
        macs, executed_macs: nominal, and those whose tap lands inside [MAC].
        multiplications: those done, fewer than ``macs`` where the compiled layer is filtered; ``None`` if not compiled.
        activations: values that it writes.
        bytes: each tensor once [bytes].
        intensity: [FLOP/byte].
        seconds: measured; ``None`` where the layer was folded into another one or nothing was measured [s].
        bound_seconds: the least time on the machine, ``None`` where that is not known [s].
        limiter: what sets it: ``FMA`` or a level of memory.
        field_size, field_stride: receptive field on the input by its local path, for each axis; may be empty.
        whole: operators that let it see whole axes.
    """

    name: str
    kind: str
    text: str
    input_shape: Shape
    output_shape: Shape
    parameters: int
    macs: int
    executed_macs: int
    activations: int
    bytes: int
    intensity: float
    seconds: float | None = None
    bound_seconds: float | None = None
    limiter: str = ""
    field_size: tuple[int, ...] = ()
    field_stride: tuple[Fraction | None, ...] = ()
    whole: tuple[str, ...] = ()
    multiplications: int | None = None

    @property
    def roofline_share(self) -> float | None:
        """Least time of the multiplications done over measured time."""
        if self.seconds is None or self.bound_seconds is None or not self.seconds or not self.macs:
            return None
        return self.bound_seconds / self.seconds


def as_roofline(limits: Roofline | Machine) -> Roofline:
    """A machine described by two figures as a roofline of one level.

    Example:
        >>> as_roofline(Machine(flops=100e9, bandwidth=20e9)).bound(1e9, 10**6, 0)
        Bound(seconds=0.01, limiter='FMA')
    """
    if isinstance(limits, Roofline):
        return limits
    level = MemoryLevel("memory", 0, limits.bandwidth, limits.bandwidth, limits.bandwidth)
    return Roofline(limits.name, 1, limits.flops, (level,))


def bound_layer(layer: LayerCost, limits: Roofline) -> Bound:
    """The least time of one layer's multiplications, all its tensors moved once."""
    return limits.bound(2.0 * layer.multiplications, layer.bytes_read + layer.bytes_weights, layer.bytes_written)


def find_fields(program: Program, source: str | None) -> dict[str, tuple[AxisField, ...]]:
    """The local receptive field of every value with positions, on an input."""
    if source is None:
        return {}
    return {
        step.y: find_axes(program, step.y, source, gates=False)
        for step in program.steps
        if len(program.shapes[step.y]) > 2
    }


def find_heaviest(costs: Sequence[LayerCost]) -> dict[str, int]:
    """For each name the index of the step that does most of the work: what is measured of a name belongs to it."""
    heaviest: dict[str, int] = {}
    for index, layer in enumerate(costs):
        if layer.name not in heaviest or layer.macs > costs[heaviest[layer.name]].macs:
            heaviest[layer.name] = index
    return heaviest


def make_rows(
    program: Program,
    costs: tuple[LayerCost, ...],
    *,
    times: Mapping[str, float] | None = None,
    limits: Roofline | None = None,
    fields: Mapping[str, tuple[AxisField, ...]] | None = None,
) -> tuple[LayerRow, ...]:
    """All rows."""
    heaviest = find_heaviest(costs)
    rows = []
    for index, (step, layer) in enumerate(zip(program.steps, costs, strict=True)):
        bound = None if limits is None else bound_layer(layer, limits)
        axes = [axis for axis in (fields or {}).get(step.y, ()) if axis.size]
        seconds = (times or {}).get(layer.name) if heaviest[layer.name] == index else None
        rows.append(
            LayerRow(
                layer.name,
                layer.kind,
                layer.text,
                layer.input_shape,
                layer.output_shape,
                layer.parameters,
                layer.macs,
                layer.executed_macs,
                layer.activations,
                layer.bytes,
                layer.intensity,
                seconds,
                None if bound is None else bound.seconds,
                "" if bound is None else bound.limiter,
                tuple(axis.size for axis in axes),
                tuple(axis.stride for axis in axes),
                tuple(sorted({name for axis in axes for name in axis.whole})),
                None if times is None else layer.multiplications,
            )
        )
    return tuple(rows)
