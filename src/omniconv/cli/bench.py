"""``omniconv bench``: Omniconv and the other installed runtimes, verified and timed in turns."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from omniconv.bench.compare import OURS, Comparison, Contender, compare
from omniconv.bench.compilation import measure_compilation
from omniconv.bench.corpus import (
    CORPUS_PATIENCE,
    CORPUS_ROUNDS,
    CORPUS_TURN,
    QUICK_PATIENCE,
    QUICK_ROUNDS,
    QUICK_TURN,
    Measured,
    add_compilations,
    measure_case,
    summarise,
)
from omniconv.bench.interleave import DEFAULT_ROUNDS, DEFAULT_SECONDS
from omniconv.bench.machine import describe_machine, keep_freed_memory
from omniconv.bench.peers import MODULES, Peer, installed_peers, missing_peers
from omniconv.bench.precision import FLOAT32, INT8, PRECISIONS, TOLERANCES
from omniconv.bench.roofline import Roofline, measure_roofline
from omniconv.bench.sources import Case, model_workload, read_cases
from omniconv.cli.console import advance, out, print_json, progress, write_json
from omniconv.cli.corpus_table import NOTES as CORPUS_NOTES
from omniconv.cli.corpus_table import show_corpus, show_summary
from omniconv.cli.exits import Exit, UsageProblemError
from omniconv.cli.model import fix_shapes, open_model, random_arrays, read_inputs
from omniconv.cli.model_table import show_models
from omniconv.cli.options import EqualThreads, Json, Seed, Shapes, Strict, UseTuned, equal_threads, parse_shapes
from omniconv.cli.outputs import PICTURES, REPORTS, check_output
from omniconv.errors import ModelError

NOTES: Final = (
    "ratio = median of the peer / median of Omniconv: above 1, Omniconv is faster",
    "each timed call follows an untimed one of the same runtime, with several threads once all others sleep",
    "the order of the runtimes rotates from round to round; their worker threads spin as they do by default",
)


def bench(
    source: Annotated[
        Path, typer.Argument(metavar="SOURCE", help="An ONNX file, a .txt file of problem lines, or a folder of those.")
    ],
    shape: Shapes = None,
    peer: Annotated[
        list[str] | None, typer.Option("--peer", help=f"Only this peer ({', '.join(MODULES)}); may be repeated.")
    ] = None,
    only: Annotated[
        str, typer.Option("--only", metavar="REGEX", help="Only problems whose line, comment, kind or file matches.")
    ] = "",
    target: Annotated[
        str | None, typer.Option("--target", help="Instruction set for Omniconv, e.g. x86-64-v3; peers keep theirs.")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Problems: fewer, shorter rounds, no compile times, no slow peers.")
    ] = False,
    rounds: Annotated[
        int | None,
        typer.Option(
            "--rounds", min=1, help=f"Least rounds. [dim]\\[{DEFAULT_ROUNDS}; problems {CORPUS_ROUNDS}][/dim]"
        ),
    ] = None,
    seconds: Annotated[
        float | None,
        typer.Option("--seconds", min=0.0, help=f"Least time a workload. [dim]\\[{DEFAULT_SECONDS}; problems 0][/dim]"),
    ] = None,
    tolerance: Annotated[
        float | None,
        typer.Option(
            "--tolerance",
            min=0.0,
            help="Largest difference, relative to the largest output.",
            show_default="1e-4; 0.02 in other types",
        ),
    ] = None,
    precision: Annotated[
        str,
        typer.Option(
            "--precision",
            metavar="TYPE",
            help="What all contenders compute in: float32, bfloat16, or int8 (quantised here, weights of 7 bits).",
        ),
    ] = FLOAT32,
    seed: Seed = 0,
    save: Annotated[Path | None, typer.Option("--save", "-o", help="Write the report to this .json file.")] = None,
    picture: Annotated[
        Path | None, typer.Option("--picture", help="Problems: draw the results into this .png or .svg file.")
    ] = None,
    details: Annotated[bool, typer.Option("--details", help="Problems: a line for every contender.")] = False,
    threads: EqualThreads = None,
    tuned: UseTuned = False,
    strict: Strict = False,
    json: Json = False,
) -> None:
    """Time [bold]layers or a model[/bold] against every other runtime that is installed.

    All get the same input and the same number of threads, by default as many as there are cores. Outputs are compared
    first; then the runtimes are called in turns in one process, and medians are compared. Exit code 4 if any output
    disagrees.
    """
    threads = equal_threads(threads)
    if precision not in PRECISIONS:
        raise UsageProblemError(f"--precision {precision!r} is unknown; need one of {', '.join(PRECISIONS)}")
    tolerance = TOLERANCES[precision] if tolerance is None else tolerance
    unknown = sorted(set(peer or ()) - set(MODULES))
    if unknown:
        raise UsageProblemError(f"--peer {unknown[0]} is unknown; need one of {', '.join(MODULES)}")
    if not source.exists():
        raise ModelError(f"{source} is missing", need="an ONNX file, a .txt file of problem lines or a folder of those")
    check_output("--save", save, REPORTS)
    check_output("--picture", picture, PICTURES, ["matplotlib"], "bench")
    of_problems = source.is_dir() or source.suffix == ".txt"
    if of_problems and shape:
        raise UsageProblemError(f"--shape belongs to models; the lines of {source} have their sizes")
    idle = {"--picture": picture, "--only": only, "--target": target, "--quick": quick, "--details": details}
    if of_problems and strict:
        raise UsageProblemError(f"--strict belongs to models; the lines of {source} are compiled as a whole")
    for option, value in idle.items():
        if value and not of_problems:
            raise UsageProblemError(f"{option} belongs to problems; need a .txt file of problem lines, or a folder")
    try:
        re.compile(only)
    except re.error as error:
        raise UsageProblemError(f"--only {only!r} is no regular expression: {error}") from None
    protocol: dict[str, Any] = {"threads": threads, "tolerance": tolerance, "seed": seed, "tuned": tuned}
    protocol["precision"] = precision
    protocol["freed_memory_is_kept"] = keep_freed_memory()
    report: dict[str, Any] = {
        "protocol": protocol,
        "machine": describe_machine(threads),
        "not_installed": missing_peers(peer),
    }
    if of_problems:
        cases = list(read_cases(source, only, precision))
        if not cases:
            raise UsageProblemError(f"no problem of {source} is in {precision} and matches --only {only!r}")
        timing = corpus_timing(quick, rounds, seconds)
        protocol |= {**timing, "target": target, "notes": CORPUS_NOTES}
        found, roofline = bench_cases(
            cases,
            peer,
            quick=quick,
            threads=threads,
            target=target,
            tuned=tuned,
            seed=seed,
            tolerance=tolerance,
            precision=precision,
            **timing,
        )
        report |= describe_corpus(found, roofline)
        agrees = all(item.comparison.agrees for item in found)
        if picture is not None:
            from omniconv.bench.picture import draw_corpus

            draw_corpus(found, roofline, report["machine"], picture)
        if not json:
            show_corpus(out(), found, details=details)
            show_summary(out(), found, roofline, report)
            show_end(CORPUS_NOTES, report, save, picture)
    else:
        timing = {
            "rounds": DEFAULT_ROUNDS if rounds is None else rounds,
            "seconds": DEFAULT_SECONDS if seconds is None else seconds,
        }
        protocol |= {**timing, "notes": NOTES}
        peers = list(installed_peers(peer))
        model = bench_model(
            source,
            shape,
            peers,
            seed=seed,
            threads=threads,
            tuned=tuned,
            strict=strict,
            precision=precision,
            tolerance=tolerance,
            **timing,
        )
        report["results"] = [model.as_dict()]
        agrees = model.agrees
        if not json:
            show_models(source.name, [model], report)
            show_end(NOTES, report, save)
    if save is not None:
        write_json(save, report)
    if json:
        print_json(report)
    if not agrees:
        raise typer.Exit(int(Exit.DISAGREEMENT))


def corpus_timing(quick: bool, rounds: int | None, seconds: float | None) -> dict[str, Any]:
    """Settings of the measurement of single layers: short turns, so that a corpus takes a minute."""
    default, turn, patience = (
        (QUICK_ROUNDS, QUICK_TURN, QUICK_PATIENCE) if quick else (CORPUS_ROUNDS, CORPUS_TURN, CORPUS_PATIENCE)
    )
    return {
        "rounds": default if rounds is None else rounds,
        "seconds": seconds or 0.0,
        "turn": turn,
        "patience": patience,
        "drop_laggards": True,
    }


def bench_model(
    path: Path,
    shape: Sequence[str] | None,
    peers: Sequence[Peer],
    *,
    seed: int,
    threads: int,
    tuned: bool = False,
    strict: bool = False,
    precision: str = FLOAT32,
    **settings: Any,
) -> Comparison:
    """Compare the contenders on one model."""
    inputs = read_inputs(path)
    shapes = fix_shapes(inputs, parse_shapes(shape, [item.name for item in inputs]))
    workload = model_workload(path, random_arrays(inputs, shapes, seed), precision)
    start = time.perf_counter()
    kept = FLOAT32 if precision == INT8 else precision
    network = open_model(path, shapes, threads, tuned=tuned, strict=strict, precision=kept, content=workload.model)
    load_seconds = time.perf_counter() - start
    arrays = dict(workload.inputs)
    macs = sum(layer.macs for layer in network.layers)
    with progress(f"measuring {path.name}") as bar:
        found = compare(
            workload,
            [Contender(OURS, lambda: lambda: list(network.run(arrays).values()))],
            peers,
            threads=threads,
            macs=macs,
            on_round=lambda _, share: advance(bar, share),
            **settings,
        )
    return replace(found, ours=tuple(replace(item, load_seconds=load_seconds) for item in found.ours))


def bench_cases(
    cases: Sequence[Case],
    names: Sequence[str] | None,
    *,
    quick: bool = False,
    threads: int = 1,
    target: str | None = None,
    precision: str = FLOAT32,
    **settings: Any,
) -> tuple[list[Measured], Roofline]:
    """Compare the contenders on every problem, in every layout that they have."""
    roofline = measure_roofline(target, threads, precision)
    peers = list(installed_peers(names, layouts=None, quick=quick))
    found = []
    with progress("problems") as bar:
        for index, case in enumerate(cases):
            advance(bar, index / len(cases))
            bar.update(bar.task_ids[0], description=case.title or case.line[:60])
            found.append(
                measure_case(case, peers, roofline, threads=threads, target=target, precision=precision, **settings)
            )
        if not quick and precision == FLOAT32:
            bar.update(bar.task_ids[0], description="compile times")
            lines = [case.line for case in cases]
            found = add_compilations(found, measure_compilation(lines, threads=threads, target=target))
    return found, roofline


def describe_corpus(found: Sequence[Measured], roofline: Roofline) -> dict[str, Any]:
    """The part of a report that is about problems."""
    return {
        "roofline": roofline.as_dict(),
        "summary": summarise(found).as_dict(),
        "results": [item.as_dict() for item in found],
    }


def show_end(notes: Sequence[str], report: dict[str, Any], save: Path | None, picture: Path | None = None) -> None:
    """What the numbers mean, who is missing, and where the files are."""
    console = out()
    for note in notes:
        console.print(note, style="dim")
    if report["not_installed"]:
        console.print(f"not installed: {', '.join(report['not_installed'])}", style="dim")
    for what, path in (("report", save), ("picture", picture)):
        if path is not None:
            console.print(f"{what} written to {path}", highlight=False, soft_wrap=True)
