"""`Study`: what a study found, and `read_study`, which reads it again."""

from __future__ import annotations

import json
from typing import Any

from omniconv.analysis import Record
from omniconv.errors import DataError
from omniconv.records import dataclass
from omniconv.study.bootstrap import Spread
from omniconv.study.claims import Claim, ClaimPart


@dataclass(frozen=True, slots=True)
class MeasuredTime(Record):
    """A time of one image.

    Attributes:
        seconds: median of the rounds [s].
        ratio: how many times as long as the standard network's.
    """

    seconds: float
    ratio: Spread


@dataclass(frozen=True, slots=True)
class KindResult(Record):
    """One kind in one comparison.

    Attributes:
        kind: name.
        words: what its layers are.
        width: of its network.
        rate: of learning, chosen by the validation.
        parameters, macs: of the network, without biases and norms.
        field: positions on a side that its three layers see together.
        epochs: mean of those that were trained.
        accuracy: on the test.
        difference: to the standard network.
        pace: how many times as long as the standard network's a step of training takes PyTorch, as it was measured when
            widths were chosen; none where widths are equal.
        times: by :data:`omniconv.study.timing.MEASURES`, of networks of the same width.
    """

    kind: str
    words: str
    width: int
    rate: float
    parameters: int
    macs: int
    field: int
    epochs: float
    accuracy: Spread
    difference: Spread
    pace: float | None
    times: dict[str, MeasuredTime]


@dataclass(frozen=True, slots=True)
class KernelResult(Record):
    """The kernels of the standard networks.

    Attributes:
        rest: share of the energy beyond rank 1.
        before: the same of the first weights.
        cut: accuracy that is gained (below zero: lost) when only rank 1 is left.
    """

    rest: Spread
    before: Spread
    cut: Spread


@dataclass(frozen=True, slots=True)
class DecoderResult(Record):
    """One way of enlarging over one number of axes.

    Attributes:
        name: of the way.
        dims: axes.
        factor: of the enlargement.
        predicted: taps that meet in each phase, by `omniconv.overlap`.
        energies: measured in untrained layers for each phase, the least being 1.
        contrast: the largest of them over the least, of the phases that are predicted to be so.
        untrained: share of the energy that is at the frequencies of the grid, before training.
        trained: the same after it.
        real: the same in the images themselves.
        grid: energy of what is wrong with images after training at these frequencies, over the variance of the images.
        error: all of it.
    """

    name: str
    dims: int
    factor: int
    predicted: tuple[float, ...]
    energies: tuple[float, ...]
    contrast: Spread
    untrained: Spread
    trained: Spread
    real: float
    grid: Spread
    error: Spread


@dataclass(frozen=True, slots=True)
class Study(Record):
    """What a study found, and of what.

    Attributes:
        settings: of :class:`omniconv.study.StudySettings`, and the ``rates`` of learning that were tried.
        data: the images in words and numbers.
        machine: on which times were measured.
        epochs: of each training, at most.
        notes: what differs from what was asked for.
        same_width: all kinds with the same number of channels.
        same_time: all kinds with as many channels as take the standard network's time.
        kernels: of the standard networks.
        decoders: the ways of enlarging.
        claims: with their verdicts.
    """

    settings: dict[str, Any]
    data: dict[str, Any]
    machine: dict[str, Any]
    epochs: int
    notes: tuple[str, ...]
    same_width: tuple[KindResult, ...]
    same_time: tuple[KindResult, ...]
    kernels: KernelResult
    decoders: tuple[DecoderResult, ...]
    claims: tuple[Claim, ...]

    def find(self, kind: str) -> KindResult | None:
        """A kind among those of the same width."""
        return next((item for item in self.same_width if item.kind == kind), None)

    def find_decoder(self, name: str, dims: int) -> DecoderResult:
        """A way of enlarging."""
        return next(item for item in self.decoders if (item.name, item.dims) == (name, dims))


def read_study(text: str) -> Study:
    """A study from what ``study.json`` holds.

    Raises:
        DataError: it holds something else.
    """
    try:
        found = json.loads(text)
        return Study(
            found["settings"],
            found["data"],
            found["machine"],
            found["epochs"],
            tuple(found["notes"]),
            tuple(_read_kind(item) for item in found["same_width"]),
            tuple(_read_kind(item) for item in found["same_time"]),
            KernelResult(**{name: Spread(**value) for name, value in found["kernels"].items()}),
            tuple(_read_decoder(item) for item in found["decoders"]),
            tuple(_read_claim(item) for item in found["claims"]),
        )
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(
            f"no study: {type(error).__name__}: {error}", need="a study.json that omniconv study wrote"
        ) from error


def _read_kind(item: dict[str, Any]) -> KindResult:
    times = {name: MeasuredTime(time["seconds"], Spread(**time["ratio"])) for name, time in item["times"].items()}
    intervals = {name: Spread(**item[name]) for name in ("accuracy", "difference")}
    return KindResult(**{**item, **intervals, "times": times})


def _read_decoder(item: dict[str, Any]) -> DecoderResult:
    intervals = {name: Spread(**item[name]) for name in ("contrast", "untrained", "trained", "grid", "error")}
    lists = {name: tuple(item[name]) for name in ("predicted", "energies")}
    return DecoderResult(**{**item, **intervals, **lists})


def _read_claim(item: dict[str, Any]) -> Claim:
    parts = tuple(ClaimPart(**{**part, "found": Spread(**part["found"])}) for part in item["parts"])
    return Claim(**{**item, "parts": parts, "beside": tuple(item["beside"])})
