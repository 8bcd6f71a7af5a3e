"""``omniconv bench``: Omniconv and the other installed runtimes, verified and timed in turns."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from omniconv.bench.compare import DEFAULT_TOLERANCE, OURS, Comparison, compare
from omniconv.bench.cost import count_macs
from omniconv.bench.interleave import DEFAULT_ROUNDS, DEFAULT_SECONDS
from omniconv.bench.machine import describe_machine
from omniconv.bench.peers import MODULES, Call, Peer, installed_peers, missing_peers
from omniconv.bench.sources import model_workload, problem_workload, read_corpus
from omniconv.bench.workload import Workload
from omniconv.cli.console import advance, format_time, make_table, out, print_json, progress, write_json
from omniconv.cli.exits import Exit, UsageProblemError
from omniconv.cli.model import fix_shapes, open_model, random_arrays, read_inputs
from omniconv.cli.options import Json, Seed, Shapes, Threads, parse_shapes
from omniconv.errors import ModelError

NOTES = (
    "ratio = median of the peer / median of Omniconv: above 1, Omniconv is faster",
    "each timed call follows an untimed one of the same runtime, with several threads after a pause of 5 ms",
    "the order of the runtimes rotates from round to round; their worker threads spin as they do by default",
)


def bench(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="An ONNX file, or a .txt file of problem lines.")],
    shape: Shapes = None,
    peer: Annotated[
        list[str] | None, typer.Option("--peer", help=f"Only this peer ({', '.join(MODULES)}); may be repeated.")
    ] = None,
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="Least number of rounds.")] = DEFAULT_ROUNDS,
    seconds: Annotated[float, typer.Option("--seconds", min=0.0, help="Least time measuring.")] = DEFAULT_SECONDS,
    tolerance: Annotated[
        float, typer.Option("--tolerance", min=0.0, help="Largest difference, relative to the largest output.")
    ] = DEFAULT_TOLERANCE,
    seed: Seed = 0,
    save: Annotated[Path | None, typer.Option("--save", "-o", help="Write the report to this JSON file.")] = None,
    threads: Threads = 1,
    json: Json = False,
) -> None:
    """Time a [bold]model[/bold] against every other runtime that is installed.

    All get the same input and the same number of threads. Outputs are compared first; then the runtimes are called in
    turns in one process, and medians are compared. Exit code 4 if any output disagrees.
    """
    unknown = sorted(set(peer or ()) - set(MODULES))
    if unknown:
        raise UsageProblemError(f"--peer {unknown[0]} is unknown; need one of {', '.join(MODULES)}")
    if not model.is_file():
        raise ModelError(f"{model} is not a file", need="an ONNX file, or a .txt file of problem lines")
    peers = list(installed_peers(peer))
    settings: dict[str, Any] = {"threads": threads, "rounds": rounds, "seconds": seconds, "tolerance": tolerance}
    if model.suffix == ".txt":
        found = list(bench_corpus(model, peers, seed=seed, **settings))
    else:
        found = [bench_model(model, shape, peers, seed=seed, **settings)]
    report = {
        "protocol": {**settings, "seed": seed, "notes": NOTES},
        "machine": describe_machine(threads),
        "not_installed": missing_peers(peer),
        "results": [item.as_dict() for item in found],
    }
    if save is not None:
        write_json(save, report)
    if json:
        print_json(report)
    else:
        show(model.name, found, report, save)
    if not all(item.agrees for item in found):
        raise typer.Exit(int(Exit.DISAGREEMENT))


def bench_model(
    path: Path, shape: Sequence[str] | None, peers: Sequence[Peer], *, seed: int, threads: int, **settings: Any
) -> Comparison:
    """Compare the contenders on one model."""
    inputs = read_inputs(path)
    shapes = fix_shapes(inputs, parse_shapes(shape, [item.name for item in inputs]))
    start = time.perf_counter()
    network = open_model(path, shapes, threads)
    load_seconds = time.perf_counter() - start
    arrays = random_arrays(inputs, shapes, seed)
    macs = sum(layer.macs for layer in network.layers)
    with progress(f"measuring {path.name}") as bar:
        found = compare(
            model_workload(path, arrays),
            lambda: lambda: list(network.run(arrays).values()),
            peers,
            threads=threads,
            macs=macs,
            on_round=lambda _, share: advance(bar, share),
            **settings,
        )
    return replace(found, load_seconds=load_seconds)


def bench_corpus(
    path: Path, peers: Sequence[Peer], *, seed: int, threads: int, **settings: Any
) -> Iterator[Comparison]:
    """Compare the contenders on every problem of a corpus."""
    from omniconv.api import compile as compile_spec

    problems = list(read_corpus(path))
    with progress(path.name) as bar:
        for index, (line, spec, shape, comment) in enumerate(problems):
            workload = problem_workload(line, spec, shape, seed, comment)
            x = workload.inputs["x"]

            def load(workload: Workload = workload, x: Any = x) -> Call:
                compiled = compile_spec(workload.spec, x.shape, workload.weights, threads=threads)
                return lambda: [compiled(x)]

            advance(bar, index / len(problems))
            bar.update(bar.task_ids[0], description=comment or line[:60])
            yield compare(workload, load, peers, threads=threads, macs=count_macs(spec, shape), **settings)


def show(name: str, found: Sequence[Comparison], report: dict[str, Any], save: Path | None) -> None:
    """Print the comparison as a table."""
    console = out()
    columns = ("workload", "runtime", "median", "spread", "GFLOP/s", "ratio", "max |difference|")
    rows: list[tuple[str, ...]] = []
    for item in found:
        rate = f"{2e-9 * item.macs / item.ours.median:.1f}" if item.macs else ""
        rows.append(
            (item.title or item.name, OURS, format_time(item.ours.median), f"{item.ours.spread:.0%}", rate, "", "")
        )
        for peer in item.peers:
            if peer.timing is None:
                rows.append(("", peer.name, "not run", "", "", "", peer.reason))
                continue
            rate = f"{2e-9 * item.macs / peer.timing.median:.1f}" if item.macs else ""
            verdict = f"{peer.difference:.1e}" + ("" if peer.agrees else " DISAGREES")
            ratio = f"{peer.timing.median / item.ours.median:.2f}"
            spread = f"{peer.timing.spread:.0%}"
            rows.append(
                ("", f"{peer.name} {peer.version}", format_time(peer.timing.median), spread, rate, ratio, verdict)
            )
    console.print(make_table(name, columns, rows, left=2))
    machine = report["machine"]
    console.print(f"{machine['cpu']}, {machine['threads']} thread(s), commit {machine['commit'] or 'unknown'}")
    for note in NOTES:
        console.print(note, style="dim")
    if report["not_installed"]:
        console.print(f"not installed: {', '.join(report['not_installed'])}", style="dim")
    if save is not None:
        console.print(f"report written to {save}", highlight=False, soft_wrap=True)
