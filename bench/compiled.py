"""Time inference by `torch.compile` with our backend beside inductor with freezing and eager PyTorch.

``bench/compiled.py [--models WORD ...] [--batch N ...] [--threads N ...] [--size N] [--layouts NAME ...]``: the models
of :mod:`step_models`, in turns in one process: ours frozen, not frozen, and the whole network by
`omniconv.torch.compile`; inductor with freezing, which needs a compiler of C++; and eager PyTorch. Outputs are first
compared with PyTorch in float64; an error may be :data:`steps.ALLOWANCE` times that of PyTorch in float32.

A table shows times [ms], the ratio of each to the frozen one of the same layout, and how much of the measured peak of
multiply-adds the frozen one reaches. With it stands the ratio to inductor that one at the peak would reach, all of
whose other work took no time: no faster code without filtering can reach more.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, Final

import torch
import torch._inductor.config as inductor

from omniconv.bench.interleave import interleave
from omniconv.bench.machine import describe_machine, keep_freed_memory
from omniconv.bench.roofline import measure_roofline
from omniconv.torch import compile as compile_whole
from omniconv.torch import reports
from step_models import MODELS
from steps import LAYOUTS, arrange, check, distance, layouts_of, make

REPORT: Final = Path("build/bench/compiled.json")
FROZEN: Final = "ours frozen"

Call = Callable[[], Any]


def prepare(title: str, batch: int, layout: str, size: int) -> tuple[dict[str, Call], str, int]:
    """All ways to run a model in one layout, the errors of their outputs, and the multiplications that ours does."""
    torch._dynamo.reset()  # noqa: SLF001 - it gives up on a class of modules after some that it compiled
    model, x, _ = make(title, batch, size)
    model(x)  # statistics for the batch norms
    exact = copy.deepcopy(model).eval().double()(x.double())
    mine, given = arrange(model.eval(), x, layout)
    order = "NHWC" if layout == LAYOUTS[1] else "NCHW"
    whole = compile_whole(copy.deepcopy(mine), given, threads=torch.get_num_threads(), layout=order)
    ours, frozen = partial(torch.compile, backend="omniconv", dynamic=False), {"freeze": True}
    ways: dict[str, Callable[..., torch.Tensor]] = {
        "torch": mine,
        "torch inductor": torch.compile(copy.deepcopy(mine), backend="inductor", dynamic=False),
        FROZEN: ours(copy.deepcopy(mine), options=frozen),
        "ours not frozen": ours(copy.deepcopy(mine)),
        "ours whole": whole,
    }
    errors: dict[str, float] = {}
    calls: dict[str, Call] = {}
    for name, way in ways.items():
        try:
            errors[name] = distance([way(given)], [exact])
        except torch._dynamo.exc.BackendCompilerFailed as error:  # noqa: SLF001
            if name != "torch inductor":
                raise
            print(f"  inductor cannot run, which needs g++: {str(error).strip().splitlines()[0]}")
            continue
        calls[name] = partial(way, given)
    refused = [part.refused for report in reports() for part in report.parts if part.refused]
    line = check(errors) + "".join(f"; a part runs in PyTorch: {why}" for why in refused)
    lying = given.permute(0, *range(2, given.dim()), 1) if order == "NHWC" else given
    steps = whole.network.profile(lying.contiguous().numpy(), 1)
    return calls, line, sum(step.multiplications for step in steps)


def compare(title: str, batch: int, threads: int, layout: str, options: argparse.Namespace) -> dict[str, Any]:
    """Verify, time in turns, print a row; the figures."""
    torch.set_num_threads(threads)
    calls, line, multiplications = prepare(title, batch, layout, options.size)
    timings = interleave(calls, rounds=options.rounds, seconds=0, warm_up=1, settle=0.1 if threads > 1 else 0.0)
    least = 2 * multiplications / measure_roofline(threads=threads).peak
    times = {name: timing.median for name, timing in timings.items()}
    cells = [f"{name} {1e3 * value:.1f} ({value / times[FROZEN]:.2f})" for name, value in times.items()]
    print(f"{title}, batch {batch}, threads {threads}, {layout}: {', '.join(cells)}")
    bound = f"; inductor over the peak: {times[name] / least:.2f}" if (name := "torch inductor") in times else ""
    reached = f"{least / times[FROZEN]:.0%} of it reached{bound}"
    print(f"  at the peak {1e3 * least:.1f} ms, {reached}; errors: {line}", flush=True)
    return {
        "model": title,
        "batch": batch,
        "threads": threads,
        "layout": layout,
        "size": options.size,
        "multiplications": multiplications,
        "least_seconds": least,
        "timings": {name: timing.as_dict() for name, timing in timings.items()},
    }


def main(arguments: list[str]) -> int:
    """Measure, print, write a report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["Net", "NeXt"], help="those whose title has one of these words")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--layouts", nargs="+", default=list(LAYOUTS), choices=LAYOUTS)
    parser.add_argument("--size", type=int, default=224, help="of images; series are 8 times as long")
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args(arguments)
    keep_freed_memory()
    inductor.freezing = True
    titles = [title for title in MODELS if any(word.lower() in title.lower() for word in options.models)]
    with torch.no_grad():
        records = [
            compare(title, batch, threads, layout, options)
            for title, batch, threads, layout in product(titles, options.batch, options.threads, options.layouts)
            if layout in layouts_of(torch.empty(batch, *MODELS[title][1](options.size)))
        ]
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    REPORT.write_text(json.dumps({"machine": describe_machine(max(options.threads)), "inference": records}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
