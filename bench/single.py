"""What benchmarks of models of one operator share: the command line, the table, and the report.

A benchmark gives cases by title and a function that compares the contenders on one of them.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from omniconv.bench.compare import Comparison
from omniconv.bench.machine import describe_machine, keep_freed_memory

_Case = TypeVar("_Case")


def make_parser(description: str | None) -> argparse.ArgumentParser:
    """The command line: ``[--threads N ...] [--rounds N] [--seconds S]``."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--seconds", type=float, default=2.0)
    return parser


def choose_cases(
    description: str | None, known: Mapping[str, _Case], folder: Path
) -> tuple[argparse.Namespace, dict[str, _Case]]:
    """The command line of :func:`make_parser` with ``[NAME ...] [--folder DIR]``, and the cases that it names.

    Without a name these are all. The folder, where models stay, is made.
    """
    parser = make_parser(description)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(known))
    parser.add_argument("--folder", type=Path, default=folder)
    options = parser.parse_args()
    unknown = set(options.names) - set(known)
    if unknown:
        parser.error(f"no network is called {' or '.join(sorted(unknown))}; there are {', '.join(known)}")
    options.folder.mkdir(parents=True, exist_ok=True)
    return options, {title: known[title] for title in options.names or known}


def run_cases(
    options: argparse.Namespace,
    cases: Mapping[str, _Case],
    measure: Callable[[str, _Case, int, dict[str, Any]], Comparison],
    report: Path,
    key: str,
) -> int:
    """Measure all cases on every number of threads, print ratios, and write a report; 1 where outputs disagree.

    Args:
        options: what was asked for, see :func:`make_parser`.
        cases: by title.
        measure: compares the contenders on a title's case, by a number of threads and the settings of `compare`.
        report: where the figures go, as JSON, in a list by this ``key``.
    """
    keep_freed_memory()
    settings = {"rounds": options.rounds, "seconds": options.seconds}
    records, agrees = [], True
    for threads in options.threads:
        ratios = []
        for title, case in cases.items():
            found = measure(title, case, threads, settings)
            best, ours = found.best, found.our_best
            agrees = agrees and found.agrees
            if ours is None or best is None or ours.timing is None or best.timing is None:
                print(f"{threads} threads  {found.name}: no rival, or outputs that disagree")
                continue
            ratios.append(found.ratio() or math.nan)
            quick = best.timing.fastest / ours.timing.fastest
            times = ", ".join(f"{item.name} {item.median * 1e3:.3f}" for item in (ours, *found.peers))
            print(
                f"{threads} threads  {found.name}: {times} ms, {(found.rate(ours) or 0) * 1e-9:.0f} GFLOP/s; "
                f"ratio {ratios[-1]:.2f}, of the fastest rounds {quick:.2f}",
                flush=True,
            )
            records.append({"threads": threads, **found.as_dict()})
        if ratios:
            print(f"{threads} threads  geometric mean {math.exp(sum(map(math.log, ratios)) / len(ratios)):.2f}")
    report.parent.mkdir(parents=True, exist_ok=True)
    machine = describe_machine(max(options.threads))
    report.write_text(json.dumps({"machine": machine, key: records}, indent=1, default=str))
    return 0 if agrees else 1
