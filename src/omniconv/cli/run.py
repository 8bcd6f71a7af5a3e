"""``omniconv run``: compile a model, run it once, show or save its outputs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from omniconv.cli.console import format_shape, format_time, make_table, out, print_json
from omniconv.cli.exits import UsageProblemError
from omniconv.cli.model import (
    Array,
    count,
    fix_shapes,
    list_inputs,
    load_arrays,
    load_model,
    open_model,
    random_arrays,
    read_inputs,
)
from omniconv.cli.options import Dtype, Json, Precision, Seed, Shapes, Strict, Threads, UseTuned, parse_shapes
from omniconv.cli.outputs import ARRAYS, check_output, save_arrays
from omniconv.program.element import find_element
from omniconv.runtime.executable import Executable
from omniconv.runtime.saved import is_saved


def run(
    context: typer.Context,
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="An ONNX file, or one that `omniconv compile` wrote.")],
    data: Annotated[
        Path | None, typer.Option("--input", "-i", help="A .npy or .npz file with the inputs; default: random ones.")
    ] = None,
    shape: Shapes = None,
    seed: Seed = 0,
    save: Annotated[Path | None, typer.Option("--save", "-o", help="Write the outputs to this .npz file.")] = None,
    threads: Threads = None,
    tuned: UseTuned = False,
    strict: Strict = False,
    dtype: Dtype = "float32",
    precision: Precision = "float32",
    json: Json = False,
) -> None:
    """Compile a [bold]model[/bold] or load a saved one, run it once and show or save its outputs.

    Sizes that the model leaves open come from --shape, or from the file with the inputs; a batch is 1 by default.
    """
    check_output("--save", save, ARRAYS, reads=data)
    loaded: Any = None
    if is_saved(model):
        refuse_given(context, model, ("threads", "tuned", "strict", "dtype", "precision"))
        loaded = load_model(model)
        inputs, element, threads = list_inputs(loaded), find_element(loaded.dtype), loaded.threads
    else:
        inputs, element = read_inputs(model), find_element(dtype)
    given = parse_shapes(shape, [item.name for item in inputs]) or {}
    arrays = None if data is None else load_arrays(data, inputs, element.dtype)
    if arrays is not None:
        found = {name: array.shape for name, array in arrays.items()}
        for name, size in given.items():
            if size != found[name]:
                raise UsageProblemError(f"--shape {name}: {size}, and {data} has {found[name]}; need one of them")
        given = found
    shapes = fix_shapes(inputs, given)
    network = loaded or open_model(model, shapes, threads, tuned=tuned, dtype=dtype, precision=precision, strict=strict)
    if arrays is None:
        arrays = random_arrays(inputs, shapes, seed, network.dtypes)
    network.run(arrays)
    start = time.perf_counter()
    outputs = network.run(arrays)
    seconds = time.perf_counter() - start
    if save is not None:
        save_arrays(save, outputs)
    report: dict[str, Any] = {
        "model": model.name,
        "inputs": {name: list(array.shape) for name, array in arrays.items()},
        "input_source": str(data) if data is not None else f"random, seed {seed}",
        "outputs": {name: summarise(value) for name, value in outputs.items()},
        "threads": network.threads,
        "threads_why": network.threads_why,
        "dtype": str(element),
        "target": str(network.target),
        "compile_seconds": network.compile_seconds,
        "kernels": count(network.kernels),
        "cached_kernels": count(network.cached_kernels),
        "run_seconds": seconds,
        "saved": None if save is None else str(save),
    }
    if json:
        print_json(report)
        return
    columns = ("output", "shape", "min", "mean", "max", "not finite", "first values")
    rows = []
    for name, item in report["outputs"].items():
        numbers = [f"{item[key]:.5g}" for key in ("min", "mean", "max")]
        first = " ".join(f"{value:.4g}" for value in item["first"])
        rows.append((name, format_shape(item["shape"]), *numbers, item["not_finite"], first))
    console = out()
    console.print(make_table(model.name, columns, rows))
    made = f"compiled in {format_time(network.compile_seconds)}"
    made += f", {report['cached_kernels']} of {report['kernels']} kernels cached"
    if isinstance(loaded, Executable) and report["cached_kernels"] == report["kernels"]:
        made = f"loaded in {format_time(network.compile_seconds)}"
    console.print(f"{format_time(seconds)} on {network.describe_threads()}, {network.target}; {made}")
    if save is not None:
        console.print(f"outputs written to {save}", highlight=False, soft_wrap=True)


def refuse_given(context: typer.Context, path: Path, names: Sequence[str]) -> None:
    """Refuse options that a saved network has decided already.

    Raises:
        UsageProblemError: one that was given.
    """
    for name in names:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            raise UsageProblemError(f"--{name} belongs to compiling, and {path} is compiled; need it left out")


def summarise(value: Array) -> dict[str, Any]:
    """Shape, range and first values of an output."""
    finite = value[np.isfinite(value)]
    return {
        "shape": list(value.shape),
        "dtype": str(value.dtype),
        "min": float(finite.min()) if finite.size else float("nan"),
        "mean": float(finite.mean(dtype=np.float64)) if finite.size else float("nan"),
        "max": float(finite.max()) if finite.size else float("nan"),
        "not_finite": int(value.size - finite.size),
        "first": [float(item) for item in value.ravel()[:4]],
    }
