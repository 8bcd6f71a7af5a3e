"""Time the forward pass, the input gradient and the weight gradient of single layers beside PyTorch.

``bench/gradients.py [--threads N ...] [--rounds N] [--batch N] [--only WORD ...] [--passes WORD ...]``: every layer of
:data:`LAYERS` in both layouts, ours and PyTorch's, in turns in one process. Results are compared first. The ratio is
the time of PyTorch's faster layout over ours, once for our faster layout and once for our slower one. The share of the
roofline is the least time by the measured peak and bandwidths (:mod:`omniconv.bench.roofline`) over that of our faster
layout: by multiply-adds or by one reading of both operands and one writing of the result.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from omniconv.bench.interleave import interleave
from omniconv.bench.machine import describe_machine, keep_freed_memory
from omniconv.bench.roofline import Roofline, measure_roofline
from omniconv.gradients import compile_forward, compile_input_gradient, compile_weight_gradient
from omniconv.spec import Conv, Shape

LAYERS: Final = {
    "depthwise 3x3": (Conv.of(128, 128, 3, padding=1, groups=128), (56, 56)),
    "depthwise 3x3 stride 2": (Conv.of(128, 128, 3, padding=1, stride=2, groups=128), (56, 56)),
    "depthwise 7x7": (Conv.of(128, 128, 7, padding=3, groups=128), (56, 56)),
    "depthwise 3x3 dilation 2": (Conv.of(128, 128, 3, padding=2, dilation=2, groups=128), (56, 56)),
    "depthwise transposed 4x4 stride 2": (
        Conv.of(128, 128, 4, padding=1, stride=2, groups=128, transposed=True),
        (28, 28),
    ),
    "depthwise 1-D k9": (Conv.of(128, 128, 9, dims=1, padding=4, groups=128), (3136,)),
    "depthwise 3-D 3x3x3": (Conv.of(32, 32, 3, dims=3, padding=1, groups=32), (8, 28, 28)),
    "grouped 3x3, 4 a group": (Conv.of(128, 128, 3, padding=1, groups=32), (56, 56)),
    "dense 3x3": (Conv.of(128, 128, 3, padding=1), (56, 56)),
    "pointwise": (Conv.of(128, 128, 1), (56, 56)),
}
"""Layers and the sizes of their inputs."""
PASSES: Final = {"forward": ("x", "w", "dy"), "input": ("dy", "w", "x"), "weight": ("x", "dy", "w")}
"""What each pass reads, and what has the size of its result."""
TOLERANCE: Final = 2e-4
"""Largest difference from PyTorch's result, in parts of the largest number in it."""
REPORT: Final = Path("build/bench/gradients.json")

Call = Callable[[], Any]


def ours(kind: str, spec: Conv, shape: Shape, layout: str, threads: int, arrays: dict[str, Any]) -> Call:
    """Our call of one pass, on arrays channels first."""
    if kind == "forward":
        f = compile_forward(spec, shape, bias=False, layout=layout, threads=threads)
    elif kind == "input":
        f = compile_input_gradient(spec, shape, layout=layout, threads=threads)
    else:
        f = compile_weight_gradient(spec, shape, bias=False, layout=layout, threads=threads)
    names = PASSES[kind][:2]
    given = {name: _arrange(arrays[name], layout if name != "w" else "NCHW") for name in names}
    (result,) = f.outputs

    def call() -> Any:
        return f.run(given)[result]

    return call


def theirs(kind: str, spec: Conv, layout: str, arrays: dict[str, Any]) -> Call:
    """PyTorch's call of one pass."""
    formats = {3: torch.contiguous_format, 4: torch.channels_last, 5: torch.channels_last_3d}
    tensors = {}
    for name, value in arrays.items():
        tensor = torch.from_numpy(value)
        order = formats[value.ndim] if layout == "NHWC" else torch.contiguous_format
        tensors[name] = tensor.contiguous(memory_format=order)
    pads = [axis.padding[0] for axis in spec.axes()]
    common = [list(spec.stride), pads, list(spec.dilation), spec.transposed, [0] * spec.dims, spec.groups]
    x, w, dy = (tensors[name] for name in ("x", "w", "dy"))
    if kind == "forward":
        return lambda: torch.ops.aten.convolution(x, w, None, *common)
    mask = [kind == "input", kind == "weight", False]
    return lambda: torch.ops.aten.convolution_backward(dy, x, w, None, *common, mask)[0 if kind == "input" else 1]


def _arrange(array: Any, layout: str) -> Any:
    return np.ascontiguousarray(np.moveaxis(array, 1, -1)) if layout == "NHWC" else array


def measure(title: str, kind: str, limits: Roofline, rounds: int, batch: int) -> dict[str, Any]:
    """One pass of one layer in all ways, on as many threads as the limits are of."""
    threads = limits.threads
    spec, sizes = LAYERS[title]
    shape = (batch, spec.in_channels, *sizes)
    rng = np.random.default_rng(0)
    sizes_of = {"x": shape, "w": spec.weight_shape, "dy": spec.output_shape(shape)}
    arrays = {name: rng.standard_normal(size).astype(np.float32) for name, size in sizes_of.items()}
    layouts = ("NCHW", "NHWC")
    calls = {f"ours {layout}": ours(kind, spec, shape, layout, threads, arrays) for layout in layouts}
    # PyTorch has no layout of channels last for one axis.
    calls |= {f"torch {each}": theirs(kind, spec, each, arrays) for each in layouts[: 1 if spec.dims == 1 else 2]}
    torch.set_num_threads(threads)
    with torch.no_grad():
        expected = calls["torch NCHW"]().numpy()
        for layout in layouts:
            got = calls[f"ours {layout}"]()
            got = np.moveaxis(got, -1, 1) if layout == "NHWC" and kind != "weight" else got
            off = float(np.abs(got - expected).max() / np.abs(expected).max())
            if not off <= TOLERANCE:
                raise SystemExit(f"{title}, {kind}, {layout}: off by {off}")
        timings = interleave(calls, rounds=rounds, seconds=0, warm_up=1, settle=0.1 if threads > 1 else 0.0)
    times = {name: timing.median for name, timing in timings.items()}
    best = min(time for name, time in times.items() if name.startswith("torch"))
    mine = [times[f"ours {layout}"] for layout in layouts]
    flops = 2 * spec.count_macs(shape)
    *read, written = (arrays[name].nbytes for name in PASSES[kind])
    bound = limits.bound(flops, sum(read), written)
    return {
        "layer": title,
        "pass": kind,
        "threads": threads,
        "batch": batch,
        "milliseconds": {name: time * 1e3 for name, time in times.items()},
        "gflops": flops / min(mine) * 1e-9,
        "roofline_share": bound.seconds / min(mine),
        "limiter": bound.limiter,
        "ratio": best / min(mine),
        "ratio_slower_layout": best / max(mine),
    }


def main(arguments: list[str]) -> int:
    """Measure, print, write a report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--only", nargs="+", default=[""], help="layers whose title has one of these words")
    parser.add_argument("--passes", nargs="+", default=list(PASSES), choices=list(PASSES))
    options = parser.parse_args(arguments)
    keep_freed_memory()
    records = []
    for threads in options.threads:
        limits = measure_roofline(threads=threads)
        for title in LAYERS:
            if any(word in title for word in options.only):
                for kind in options.passes:
                    found = measure(title, kind, limits, options.rounds, options.batch)
                    records.append(found)
                    times = ", ".join(f"{name} {time:.2f}" for name, time in found["milliseconds"].items())
                    share = f"{found['roofline_share']:.0%} of the roofline ({found['limiter']})"
                    print(
                        f"{threads} threads  {title}, {kind}: {times} ms; {found['gflops']:.0f} GFLOP/s, {share}; "
                        f"ratio {found['ratio']:.2f}, slower layout {found['ratio_slower_layout']:.2f}",
                        flush=True,
                    )
        mine = [each for each in records if each["threads"] == threads]
        for key in ("ratio", "ratio_slower_layout"):
            mean = math.exp(sum(math.log(each[key]) for each in mine) / len(mine))
            print(f"{threads} threads  geometric mean, {key}: {mean:.2f}")
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    REPORT.write_text(json.dumps({"machine": describe_machine(max(options.threads)), "layers": records}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
