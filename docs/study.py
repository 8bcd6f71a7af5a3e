"""Renew the numbers of the page on the study from two runs of `omniconv study`, the second one with other seeds.

omniconv study -o first && omniconv study --first-seed 100 -o second
python docs/study.py first second      keeps what they found in docs/study, and writes docs/guide/study.md
python docs/study.py                   writes the page from what is kept
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from omniconv.study.study import Study, read_study
from omniconv.study.tables import TextTable, make_accuracies, make_decoders, make_settings, make_times
from omniconv.study.words import write_paragraph

DOCS = Path(__file__).resolve().parent
PAGE = DOCS / "guide" / "study.md"
KEPT = DOCS / "study"
NAMES = ("first", "second")
BEGIN = "<!-- study: generated from docs/study by docs/study.py -->\n"
END = "<!-- end of study -->"


def read_kept(folder: Path = KEPT) -> list[Study]:
    """The first run, and the second where there is one."""
    files = [folder / f"{name}.json" for name in NAMES]
    return [read_study(file.read_text(encoding="utf-8")) for file in files if file.exists()]


def write_table(table: TextTable) -> str:
    """A table in Markdown."""
    marks = ["---" if place < table.left else "---:" for place in range(len(table.columns))]
    return "".join("| " + " | ".join(row) + " |\n" for row in (table.columns, tuple(marks), *table.rows))


def write_numbers(studies: list[Study]) -> str:
    """All that was measured: a paragraph for each claim, and the tables."""
    first, *more = studies
    parts = [describe(first), agree(first, more[0]) if more else "", ""]
    others = {claim.name: claim for claim in more[0].claims} if more else {}
    for claim in first.claims:
        parts += [
            f"### {claim.title}",
            "",
            f"**{claim.verdict[0].upper()}{claim.verdict[1:]}.** {write_paragraph(claim)}",
            "",
        ]
        parts += [f"*{claim.rule}*", ""]
        if claim.name in others:
            other = others[claim.name]
            parts += [f"The second run: {other.verdict}. {write_paragraph(other)}", ""]
    tables = (
        make_accuracies("Same width", first.same_width),
        make_accuracies(
            "Same measured time of a step of training; step: its time over that of the standard network",
            first.same_time,
        ),
        make_times(first),
        make_decoders(first.decoders),
        make_settings(first),
    )
    for table in tables:
        parts += [f"### {table.title}", "", write_table(table)]
    parts += [f"- {note}" for note in first.notes]
    return "\n".join(part for n, part in enumerate(parts) if part or n == 0 or parts[n - 1]).rstrip() + "\n"


def describe(study: Study) -> str:
    """What the numbers are of."""
    data, seeds = study.data, study.settings["seeds"]
    return (
        f"{len(study.same_width)} kinds, {seeds} seeds, at most {study.epochs} epochs, on {data['task']} "
        f"({data['training']} to learn from, {data['test']} to judge by); {study.machine['cpu']}, one thread, commit "
        f"{study.machine['commit']}."
    )


def agree(first: Study, second: Study) -> str:
    """How often two runs come to the same verdict."""
    verdicts = {claim.name: claim.verdict for claim in second.claims}
    same = sum(verdicts.get(claim.name) == claim.verdict for claim in first.claims)
    against = [
        claim.name
        for claim in first.claims
        if {claim.verdict, verdicts.get(claim.name, claim.verdict)} == {"held", "not held"}
    ]
    words = f"contradicts it on {', '.join(against)}" if against else "contradicts it on none"
    return (
        f"A second run with other seeds and another split comes to the same verdict on {same} of {len(first.claims)} "
        f"claims, and {words}."
    )


def renew(text: str, studies: list[Study]) -> str:
    """The page with current numbers."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + BEGIN + write_numbers(studies) + END + after


def main(arguments: list[str] | None = None) -> int:
    """Keep runs, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "runs", nargs="*", type=Path, help="folders that omniconv study wrote, the first and the second"
    )
    options = parser.parse_args(arguments)
    for name, folder in zip(NAMES, options.runs, strict=False):
        KEPT.mkdir(exist_ok=True)
        shutil.copy(folder / "study.json", KEPT / f"{name}.json")
    if options.runs:
        shutil.copy(options.runs[0] / "study.svg", DOCS / "pictures" / "study.svg")
    PAGE.write_text(renew(PAGE.read_text(encoding="utf-8"), read_kept()), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
