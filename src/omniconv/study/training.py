"""`train`: one network of one kind and one seed. The same arguments give the same network, bit by bit."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from omniconv.records import dataclass
from omniconv.study.networks import Design
from omniconv.study.settings import BATCH, PATIENCE, WEIGHT_DECAY
from omniconv.study.spectra import cut_kernels, list_kernels, measure_rest
from omniconv.study.split import DataSplit

_EVALUATED: int = 256
"""Images at once."""


@dataclass(frozen=True, slots=True)
class Training:
    """What is done to one network.

    Attributes:
        design: the network.
        rate: of learning, at first; it falls to zero along half a cosine.
        seed: of the first weights, and of the order of the images.
        epochs: at most.
        judge: whether the test is looked at; not while settings are chosen.
    """

    design: Design
    rate: float
    seed: int
    epochs: int
    judge: bool = True


@contextmanager
def one_thread() -> Iterator[None]:
    """PyTorch on one thread, on which its sums have one order; and its generator of numbers as it was before."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=()):
            yield
    finally:
        torch.set_num_threads(threads)


def make_step(model: nn.Module, rate: float, x: torch.Tensor, labels: torch.Tensor) -> Any:
    """One step of training on one batch, as a function to be timed."""
    optimiser = _optimise(model, rate)
    model.train()

    def step() -> None:
        _step(model, optimiser, x, labels)

    return step


def _optimise(model: nn.Module, rate: float) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=WEIGHT_DECAY, fused=True)


def _step(model: nn.Module, optimiser: torch.optim.Optimizer, x: torch.Tensor, labels: torch.Tensor) -> None:
    optimiser.zero_grad()
    nn.functional.cross_entropy(model(x), labels).backward()
    optimiser.step()


def train(job: Training, split: DataSplit) -> dict[str, Any]:
    """Train one network; keep the weights of the epoch whose validation is best; judge them by the test.

    Returns:
        For JSON: ``epochs`` that were trained, ``best`` of them, ``accuracy`` and ``loss`` of the validation; with
        ``judge`` the numbers of the images of the test that are named wrongly, ``wrong``. Of networks with square
        kernels also ``rest``, the energy of these beyond rank 1, ``rest_before`` that of the first ones, and
        ``wrong_cut``, what is named wrongly when only rank 1 is left.
    """
    with one_thread():
        model = job.design.build(job.seed)
        before = measure_rest(model)
        found = fit(model, job, split)
        if job.judge:
            x, labels = (torch.from_numpy(part) for part in split.test)
            found["wrong"] = _find_wrong(model, x, labels)
            if next(list_kernels(model), None) is not None:
                found.update(rest_before=before, rest=measure_rest(model))
                cut_kernels(model)
                found["wrong_cut"] = _find_wrong(model, x, labels)
    return found


def fit(model: nn.Module, job: Training, split: DataSplit) -> dict[str, Any]:
    """Train the network, which is left with the weights of the epoch whose validation is best; see `train`."""
    (x, labels), (x_validation, validation) = (
        (torch.from_numpy(images), torch.from_numpy(classes)) for images, classes in (split.train, split.validation)
    )
    order = torch.Generator().manual_seed(job.seed)
    optimiser = _optimise(model, job.rate)
    best: tuple[float, int, float] = (math.inf, 0, 0.0)
    kept: dict[str, Any] = copy.deepcopy(model.state_dict())
    epoch = 0
    for epoch in range(1, job.epochs + 1):
        for group in optimiser.param_groups:
            group["lr"] = job.rate * (1 + math.cos(math.pi * (epoch - 1) / job.epochs)) / 2
        model.train()
        for part in torch.randperm(len(x), generator=order).split(BATCH):
            if len(part) > 1 or len(x) == 1:  # one image alone has no variance for the norms
                _step(model, optimiser, x[part], labels[part])
        values = _answer(model, x_validation)
        loss = float(nn.functional.cross_entropy(values, validation))
        if loss < best[0]:
            best = (loss, epoch, float((values.argmax(1) == validation).double().mean()))
            kept = copy.deepcopy(model.state_dict())
        elif epoch - best[1] >= PATIENCE:
            break
    model.load_state_dict(kept)
    return {"epochs": epoch, "best": best[1], "loss": best[0] if best[1] else None, "accuracy": best[2]}


def _answer(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    model.eval()
    with torch.no_grad():
        return torch.cat([model(part) for part in x.split(_EVALUATED)])


def _find_wrong(model: nn.Module, x: torch.Tensor, labels: torch.Tensor) -> list[int]:
    wrong: npt.NDArray[np.int64] = (_answer(model, x).argmax(1) != labels).nonzero().reshape(-1).numpy()
    return [int(place) for place in wrong]
