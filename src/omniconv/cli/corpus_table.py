"""What ``omniconv bench`` prints of a corpus."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console

from omniconv.bench.compare import Result
from omniconv.bench.corpus import Measured, geometric_mean, group_by_kind, summarise
from omniconv.bench.roofline import Roofline
from omniconv.cli.console import format_time, make_table
from omniconv.integers import say_count
from omniconv.limits import format_size

COLUMNS = ("layer", "NHWC", "NCHW", "share of", "best peer", "GFLOP/s", "ratio", "wanted", "scaling", "compile")
NOTES = (
    "NHWC, NCHW: our GFLOP/s on executed work (taps that land inside), by order of the arrays in memory",
    "share of: the roofline of this machine that our faster layout reaches, and what sets it: FMA or a memory",
    "scaling = our time on one thread / on all threads of the run, each in its best layout",
    "~ before a ratio: the machine was busy (quartiles over 20 % apart, or peak 15 % below that at the start)",
    "ratio = time of the best peer, in its best layout, / ours in our best layout: above 1, Omniconv is faster",
)


def show_corpus(console: Console, measured: Sequence[Measured], *, details: bool = False) -> None:
    """One table a kind; with ``details`` a line for every contender."""
    for kind, items in group_by_kind(measured).items():
        rows = []
        for item in items:
            rows.append(describe_case(item))
            if details:
                rows += [describe_result(item, result) for result in (*item.comparison.ours, *item.comparison.peers)]
        console.print(make_table(kind, COLUMNS, rows))
    for item in measured:
        for result in (*item.comparison.ours, *item.comparison.peers):
            if result.agrees is False:
                name = item.case.title or item.case.line
                console.print(f"{result.name} DISAGREES by {result.difference:.1e}: {name}", style="red")
            elif result.timing is None and result in item.comparison.ours:
                console.print(f"{result.name} failed: {result.reason} | {item.case.line}", style="red", soft_wrap=True)


def describe_case(item: Measured) -> tuple[str, ...]:
    """The line of one problem."""
    compared = item.comparison
    best, ours, ratio, share = compared.best, compared.our_best, compared.ratio(), item.share
    rates = [format_rate(compared.rate(item.ours(layout))) for layout in ("NHWC", "NCHW")]
    if ours is not None:
        index = ("NHWC", "NCHW").index(ours.layout)
        rates[index] = f"[bold]{rates[index]}[/bold]"
    compiled = item.compilation
    return (
        item.case.title or item.case.line,
        *rates,
        "" if share is None else f"{share:.0%} {item.bound.limiter}",
        best.name if best else "none",
        format_rate(compared.rate(best)),
        "" if ratio is None else f"{'~' if item.busy else ''}{ratio:.2f}",
        describe_goals(item),
        "" if item.scaling is None else f"{item.scaling:.2f}",
        "" if compiled is None else "failed" if compiled.reason else f"{compiled.seconds * 1e3:.0f} ms",
    )


def describe_goals(item: Measured) -> str:
    """Whether what is wanted is reached."""
    goals = dict(item.case.goals or {})
    short = item.short()
    if not goals or not item.comparison.best:
        return ""
    if not short:
        return f"[green]{goals.get('wanted', ''):g} met[/green]" if "wanted" in goals else "[green]met[/green]"
    parts = []
    for name, (value, wanted) in short.items():
        reached = "none" if value is None else f"{value:.2f}"
        parts.append(f"{wanted:g} short" if name == "wanted" else f"{name} {reached} < {wanted:g}")
    return f"[red]{', '.join(parts)}[/red]"


def describe_result(item: Measured, result: Result) -> tuple[str, ...]:
    """The line of one contender."""
    if result.timing is None:
        return (f"  {result.name}: {result.reason}", *[""] * (len(COLUMNS) - 1))
    difference = "" if result.difference is None else f"{result.difference:.0e}"
    ratio = item.comparison.ratio(None, result)
    return (
        f"  {result.name} {result.version}".rstrip(),
        "",
        format_time(result.median),
        f"±{result.timing.spread:.0%}",
        difference,
        format_rate(item.comparison.rate(result)),
        "" if ratio is None else f"{ratio:.2f}",
        "",
        "",
        "",
    )


def format_rate(rate: float | None) -> str:
    """A rate in GFLOP/s."""
    return "" if rate is None else f"{rate * 1e-9:.1f}" if rate < 1e10 else f"{rate * 1e-9:.0f}"


def show_summary(console: Console, measured: Sequence[Measured], roofline: Roofline, report: dict[str, Any]) -> None:
    """Means, the worst problem, compile times, and the limits of the machine."""
    found = summarise(measured)
    rows = []
    for kind, items in group_by_kind(measured).items():
        ratios = [ratio for item in items if (ratio := item.comparison.ratio()) is not None]
        shares = [item.share for item in items if item.share is not None]
        goals = [item for item in items if item.case.goals and item.comparison.best]
        mean, share = geometric_mean(ratios), geometric_mean(shares)
        rows.append(
            (
                kind,
                len(items),
                "" if mean is None else f"{mean:.2f}",
                f"{min(ratios):.2f}" if ratios else "",
                "" if share is None else f"{share:.0%}",
                f"{sum(not item.short() for item in goals)} of {len(goals)}" if goals else "",
            )
        )
    if len(rows) > 1:
        columns = ("kind", "layers", "ratio, geometric mean", "worst", "share of the limit", "reach what is wanted")
        console.print(make_table("Kinds", columns, rows))
    if found.ratio is not None and found.worst is not None:
        worst = found.worst.comparison.ratio() or 0.0
        console.print(
            f"ratio: geometric mean {found.ratio:.2f} over {found.compared} of {found.cases} problems; "
            f"worst {worst:.2f}: {found.worst.case.kind}, {found.worst.case.title or found.worst.case.line}",
            soft_wrap=True,
        )
    for item in measured:
        if item.why_slower is not None:
            name = item.case.title or item.case.line
            console.print(
                f"slower than {item.comparison.best.name if item.comparison.best else ''}: "
                f"{name}, {item.comparison.ratio() or 0:.2f}: {item.why_slower}",
                soft_wrap=True,
            )
    if found.scaling is not None and found.worst_scaling is not None:
        console.print(
            f"scaling of problems of 100 us and more on one thread: geometric mean {found.scaling:.2f}, "
            f"least {found.worst_scaling:.2f}; of the shortest rounds {found.scaling_fastest or found.scaling:.2f}"
            + (f"; of multiply-adds alone, in the same turns {found.peak_scaling:.2f}" if found.peak_scaling else "")
        )
    if found.goals:
        console.print(f"goals reached: {found.met} of {found.goals}")
    if found.share is not None:
        console.print(f"share of the limit: geometric mean {found.share:.0%}")
    if found.compile_median is not None and found.compile_worst is not None:
        peak = ""
        if found.compile_peak is not None and found.compile_process is not None:
            peak = (
                f", at most {format_size(found.compile_peak)} more memory, {format_size(found.compile_process)} in all"
            )
        console.print(
            f"compile time of a layer: median {format_time(found.compile_median)}, "
            f"worst {format_time(found.compile_worst)}{peak}"
        )
    levels = ", ".join(
        f"{level.name} {level.read * 1e-9:.0f}/{level.write * 1e-9:.0f}/{level.copy * 1e-9:.0f}"
        for level in roofline.levels
    )
    console.print(
        f"limits for {roofline.target}, {say_count(roofline.threads, 'thread')}, {roofline.precision}: "
        f"{roofline.peak * 1e-9:.0f} GFLOP/s; "
        f"GB/s read/write/copy: {levels}",
        soft_wrap=True,
    )
    machine = report["machine"]
    console.print(
        f"{machine['cpu']}, {say_count(machine['threads'], 'thread')}, commit {machine['commit'] or 'unknown'}"
    )
    versions = machine["versions"]
    console.print(", ".join(f"{name} {version}" for name, version in versions.items()), style="dim", soft_wrap=True)
