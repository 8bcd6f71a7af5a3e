"""Measured times: a step of training and an inference, by PyTorch alone and by Omniconv, all in turns on one thread."""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, Final

import torch
from torch import nn

from omniconv.bench.interleave import interleave
from omniconv.errors import VerificationError
from omniconv.integers import ceil_div
from omniconv.study.networks import Design
from omniconv.study.settings import BATCH, RATES
from omniconv.study.split import DataSplit
from omniconv.study.training import make_step, one_thread
from omniconv.torch.compile import compile as compile_module
from omniconv.torch.convert import convert

MEASURES: Final = ("pytorch_training", "omniconv_training", "pytorch_inference", "omniconv_inference")
ROUNDS: Final = 15
TURN: Final = 0.01
"""Of one contender in one round [s]."""
WIDEST: Final = 8
"""How many times the width of the standard network is tried for the same time."""
TOLERANCE: Final = 1e-4
"""Of the largest result, by which two runtimes may differ: their roundings, through four layers and a norm each."""
Times = dict[str, dict[str, list[float]]]


def take_batch(split: DataSplit) -> tuple[torch.Tensor, torch.Tensor]:
    """The images that everything is timed with."""
    x, labels = split.train
    places = [place % len(labels) for place in range(BATCH)]
    return torch.from_numpy(x[places]), torch.from_numpy(labels[places])


def measure_times(designs: Sequence[Design], split: DataSplit, on_round: Callable[[float], None]) -> Times:
    """For each design by the name of its kind and each of :data:`MEASURES`, the time of an image in every round [s].

    Raises:
        VerificationError: the runtimes compute different things.
    """
    with one_thread():
        x, labels = take_batch(split)
        steps: dict[tuple[str, str], Callable[[], object]] = {}
        runs: dict[tuple[str, str], Callable[[], object]] = {}
        for place, design in enumerate(designs):
            name, model = design.variant.name, design.build(0)
            own = copy.deepcopy(model)
            convert(own)
            steps[name, MEASURES[0]] = make_step(copy.deepcopy(model), RATES[0], x, labels)
            steps[name, MEASURES[1]] = make_step(own, RATES[0], x, labels)
            model.eval()
            with _quiet():
                compiled = compile_module(model, x, threads=1)
            _check_alike(model, compiled, x, name)
            runs[name, MEASURES[2]] = partial(_infer, model, x)
            runs[name, MEASURES[3]] = partial(_infer, compiled, x)
            on_round(0.5 * (place + 1) / len(designs))
        found: Times = {design.variant.name: {} for design in designs}
        for start, calls in ((0.5, steps), (0.75, runs)):
            names = {" ".join(key): call for key, call in calls.items()}
            timings = interleave(
                names,
                rounds=ROUNDS,
                seconds=0,
                turn=TURN,
                on_round=lambda _, share, s=start: on_round(s + share / 4),  # type: ignore[misc]
            )
            for key in calls:
                found[key[0]][key[1]] = [seconds / BATCH for seconds in timings[" ".join(key)].seconds]
    return found


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what PyTorch's exporter says about matters of its own."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _infer(model: Callable[[torch.Tensor], Any], x: torch.Tensor) -> Any:
    with torch.no_grad():
        return model(x)


def _check_alike(model: nn.Module, compiled: nn.Module, x: torch.Tensor, name: str) -> None:
    wanted, found = _infer(model, x), _infer(compiled, x)
    error, largest = float((wanted - found).abs().max()), float(wanted.abs().max())
    if not error <= TOLERANCE * largest:
        raise VerificationError(
            f"the {name} network of Omniconv differs by {error:.2g} from PyTorch's, of at most {largest:.2g}",
            need=f"at most {TOLERANCE:g} of it",
        )


def match_width(design: Design, standard: Design, split: DataSplit) -> tuple[int, float]:
    """The width with which a step of training takes PyTorch nearest to as long as the standard network's.

    Returns:
        The width, and how many times as long it takes.
    """
    step = design.variant.fit(max(1, standard.width // 2))
    measured: dict[int, float] = {}
    with one_thread():
        most = WIDEST * standard.width // step
        low, high = 1, most
        while low < high:
            middle = ceil_div(low + high, 2)
            measured[middle * step] = _compare(replace(design, width=middle * step), standard, split)
            if measured[middle * step] > 1:
                high = middle - 1
            else:
                low = middle
        for width in {low * step, min(low + 1, most) * step}:
            if width not in measured:
                measured[width] = _compare(replace(design, width=width), standard, split)
    return min(measured.items(), key=lambda item: max(item[1], 1 / item[1]))


def _compare(design: Design, standard: Design, split: DataSplit) -> float:
    x, labels = take_batch(split)
    calls: Mapping[str, Callable[[], object]] = {
        "own": make_step(design.build(0), RATES[0], x, labels),
        "standard": make_step(standard.build(0), RATES[0], x, labels),
    }
    timings = interleave(calls, rounds=7, seconds=0, turn=TURN)
    return timings["own"].median / timings["standard"].median
