"""Time every problem of the corpora, and the network of the demonstration, against all installed runtimes.

``bench/run.py [NAME ...] [OPTION ...]``: names of files in bench/corpus, or paths; options are those of ``omniconv
bench``. Reports and pictures go to build/bench.
"""

from __future__ import annotations

import sys
from pathlib import Path

from omniconv.cli import main as omniconv
from omniconv.demo.orientation import find_network

CORPUS = Path(__file__).resolve().parent / "corpus"
REPORTS = Path("build/bench")


def run(source: Path, options: list[str]) -> int:
    """Benchmark one file or folder; the exit code."""
    words = ["bench", str(source), "--save", str(REPORTS / f"{source.stem}.json"), *options]
    if source.is_dir() or source.suffix == ".txt":
        words += ["--picture", str(REPORTS / f"{source.stem}.png")]
    try:
        omniconv(words)
    except SystemExit as left:
        return int(left.code or 0)
    return 0


def main(arguments: list[str]) -> int:
    """Run the benchmarks that are named, or all; the first exit code that is not 0."""
    names = []
    REPORTS.mkdir(parents=True, exist_ok=True)
    while arguments and not arguments[0].startswith("-"):
        names.append(arguments.pop(0))
    sources = [Path(name) if Path(name).exists() else CORPUS / f"{name}.txt" for name in names]
    codes = [run(source, arguments) for source in sources or [CORPUS, find_network()]]
    return next((code for code in codes if code), 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
