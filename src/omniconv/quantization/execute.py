"""Running networks over samples with Omniconv's own code: any of their values, one sample after the other."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import field
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from omniconv.api import compile as compile_model
from omniconv.errors import HostWarning
from omniconv.quantization.histogram import Histogram
from omniconv.quantization.network import FloatNetwork
from omniconv.records import dataclass

Array: TypeAlias = npt.NDArray[Any]
NetworkSample: TypeAlias = Mapping[str, Array]
Bounds: TypeAlias = tuple[float, float]


@dataclass(slots=True)
class Executor:
    """Compiles and runs, with one choice of threads and memory.

    Attributes:
        threads: of each call, as for :func:`omniconv.compile`.
        memory_limit: of each compiled network [bytes].
        warned: the first network that partly runs on the host warned of it; the others would say the same.
    """

    threads: int | None = None
    memory_limit: int | None = None
    warned: bool = field(default=False)

    def run(
        self, network: FloatNetwork, samples: Iterable[NetworkSample], outputs: Iterable[str] | None = None
    ) -> Iterator[dict[str, Array]]:
        """The outputs of the network for each sample, or values inside it instead."""
        graph: Any = network.to_graph(outputs)
        quiet, self.warned = self.warned, True
        with _without_host_warnings(quiet):
            compiled = compile_model(graph, threads=self.threads, memory_limit=self.memory_limit)
        needed = [info.name for info in graph.inputs]
        for sample in samples:
            with _without_host_warnings(quiet):
                values = compiled.run({name: sample[name] for name in needed})
            yield values


@contextmanager
def _without_host_warnings(quiet: bool) -> Iterator[None]:
    """Nothing is said of the host meanwhile. Never over a ``yield`` of samples: whoever takes them in turns from two
    networks would have the filters of warnings put back in the wrong order, and keep those of one.
    """
    with warnings.catch_warnings():
        if quiet:
            warnings.simplefilter("ignore", HostWarning)
        yield


@dataclass(slots=True)
class ChannelRange:
    """The smallest and the largest value of each channel, axis 1 of a value."""

    low: Array
    high: Array

    def add(self, values: Array) -> None:
        """Take more values into account."""
        flat = values.reshape(values.shape[0], values.shape[1], -1)
        np.minimum(self.low, flat.min(axis=(0, 2)), out=self.low)
        np.maximum(self.high, flat.max(axis=(0, 2)), out=self.high)


def count_values(
    executor: Executor, network: FloatNetwork, samples: Iterable[NetworkSample], names: Mapping[str, Bounds]
) -> dict[str, Histogram]:
    """A histogram of each of these values, within bounds.

    Raises:
        DataError: NaN or infinities among them.
    """
    found = {name: Histogram(name, bounds) for name, bounds in names.items()}
    given = {info.name for info in network.inputs}
    inside = [name for name in found if name not in given]
    for sample, values in _beside(executor, network, samples, inside):
        for name, histogram in found.items():
            histogram.add(sample[name] if name in given else values[name])
    return found


def find_channel_ranges(
    executor: Executor, network: FloatNetwork, samples: Iterable[NetworkSample], names: Iterable[str]
) -> dict[str, ChannelRange]:
    """The range of each channel of each of these values."""
    found: dict[str, ChannelRange] = {}
    for values in executor.run(network, samples, names):
        for name, array in values.items():
            if name not in found:
                count = array.shape[1]
                found[name] = ChannelRange(np.full(count, np.inf), np.full(count, -np.inf))
            found[name].add(array)
    return found


def _beside(
    executor: Executor, network: FloatNetwork, samples: Iterable[NetworkSample], names: list[str]
) -> Iterator[tuple[NetworkSample, dict[str, Array]]]:
    """Each sample with the values of the network for it."""
    if not names:
        yield from ((sample, {}) for sample in samples)
        return
    current: list[NetworkSample] = []

    def watch() -> Iterator[NetworkSample]:
        for sample in samples:
            current[:] = [sample]
            yield sample

    for values in executor.run(network, watch(), names):
        yield current[0], values
