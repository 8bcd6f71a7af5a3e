r"""How far a rounded network is from the one in float32: signal to noise, and points of accuracy.

The signal-to-noise ratio of an output, over all samples, is :math:`10 \log_{10}(\sum y^2 / \sum (\hat{y} - y)^2)`
[dB]; of several outputs the smallest counts. The drop, in points: with labels, by how many percent fewer samples have
their label as the largest entry of axis 1 of the first output; without, of how many percent of samples the largest
entry is another one; with a ``metric``, its value for the outputs in float32 less that for the rounded network's.

A budget counts samples that were right and are not any more (without labels: all that differ), and not that others
became right by chance: a search among many networks would find one that is lucky on these samples.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from omniconv.errors import DataError, ShapeError
from omniconv.graph.nodes import AnyArray, shorten
from omniconv.limits import check_memory
from omniconv.quantization.execute import Array, Executor, NetworkSample
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
        lost: points that a budget counts: never fewer than ``drop``, as samples that became right do not count.
    """

    snr: float
    drop: float | None = None
    lost: float | None = None

    def keeps(self, max_drop: float | None, min_snr: float | None) -> bool:
        """Whether it is within the budget."""
        fits = max_drop is None or (self.lost is not None and self.lost <= max_drop)
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
            self._check_finite(network, values, len(self.wanted) - 1)
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
        if self.metric is not None and self.base is not None:
            drop = self.base - _measure(self.metric, kept)
            return Verdict(snr, drop, drop)
        return Verdict(snr) if self.best is None else Verdict(snr, *self._count(np.concatenate(best)))

    def _count(self, found: Array) -> tuple[float, float]:
        """Points of accuracy lost with these largest entries, and points that were right and are not any more."""
        before: Any = self.best
        wanted = before if self.rows is None else self.rows
        right, still = np.equal(before, wanted), np.equal(found, wanted)
        return 100 * float(right.mean() - still.mean()), 100 * float((right & ~still).mean())

    def _check_finite(self, network: FloatNetwork, values: Outputs, index: int) -> None:
        """Refuse outputs that are not finite, with the name of what was so first."""
        bad = [name for name, array in values.items() if not _is_finite(array)]
        if not bad:
            return
        sample = next(islice(iter(self.samples), index, None))
        name = find_first(self.executor, network, sample) or bad[0]
        raise DataError(
            f"output {shorten(bad[0])!r} of the network is NaN or infinite, and tensor {shorten(name)!r} was first",
            need="finite numbers for all samples",
            at=shorten(f"tensor {name!r}"),
        )

    @property
    def accuracy(self) -> float | None:
        """Of the network in float32: samples whose label is the largest entry [%], where there are labels."""
        if self.rows is None or self.best is None:
            return None
        return 100 * float((self.best == self.rows).mean())


def find_first(executor: Executor, network: FloatNetwork, sample: NetworkSample) -> str:
    """The first value that is NaN or infinite, or the constant that it is made of; empty where all are finite."""
    names = [name for node in network.nodes for name in node.outputs if name and network.is_float(name)]
    values = next(executor.run(network, [sample], names))
    for node in network.nodes:
        if not all(_is_finite(values[name]) for name in node.outputs if name in values):
            constants = [name for name in node.reads if not _is_finite(network.constants.get(name, np.zeros(0)))]
            return (constants or [name for name in node.outputs if name in values and not _is_finite(values[name])])[0]
    return ""


def _is_finite(array: AnyArray) -> bool:
    return array.dtype.kind != "f" or bool(np.isfinite(array).all())


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
