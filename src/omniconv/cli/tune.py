"""``omniconv tune``: measure which tiles are fastest on this machine, and keep them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from omniconv.bench.corpus import geometric_mean
from omniconv.bench.isolate import Site
from omniconv.bench.machine import describe_machine, keep_freed_memory
from omniconv.bench.sources import read_cases
from omniconv.bench.tuning import LEAST_GAIN, Tuned, collect_sites, programs_of, select_choices, tune_sites
from omniconv.cli.console import advance, format_time, make_table, out, print_json, progress
from omniconv.cli.exits import Exit, UsageProblemError
from omniconv.cli.model import fix_shapes, read_inputs
from omniconv.cli.options import EqualThreads, Json, Seed, Shapes, equal_threads, parse_shapes
from omniconv.compiler.code.cache import VARIABLE
from omniconv.compiler.planning.tuning_store import TuningStore, open_tuning
from omniconv.errors import ModelError
from omniconv.integers import say_count
from omniconv.program.program import Program
from omniconv.target.model import Target
from omniconv.target.select import select_target

NOTE: Final = (
    f"a choice is kept if the default takes {LEAST_GAIN:g} times as long and the quartiles of both lie apart, in a "
    "comparison after the one it was found in"
)


def tune(
    source: Annotated[
        Path, typer.Argument(metavar="SOURCE", help="An ONNX file, a .txt file of problem lines, or a folder of those.")
    ],
    shape: Shapes = None,
    only: Annotated[
        str,
        typer.Option(
            "--only",
            metavar="REGEX",
            help="Only problems whose line, comment, kind or file matches; of a model, layers.",
        ),
    ] = "",
    target: Annotated[str | None, typer.Option("--target", help="Instruction set, e.g. x86-64-v3.")] = None,
    seconds: Annotated[
        float | None, typer.Option("--seconds", min=0.0, help="Begin no further problem after so long.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List the problems; measure and keep nothing.")] = False,
    seed: Seed = 0,
    threads: EqualThreads = None,
    json: Json = False,
) -> None:
    """Find the fastest tiles for every convolution of [bold]layers or a model[/bold], by measuring on this machine.

    What is faster than the default is kept beside the compiled code, and used by --tuned and by compile(tuned=True).
    Results are verified against the default's; exit code 4 if any disagrees.
    """
    if not source.exists():
        raise ModelError(f"{source} is missing", need="an ONNX file, a .txt file of problem lines or a folder of those")
    threads = equal_threads(threads)
    try:
        pattern = re.compile(only)
    except re.error as error:
        raise UsageProblemError(f"--only {only!r} is no regular expression: {error}") from None
    of_problems = source.is_dir() or source.suffix == ".txt"
    if of_problems and shape:
        raise UsageProblemError(f"--shape belongs to models; the lines of {source} have their sizes")
    chosen = select_target(target)
    store = open_tuning(chosen)
    if store is None and not dry_run:
        raise UsageProblemError(f"{VARIABLE} switches off what results are kept in; need a folder, or --dry-run")
    if of_problems:
        sites = collect_sites(programs_of(read_cases(source, only), seed), chosen, "NHWC")
    else:
        found = collect_sites([read_program(source, shape)], chosen, "NCHW")
        sites = [site for site in found if any(map(pattern.search, (site.layer, site.name)))]
    if not sites:
        raise UsageProblemError(f"--only {only!r} matches no convolution of {source}" if only else f"{source} has none")
    report: dict[str, Any] = {
        "machine": describe_machine(threads),
        "target": str(chosen),
        "threads": threads,
        "problems": len(sites),
        "folder": None if store is None else str(store.folder),
    }
    if dry_run:
        show_plan(sites, chosen, report, json=json)
        return
    assert store is not None
    keep_freed_memory()
    results = run_search(sites, chosen, store, threads=threads, seed=seed, seconds=seconds)
    report |= {
        "left_out": len(sites) - len(results),
        "kept": sum(item.kept for item in results),
        "gain_geometric_mean": geometric_mean(item.gain for item in results),
        "results": [item.as_dict() for item in results],
    }
    if json:
        print_json(report)
    else:
        show_results(source.name, results, report)
    if any(item.wrong for item in results):
        raise typer.Exit(int(Exit.DISAGREEMENT))


def read_program(path: Path, shape: Sequence[str] | None) -> Program:
    """The program of a model."""
    from omniconv.graph import to_program

    inputs = read_inputs(path)
    shapes = fix_shapes(inputs, parse_shapes(shape, [item.name for item in inputs]))
    with progress(f"reading {path.name}"):
        return to_program(str(path), shapes=shapes)


def run_search(sites: Sequence[Site], target: Target, store: TuningStore, **options: Any) -> list[Tuned]:
    """Search for each problem, and keep or forget its choice at once, so that an interrupt loses little."""
    found = []
    with progress("tuning") as bar:

        def show(site: Site, share: float) -> None:
            advance(bar, share)
            bar.update(bar.task_ids[0], description=site.layer[:60])

        for item in tune_sites(sites, target, on_site=show, **options):
            problem = item.site.problem.text()
            if item.kept:
                store.put(
                    problem,
                    item.best,
                    item.site.default,
                    gain=item.gain,
                    layer=item.site.layer,
                    threads=options["threads"],
                )
            else:
                store.remove(problem)
            found.append(item)
    return found


def show_plan(sites: Iterable[Site], target: Target, report: dict[str, Any], *, json: bool) -> None:
    """What a search would try."""
    rows = [(site.layer, site.default, len(select_choices(site, target))) for site in sites]
    if json:
        names = ("layer", "default", "choices")
        print_json({**report, "results": [dict(zip(names, row, strict=True)) for row in rows]})
        return
    out().print(make_table("", ("layer", "default", "choices"), rows, left=2))


def show_results(name: str, results: Sequence[Tuned], report: dict[str, Any]) -> None:
    """Print the gain of each problem, and of all together."""
    console = out()
    rows = [
        (
            item.site.layer,
            item.site.default,
            item.best if item.kept else "",
            format_time(item.seconds),
            item.tried,
            f"{item.gain:.2f}" + (" DISAGREES: " + "; ".join(item.wrong) if item.wrong else ""),
        )
        for item in results
    ]
    columns = ("layer", "default", "faster", "default takes", "tried", "gain")
    console.print(make_table(name, columns, rows, left=3))
    console.print(
        f"geometric mean of the gains {report['gain_geometric_mean']:.3f} over {say_count(len(results), 'problem')}; "
        f"{say_count(report['kept'], 'choice')} kept in {report['folder']}",
        highlight=False,
        soft_wrap=True,
    )
    if report["left_out"]:
        console.print(f"{say_count(report['left_out'], 'problem')} left out for lack of time", highlight=False)
    console.print(NOTE, style="dim")
