"""Measure what each form of filtering costs beside its time: error and its bound, compile time, memory.

``OMNICONV_CACHE=off PYTHONPATH=.:src bench/filtered_forms.py``: layers of 64 channels, normally distributed inputs and
weights, channels last, one thread; a row for every form that ``accuracy="wide"`` allows, and one for the direct sum.
Errors and the bound of docs/guide/numerics.md are the largest over all outputs, beside the root mean square of the
result. Compile times are from the specification to code that is ready, transformed weights with it.
"""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Final

import numpy as np

from omniconv.compiler.kernels.winograd.blocks import BlockGrid
from omniconv.compiler.kernels.winograd.slabs import list_slabs
from omniconv.compiler.planning.options import Options
from omniconv.compiler.problem.problem import Problem
from omniconv.compiler.problem.tuning import Tuning
from omniconv.program.from_spec import program_of
from omniconv.reference import error_bound, random_weights, reference
from omniconv.runtime.executable import Executable
from omniconv.spec import Conv, Shape
from omniconv.target.model import Target
from omniconv.target.select import select_target

LAYERS: Final = {
    "2x2": (Conv.of(64, 64, 2), (1, 64, 29, 29)),
    "3x3": (Conv.of(64, 64, 3, padding=1), (1, 64, 28, 28)),
    "4x4": (Conv.of(64, 64, 4, padding=1), (1, 64, 28, 28)),
    "5x5": (Conv.of(64, 64, 5, padding=2), (1, 64, 28, 28)),
    "3x1": (Conv.of(64, 64, (3, 1), padding=((1, 1), (0, 0))), (1, 64, 28, 28)),
    "1x7": (Conv.of(64, 64, (1, 7), padding=((0, 0), (3, 3))), (1, 64, 28, 28)),
    "3x3x3": (Conv.of(64, 64, 3, padding=1, dims=3), (1, 64, 8, 14, 14)),
    "3x3 stride 2": (Conv.of(64, 64, 3, padding=1, stride=2), (1, 64, 28, 28)),
    "5x5 stride 2": (Conv.of(64, 64, 5, padding=2, stride=2), (1, 64, 28, 28)),
    "3x3 transposed": (Conv.of(64, 64, 3, padding=1, stride=2, output_padding=1, transposed=True), (1, 64, 14, 14)),
    "4x4 transposed": (Conv.of(64, 64, 4, padding=1, stride=2, transposed=True), (1, 64, 14, 14)),
}
form_bound: Callable[..., np.ndarray[Any, Any]] = importlib.import_module("tests.registry.filtered").form_bound
"""The bound that the tests hold every form against."""


def list_ways(problem: Problem, target: Target) -> Iterator[tuple[str, BlockGrid | None]]:
    """The direct sum, and every form in the slabs that are expected to be the fastest."""
    yield "direct", None
    best: dict[str, Any] = {}
    for each in list_slabs(problem, target):
        best[each.tile.name] = min(best.get(each.tile.name, each), each, key=lambda item: item.cost)
    for name, each in best.items():
        yield name.removeprefix("winograd "), each.tile


def measure(spec: Conv, shape: Shape, target: Target) -> Iterator[str]:
    """A row of the table for every way to compute a layer."""
    rng = np.random.default_rng(0)
    x, weights = rng.standard_normal(shape, np.float32), random_weights(spec, rng)[0]
    want = reference(spec, x, weights)
    size = float(np.sqrt(np.square(want).mean()))
    problem = replace(Problem.of(spec.resolve(shape), shape), accuracy="wide")
    for name, form in list_ways(problem, target):
        tuning = None if form is None else Tuning(target, {problem.text(): form.text()})
        options = Options(threads=1, exact=form is None, accuracy=problem.accuracy, tuning=tuning)
        begun = time.perf_counter()
        layer = Executable.of(program_of(spec, shape, [weights]), target, options)
        taken = time.perf_counter() - begun
        got = layer(x)
        off = np.abs(got - want)
        bound = error_bound(spec, x, weights) if form is None else form_bound(spec, x, weights, form)
        if not (off <= bound).all():
            raise SystemExit(f"{name} exceeds its bound | {spec.text(shape)}")
        errors = (float(value) / size for value in (bound.max(), off.max(), np.sqrt(np.square(off).mean())))
        growth = "" if form is None else f"{form.growth:.1f}"
        memory = f"{layer.constant_bytes / 1024:.0f} | {layer.arena_bytes / 1024:.0f}"
        yield " | ".join((name, growth, *(f"{value:.1e}" for value in errors), f"{taken * 1e3:.0f}", memory))


def main() -> int:
    """Print the table."""
    target = select_target("native")
    tuple(measure(Conv.of(32, 32, (1, 2)), (1, 32, 9, 9), target))  # LLVM and NumPy are ready
    print("| layer | form | growth | bound | largest error | rms | compile [ms] | constants [KiB] | memory [KiB] |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for title, (spec, shape) in LAYERS.items():
        for row in measure(spec, shape, target):
            print(f"| {title} | {row} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
