"""``omniconv compile``: compile a model and keep what was compiled in a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from omniconv.cli.console import format_time, out, print_json
from omniconv.cli.model import open_model, read_inputs
from omniconv.cli.options import (
    Dtype,
    Exact,
    Json,
    Model,
    Precision,
    Shapes,
    Strict,
    Threads,
    UseTuned,
    parse_shapes,
)
from omniconv.cli.outputs import check_output
from omniconv.limits import format_size
from omniconv.runtime.network import Network
from omniconv.runtime.saved import SUFFIX


def compile(  # noqa: A001 - the name of the command
    model: Model,
    save: Annotated[
        Path | None,
        typer.Option(
            "--save", "-o", help=f"The file to write; default: the model's name with {SUFFIX}, in this folder."
        ),
    ] = None,
    shape: Shapes = None,
    threads: Threads = None,
    tuned: UseTuned = False,
    strict: Strict = False,
    exact: Exact = False,
    dtype: Dtype = "float32",
    precision: Precision = "float32",
    json: Json = False,
) -> None:
    """Compile a [bold]model[/bold] and save it, to be run without compiling: by `omniconv run`, or `omniconv.load`.

    Sizes that the model leaves open stay open, unless --shape says them: code is then compiled when it is run.
    """
    path = Path(model.name).with_suffix(SUFFIX) if save is None else save
    check_output("--save", path, (SUFFIX,), reads=model)
    inputs = read_inputs(model)
    shapes = parse_shapes(shape, [item.name for item in inputs])
    network: Any = open_model(
        model,
        shapes or {},
        threads,
        tuned=tuned,
        dtype=dtype,
        precision=precision,
        strict=strict,
        exact=exact,
    )
    network.save(path)
    size = path.stat().st_size
    is_open = isinstance(network, Network)
    report: dict[str, Any] = {
        "model": model.name,
        "saved": str(path),
        "bytes": size,
        "open_sizes": is_open,
        "threads": network.threads,
        "dtype": str(network.dtype),
        "target": str(network.target),
        "compile_seconds": None if is_open else network.compile_seconds,
        "kernels": None if is_open else network.kernels,
    }
    if json:
        print_json(report)
        return
    done = "sizes are open: code is compiled for those that it is run with"
    if not is_open:
        done = f"{network.kernels} kernels, compiled in {format_time(network.compile_seconds)}"
    out().print(f"{path}: {format_size(size)}; {done}", highlight=False, soft_wrap=True)
