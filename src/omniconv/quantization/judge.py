r"""How far a rounded network is from the one in float32: signal to noise, and points of accuracy.

The signal-to-noise ratio of an output, over all samples, is :math:`10 \log_{10}(\sum y^2 / \sum (\hat{y} - y)^2)`
[dB]; of several outputs the smallest counts. The drop, in points: with labels, by how many percent fewer samples have
their label as the largest entry of axis 1 of the first output; without, of how many percent of samples the largest
entry is another one; with a ``metric``, its value for the outputs in float32 less that for the rounded network's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from omniconv.errors import DataError, ShapeError
from omniconv.graph.nodes import shorten
from omniconv.limits import check_memory
from omniconv.quantization.execute import Array, Executor
from omniconv.quantization.network import FloatNetwork
from omniconv.quantization.samples import Samples
from omniconv.records import dataclass

Outputs: TypeAlias = Mapping[str, Array]
Metric: TypeAlias = Callable[[Sequence[Outputs]], float]


@dataclass(frozen=True, slots=True)
class Verdict:
    """Of one rounded network.

    Attributes:
        snr: signal to noise of its worst output [dB]; infinite where all are equal.
        drop: points lost; ``None`` where the outputs have no largest entry to compare and no metric is given.
    """

    snr: float
    drop: float | None

    def keeps(self, max_drop: float | None, min_snr: float | None) -> bool:
        """Whether it is within the budget."""
        fits = max_drop is None or (self.drop is not None and self.drop <= max_drop)
        return fits and (min_snr is None or self.snr >= min_snr)


def find_snr(signal: float, noise: float) -> float:
    """A ratio of powers [dB].

    Example:
        >>> find_snr(100.0, 1.0), find_snr(1.0, 0.0)
        (20.0, inf)
    """
    if not noise > 0:
        return math.inf if noise == 0 else math.nan
    return 10 * math.log10(signal / noise) if signal > 0 else -math.inf


class Judge:
    """Compares networks with one in float32, whose outputs for all samples it keeps.

    Args:
        executor: runs them.
        network: in float32.
        samples: to compare on.
        metric: of all outputs, larger is better [points].
    """

    def __init__(self, executor: Executor, network: FloatNetwork, samples: Samples, metric: Metric | None) -> None:
        self.executor, self.samples, self.metric = executor, samples, metric
        self.wanted: list[Outputs] = []
        for values in executor.run(network, samples):
            self.wanted.append({name: np.array(value) for name, value in values.items()})
            size = sum(value.nbytes for value in self.wanted[-1].values())
            check_memory(2 * size * samples.total, "the outputs for all samples", limit=executor.memory_limit)
            _check_finite(values)
        self.output = network.outputs[0].name
        classes = _find_classes(self.wanted[0][self.output])
        labels = samples.labels
        self.rows = None if labels is None else _spread(labels, self.wanted, self.output)
        if classes and self.rows is not None and int(self.rows.max()) >= classes:
            raise DataError(
                f"label {int(self.rows.max())} for {classes} classes",
                need="classes from 0, as axis 1 of the first output counts them",
            )
        self.best = np.concatenate([_largest(values[self.output]) for values in self.wanted]) if classes else None
        self.base = None if metric is None else _measure(metric, self.wanted)

    def __call__(self, network: FloatNetwork) -> Verdict:
        """Compare a network."""
        signal: dict[str, float] = {}
        noise: dict[str, float] = {}
        best, kept = [], []
        for values, wanted in zip(self.executor.run(network, self.samples), self.wanted, strict=True):
            for name, y in wanted.items():
                a, b = y.astype(np.float64), values[name].astype(np.float64)
                signal[name] = signal.get(name, 0.0) + float((a * a).sum())
                noise[name] = noise.get(name, 0.0) + float(((a - b) ** 2).sum())
            if self.best is not None:
                best.append(_largest(values[self.output]))
            if self.metric is not None:
                kept.append({name: np.array(value) for name, value in values.items()})
        snr = min(find_snr(signal[name], noise[name]) for name in signal)
        return Verdict(snr, self._find_drop(best, kept))

    def _find_drop(self, best: Sequence[Array], kept: Sequence[Outputs]) -> float | None:
        if self.metric is not None and self.base is not None:
            return self.base - _measure(self.metric, kept)
        if self.best is None:
            return None
        found = np.concatenate(best)
        if self.rows is None:
            return 100 * float((found != self.best).mean())
        return 100 * (float((self.best == self.rows).mean()) - float((found == self.rows).mean()))

    @property
    def accuracy(self) -> float | None:
        """Of the network in float32: samples whose label is the largest entry [%], where there are labels."""
        if self.rows is None or self.best is None:
            return None
        return 100 * float((self.best == self.rows).mean())


def _check_finite(values: Outputs) -> None:
    for name, array in values.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise DataError(
                "the network's output is NaN or infinite",
                need="finite outputs for all samples",
                at=shorten(f"tensor {name!r}"),
            )


def _find_classes(y: Array) -> int:
    """Entries of axis 1 where the largest of them is an answer, else 0."""
    return int(y.shape[1]) if y.ndim >= 2 and y.shape[1] > 1 and y[0, 0].size == 1 else 0


def _largest(y: Array) -> npt.NDArray[np.int64]:
    return np.asarray(y.reshape(y.shape[0], -1).argmax(axis=1), np.int64)


def _spread(labels: npt.NDArray[np.int64], outputs: Sequence[Outputs], name: str) -> npt.NDArray[np.int64]:
    """A label for each row of the outputs."""
    counts = [values[name].shape[0] if values[name].ndim else 1 for values in outputs]
    if sum(counts) != labels.size and labels.size != len(counts):
        raise ShapeError(f"{labels.size} labels for outputs of {sum(counts)} rows", need="one for each")
    return labels if sum(counts) == labels.size else np.repeat(labels, counts)


def _measure(metric: Metric, outputs: Sequence[Outputs]) -> float:
    try:
        value = float(metric(outputs))
    except Exception as error:
        raise DataError(
            f"metric raised {type(error).__name__}: {error}",
            need="a function of a list of outputs by name that returns a number",
        ) from error
    if not math.isfinite(value):
        raise DataError(f"metric returned {value}", need="a finite number")
    return value


def compare_values(
    executor: Executor, exact: FloatNetwork, rounded: FloatNetwork, samples: Samples, names: Iterable[str]
) -> dict[str, float]:
    """Signal to noise of values inside [dB], by name, with everything before them rounded as well."""
    wanted = list(dict.fromkeys(names))
    powers = {name: [0.0, 0.0] for name in wanted}
    if not wanted:
        return {}
    pairs: Any = zip(executor.run(exact, samples, wanted), executor.run(rounded, samples, wanted), strict=True)
    for ours, theirs in pairs:
        for name, (signal, noise) in powers.items():
            a, b = ours[name].astype(np.float64), theirs[name].astype(np.float64)
            powers[name] = [signal + float((a * a).sum()), noise + float(((a - b) ** 2).sum())]
    return {name: find_snr(signal, noise) for name, (signal, noise) in powers.items()}
