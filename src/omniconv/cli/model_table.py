"""What ``omniconv bench`` prints of a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from omniconv.bench.compare import Comparison
from omniconv.cli.console import format_time, make_table, out
from omniconv.integers import say_count

DISAGREEMENT: Final = (
    "DISAGREES: by more than {:g} of the largest output (--tolerance). Models with weights of 8 bits: some runtimes "
    "saturate sums of bytes where the processor lacks VNNI; omniconv quantize --reduce-range avoids that."
)


def show_models(name: str, found: Sequence[Comparison], report: dict[str, Any]) -> None:
    """Print comparisons of models as a table."""
    console = out()
    columns = ("workload", "runtime", "median", "spread", "GFLOP/s", "ratio", "max |difference|")
    rows: list[tuple[str, ...]] = []
    for item in found:
        for result in (*item.ours, *item.peers):
            title = (item.title or item.name) if result is item.ours[0] else ""
            label = f"{result.name} {result.version}".strip()
            if result.timing is None:
                rows.append((title, label, "not run", "", "", "", result.reason))
                continue
            rate, ratio = item.rate(result), item.ratio(None, result)
            verdict = "" if result in item.ours else f"{result.difference:.1e}"
            rows.append(
                (
                    title,
                    label,
                    format_time(result.median),
                    f"{result.timing.spread:.0%}",
                    "" if rate is None else f"{rate * 1e-9:.1f}",
                    "" if ratio is None or result in item.ours else f"{ratio:.2f}",
                    verdict + ("" if result.agrees is not False else " DISAGREES"),
                )
            )
    console.print(make_table(name, columns, rows, left=2))
    machine = report["machine"]
    console.print(
        f"{machine['cpu']}, {say_count(machine['threads'], 'thread')}, {report['protocol']['precision']}, "
        f"commit {machine['commit'] or 'unknown'}"
    )
    if not all(item.agrees for item in found):
        console.print(DISAGREEMENT.format(report["protocol"]["tolerance"]), highlight=False, soft_wrap=True)
