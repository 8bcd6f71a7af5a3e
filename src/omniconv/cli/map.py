"""``omniconv map``: run a model over many images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import typer

from omniconv.cli.console import format_time, out, print_json
from omniconv.cli.exits import Exit
from omniconv.cli.options import Cluster, Dtype, Exact, Json, Model, Output, TileThreads
from omniconv.cli.scaling import Deviation, Mean, Multiply, read_scaling
from omniconv.mapping import map as run_map


def map(  # noqa: A001 - the name of the command
    model: Model,
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="A folder, a file, or a pattern in quotes.", show_default=False)
    ],
    folder: Annotated[Path, typer.Argument(metavar="OUT", help="The folder of the results.", show_default=False)],
    suffix: Annotated[
        str, typer.Option("--suffix", help="How results are written: .npy, .npz, .zarr, .tif, .png.")
    ] = ".npy",
    pattern: Annotated[str | None, typer.Option("--pattern", help='Files to take, such as "*.png".')] = None,
    axes: Annotated[str | None, typer.Option("--axes", help="A letter for each axis of an array, e.g. YXC.")] = None,
    scale: Multiply = 1.0,
    mean: Mean = "0",
    std: Deviation = "1",
    labels: Annotated[bool, typer.Option("--labels", help="Write the channel that is largest, in 8 bits.")] = False,
    output: Output = None,
    batch: Annotated[int, typer.Option("--batch", min=1, help="Most images of one shape computed together.")] = 8,
    memory: Annotated[str, typer.Option("--memory", "-m", help="What all of it may take, e.g. 500M.")] = "2GB",
    resume: Annotated[
        bool, typer.Option("--resume/--restart", help="Leave out what is finished, or compute all anew.")
    ] = True,
    strict: Annotated[bool, typer.Option("--raise", help="Stop at the first image that fails.")] = False,
    exact: Exact = False,
    threads: TileThreads = None,
    dtype: Dtype = "float32",
    cluster: Cluster = None,
    json: Json = False,
) -> None:
    """Run a [bold]model[/bold] over many images of mixed sizes: those of a folder, into another.

    Images that fail are skipped, listed at the end, and make the exit code 3. A run that was stopped goes on.
    """
    prepare = read_scaling(scale, mean, std)
    report = run_map(
        str(model),
        source,
        folder,
        suffix=suffix,
        pattern=pattern,
        axes=axes,
        preprocess=prepare,
        postprocess=label if labels else None,
        output=output,
        batch=batch,
        memory=memory,
        errors="raise" if strict else "skip",
        resume=resume,
        threads=threads,
        exact=exact,
        dtype=dtype,
        cluster=cluster or False,
    )
    if json:
        print_json({"model": model.name, "out": str(folder), **report.to_dict()})
    else:
        console = out()
        console.print(str(report), markup=False, highlight=False, soft_wrap=True)
        time = format_time(report.seconds)
        console.print(f"written to {folder} in {time}", markup=False, highlight=False, soft_wrap=True)
    if report.failed:
        raise typer.Exit(int(Exit.BAD_INPUT))


def label(y: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The channel that is largest.

    Raises:
        ValueError: more channels than 8 bits hold.
    """
    if y.ndim < 1 or y.shape[0] > 256:
        raise ValueError(f"labels of a result of shape {y.shape}; need at most 256 channels")
    return np.asarray(y.argmax(0), np.uint8)
