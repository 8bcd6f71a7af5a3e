"""Time every problem of the corpora, and the network of the demonstration, against all installed runtimes."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from omniconv.bench.interleave import DEFAULT_ROUNDS, DEFAULT_SECONDS
from omniconv.bench.machine import describe_machine
from omniconv.bench.peers import MODULES, installed_peers, missing_peers
from omniconv.cli.bench import NOTES, bench_corpus, bench_model, show
from omniconv.cli.console import write_json
from omniconv.cli.exits import Exit
from omniconv.demo.orientation import find_network

ROOT = Path(__file__).resolve().parent


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmarks that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpus", nargs="*", help="names in bench/corpus, or files; default: all, and the demo network")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=DEFAULT_ROUNDS)
    parser.add_argument("--seconds", type=float, default=DEFAULT_SECONDS)
    parser.add_argument("--peer", action="append", choices=MODULES)
    parser.add_argument("--save", type=Path, default=Path("build/bench/report.json"))
    options = parser.parse_args(arguments)
    files = [Path(name) if Path(name).is_file() else ROOT / "corpus" / f"{name}.txt" for name in options.corpus]
    peers = list(installed_peers(options.peer))
    settings: dict[str, Any] = {
        "threads": options.threads,
        "rounds": options.rounds,
        "seconds": options.seconds,
        "tolerance": 1e-4,
    }
    report: dict[str, Any] = {
        "protocol": {**settings, "notes": NOTES},
        "machine": describe_machine(options.threads),
        "not_installed": missing_peers(options.peer),
        "corpora": {},
    }
    agrees = True
    for file in files or sorted((ROOT / "corpus").glob("*.txt")):
        found = list(bench_corpus(file, peers, seed=0, **settings))
        show(file.name, found, report, None)
        report["corpora"][file.stem] = [item.as_dict() for item in found]
        agrees = agrees and all(item.agrees for item in found)
    if not files:
        result = bench_model(find_network(), None, peers, seed=0, **settings)
        show(result.name, [result], report, None)
        report["corpora"]["network"] = [result.as_dict()]
        agrees = agrees and result.agrees
    print(f"report written to {write_json(options.save, report)}")
    return int(Exit.OK if agrees else Exit.DISAGREEMENT)


if __name__ == "__main__":
    sys.exit(main())
