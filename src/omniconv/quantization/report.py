"""What became of a network that was quantised: records for tables and pages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from omniconv.analysis.record import Record
from omniconv.records import dataclass

if TYPE_CHECKING:
    import onnx


PRECISIONS: Final = ("float32", "bfloat16", "int8")
"""That a layer can have."""


@dataclass(frozen=True, slots=True)
class LayerReport(Record):
    """One layer.

    Attributes:
        name, op: of its node.
        precision: one of :data:`PRECISIONS`; in bfloat16 are its weights, its sums are float32.
        reason: why it is not computed in integers.
        snr: signal to noise of its output, everything before it rounded as well [dB].
        alone: signal to noise of the network's output with this layer alone in integers [dB].
        drop: points lost so.
        low, high: the range of its output that 8 bits are spread over; ``None`` where it is not rounded.
        seen: the smallest and largest value of its output on the calibration data.
        bytes_before, bytes_after: of its weights and bias, scales included [bytes].
        seconds: precision -> what it takes there, with the layers that are ``timed_with`` it [s]; empty where that was
            not measured, or stands with another layer.
        timed_with: the layer with which it is one step at some precision, whose ``seconds`` hold its time.
    """

    name: str
    op: str
    precision: str
    reason: str
    snr: float | None
    alone: float | None
    drop: float | None
    low: float | None
    high: float | None
    seen: tuple[float, float] | None
    bytes_before: int
    bytes_after: int
    seconds: dict[str, float]
    timed_with: str

    @property
    def integers(self) -> bool:
        """Whether it is computed in integers."""
        return self.precision == "int8"


@dataclass(frozen=True, slots=True)
class QuantReport(Record):
    """What became of the network.

    Attributes:
        layers: in execution order.
        others: label of each node that computes and has no form in integers -> why.
        samples: that ranges were found on.
        ranges: the rule they were found by.
        folded: norms, factors and summands that became part of weights.
        equalised, absorbed: pairs of layers whose channels were scaled, or shifted.
        corrected: layers whose bias was corrected.
        snr: signal to noise of the network's worst output [dB].
        drop: points lost; ``None`` where there is nothing to count.
        accuracy: of the network in float32 [%]; ``None`` without labels.
        bytes_before, bytes_after: of the files [bytes].
        times: of whole networks that were compiled here [s], or why that was not measured; empty where not asked for.
        seconds: that it took [s].
    """

    layers: tuple[LayerReport, ...]
    others: dict[str, str]
    samples: int
    ranges: str
    folded: int
    equalised: int
    absorbed: int
    corrected: int
    snr: float
    drop: float | None
    accuracy: float | None
    bytes_before: int
    bytes_after: int
    times: dict[str, float | str]
    seconds: float

    @property
    def kept(self) -> list[LayerReport]:
        """Layers that are not computed in integers."""
        return [layer for layer in self.layers if not layer.integers]

    def __str__(self) -> str:
        text = f"{len(self.layers) - len(self.kept)} of {len(self.layers)} layers in integers, {self.snr:.1f} dB"
        if self.drop is not None:
            text += f", {self.drop:.2f} points lost"
        return f"{text}, {self.bytes_before} bytes became {self.bytes_after}"


@dataclass(frozen=True, slots=True, eq=False)
class Quantized:
    """A network that was quantised.

    Attributes:
        model: ONNX with pairs of QuantizeLinear and DequantizeLinear.
        report: what became of it.
    """

    model: onnx.ModelProto
    report: QuantReport
