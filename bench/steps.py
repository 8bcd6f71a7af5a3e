"""Time whole steps of training in PyTorch: converted models beside eager PyTorch.

``bench/steps.py [--models WORD ...] [--batch N ...] [--threads N ...] [--size N]``: forward pass, loss, backward pass
and a step of SGD, ours (after `convert`) and PyTorch's, contiguous and channels last, in turns in one process. The loss
and all gradients are first compared with PyTorch in float64; an error may be :data:`ALLOWANCE` times that of PyTorch in
float32. Inference is timed by ``bench/compiled.py``.

``bench/steps.py --steps 1000`` trains instead: what was compiled after the first step, the memory of the process
meanwhile, and the distance of the losses to those of float64, ours and PyTorch's.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - its usual name

from omniconv.bench.interleave import interleave
from omniconv.bench.machine import describe_machine, keep_freed_memory
from omniconv.torch import convert
from omniconv.torch.programs import PROGRAMS
from step_models import CLASSES, MODELS

ALLOWANCE: Final = 8.0
"""Error allowed, in parts of that of PyTorch in float32."""
RATE: Final = 0.01
"""Of learning."""
POOL: Final = 16
"""Batches of the long training, which come again and again."""
SETTLED: Final = 50
"""Step of the long training after which nothing is compiled and no memory taken."""
REPORT: Final = Path("build/bench/steps.json")
LAYOUTS: Final = ("contiguous", "channels last")
_OURS: Final = frozenset(f"ours {layout}" for layout in LAYOUTS)
"""What the ratios are to."""

Call = Callable[[], Any]


def make(title: str, batch: int, size: int, seed: int = 0) -> tuple[nn.Module, Tensor, Tensor]:
    """A model with random weights, an input and classes."""
    torch.manual_seed(seed)
    build, shape_of = MODELS[title]
    model = build()
    for part in model.modules():
        if isinstance(part, nn.Conv1d | nn.Conv2d | nn.Linear):  # a scale that no layer loses
            nn.init.kaiming_normal_(part.weight, nonlinearity="linear")
    return model, torch.randn(batch, *shape_of(size)), torch.randint(CLASSES, (batch,))


def layouts_of(x: Tensor) -> tuple[str, ...]:
    """The orders of memory that a model is run in; PyTorch has no channels last for series."""
    return LAYOUTS[: 1 if x.dim() == 3 else 2]


def arrange(model: nn.Module, x: Tensor, layout: str) -> tuple[nn.Module, Tensor]:
    """A copy of a model and an input in an order of memory."""
    model = copy.deepcopy(model)
    if layout == "channels last" and layout in layouts_of(x):
        return model.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
    return model, x


def make_step(model: nn.Module, x: Tensor, classes: Tensor) -> Call:
    """A call that does one step of training."""
    return partial(take_step, model, torch.optim.SGD(model.parameters(), lr=RATE), x, classes)


def take_step(model: nn.Module, optimiser: torch.optim.Optimizer, x: Tensor, classes: Tensor) -> float:
    """One step of training; the loss."""
    optimiser.zero_grad()
    loss = F.cross_entropy(model(x), classes)
    loss.backward()
    optimiser.step()
    return float(loss.detach())


def find_gradients(model: nn.Module, x: Tensor, classes: Tensor) -> tuple[Tensor, ...]:
    """The loss and the gradients of all parameters."""
    loss = F.cross_entropy(model(x), classes)
    return loss.detach(), *torch.autograd.grad(loss, list(model.parameters()))


def distance(found: Sequence[Tensor], exact: Sequence[Tensor]) -> float:
    """The largest error of a tensor among several, in parts of its norm."""
    return max(float((a.double() - b).norm() / b.norm()) for a, b in zip(found, exact, strict=True))


def check(errors: dict[str, float]) -> str:
    """All errors in words; the end of the program where one of ours is too large."""
    reference = max(error for name, error in errors.items() if name.startswith("torch"))
    line = ", ".join(f"{name} {error:.1e}" for name, error in errors.items())
    if not all(error <= ALLOWANCE * reference for name, error in errors.items() if name.startswith("ours")):
        raise SystemExit(f"errors are too large: {line}")
    return line


def find_memory() -> int:
    """What the process holds in memory [bytes]; Linux only."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def measure_training(title: str, batch: int, options: argparse.Namespace) -> tuple[dict[str, Call], str]:
    """Steps of training in all ways, and the errors of their loss and gradients."""
    model, x, classes = make(title, batch, options.size)
    exact = find_gradients(copy.deepcopy(model).double(), x.double(), classes)
    # A bias before a batch norm has no gradient but rounding, which no two ways share.
    kept = [place for place, value in enumerate(exact) if value.norm() > 1e-12 * exact[0].norm()]
    errors, calls = {}, {}
    for layout in layouts_of(x):
        for name in ("torch", "ours"):
            mine, given = arrange(model, x, layout)
            if name == "ours":
                convert(mine)
            found = find_gradients(copy.deepcopy(mine), given, classes)
            errors[f"{name} {layout}"] = distance([found[place] for place in kept], [exact[place] for place in kept])
            calls[f"{name} {layout}"] = make_step(mine, given, classes)
    return calls, check(errors)


def compare(title: str, batch: int, threads: int, options: argparse.Namespace) -> dict[str, Any]:
    """Verify, time in turns, print; the figures."""
    print(f"{title}, training, batch {batch}, {threads} threads", flush=True)
    torch.set_num_threads(threads)
    calls, line = measure_training(title, batch, options)
    print(f"  errors: {line}", flush=True)
    for call in calls.values():
        call()
    compiled = PROGRAMS.compiled
    settle = 0.1 if threads > 1 else 0.0
    timings = interleave(calls, rounds=options.rounds, seconds=0, warm_up=1, settle=settle)
    compiled = PROGRAMS.compiled - compiled
    times = {name: timing.median for name, timing in timings.items()}
    quick = {name: timing.fastest for name, timing in timings.items()}
    ratios = {name: (_ratio(times, name), _ratio(quick, name)) for name in times if name not in _OURS}
    print("  " + ", ".join(f"{name} {1e3 * value:.1f}" for name, value in times.items()) + " ms")
    print("  ratios to our faster layout, by medians (and by the fastest rounds): ", end="")
    print(", ".join(f"{name} {median:.2f} ({least:.2f})" for name, (median, least) in ratios.items()))
    print(f"  compiled while timing: {compiled}", flush=True)
    return {
        "model": title,
        "batch": batch,
        "threads": threads,
        "size": options.size,
        "ratios": ratios,
        "compiled": compiled,
        "timings": {name: timing.as_dict() for name, timing in timings.items()},
    }


def _ratio(times: dict[str, float], name: str) -> float:
    return times[name] / min(value for key, value in times.items() if key in _OURS)


def train_long(title: str, batch: int, options: argparse.Namespace) -> dict[str, Any]:
    """Train ours, PyTorch's model and one in float64 from the same weights on the same batches, one after the other."""
    torch.set_num_threads(options.threads[0])
    model, _, _ = make(title, batch, options.size)
    batches = [make(title, batch, options.size, seed)[1:] for seed in range(POOL)]
    losses: dict[str, list[float]] = {}
    for name in ("ours", "torch", "float64"):
        mine, _ = arrange(model, batches[0][0], options.layout)
        mine = mine.double() if name == "float64" else mine
        if name == "ours":
            convert(mine)
        optimiser = torch.optim.SGD(mine.parameters(), lr=RATE, momentum=0.9)
        given = [(arrange(nn.Identity(), x, options.layout)[1], classes) for x, classes in batches]
        if name == "float64":
            given = [(x.double(), classes) for x, classes in given]
        found = losses[name] = []
        compiled = memory = 0.0
        began = time.perf_counter()
        for step in range(options.steps):
            found.append(take_step(mine, optimiser, *given[step % POOL]))
            if step == SETTLED:
                compiled, memory = PROGRAMS.compiled, find_memory()
        seconds = time.perf_counter() - began
        print(
            f"{title}, {name}: {options.steps} steps of batch {batch} in {seconds:.0f} s, loss {found[0]:.4f} to "
            f"{found[-1]:.4f}; after step {SETTLED} compiled {PROGRAMS.compiled - compiled:.0f}, memory "
            f"{memory / 2**20:.1f} to {find_memory() / 2**20:.1f} MiB",
            flush=True,
        )
    apart = {name: max(map(_difference, losses[name], losses["float64"])) for name in ("ours", "torch")}
    print(f"  farthest from the losses of float64: ours {apart['ours']:.2e}, PyTorch {apart['torch']:.2e}", flush=True)
    if not apart["ours"] <= ALLOWANCE * apart["torch"]:
        raise SystemExit(f"{title}: losses are off by {apart['ours']:.2e}, those of PyTorch by {apart['torch']:.2e}")
    return {"model": title, "batch": batch, "losses": losses, "distances": apart}


def _difference(a: float, b: float) -> float:
    return abs(a - b)


def main(arguments: list[str]) -> int:
    """Measure or train, print, write a report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=[""], help="those whose title has one of these words")
    parser.add_argument("--batch", type=int, nargs="+", default=[8, 32])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--size", type=int, default=96, help="of images; series are 8 times as long")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=0, help="train for so many steps instead")
    parser.add_argument("--layout", default=LAYOUTS[1], choices=LAYOUTS, help="of the long training")
    options = parser.parse_args(arguments)
    keep_freed_memory()
    titles = [title for title in MODELS if any(word.lower() in title.lower() for word in options.models)]
    records = []
    if options.steps:
        records = [train_long(title, batch, options) for title in titles for batch in options.batch]
    else:
        for threads, batch, title in product(options.threads, options.batch, titles):
            records.append(compare(title, batch, threads, options))
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    REPORT.write_text(json.dumps({"machine": describe_machine(max(options.threads)), "steps": records}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
