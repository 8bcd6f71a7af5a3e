"""What every command prints with: tables and JSON to standard output, progress to standard error."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from omniconv.cli.outputs import open_whole

STYLE: Final[dict[str, Any]] = {
    "box": SIMPLE_HEAD,
    "header_style": "bold",
    "title_style": "bold",
    "title_justify": "left",
    "pad_edge": False,
}
WIDTH: Final = 120
"""Columns where standard output is not a terminal."""


class _Output(Console):
    def on_broken_pipe(self) -> None:
        """Leave without an error when the reader of standard output has gone."""
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(0)


def out() -> Console:
    """A console on standard output."""
    console = _Output(file=sys.stdout, highlight=False)
    if not console.is_terminal:
        console.width = WIDTH
    return console


def err() -> Console:
    """A console on standard error."""
    return Console(file=sys.stderr, highlight=False)


def to_json(value: Any) -> Any:
    """Turn records, arrays, paths and NumPy numbers into what JSON knows. Infinities and NaN become text."""
    if is_dataclass(value) and not isinstance(value, type):
        return to_json(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return to_json(value.tolist())
    if isinstance(value, list | tuple | set | frozenset):
        return [to_json(item) for item in value]
    if isinstance(value, np.generic):
        return to_json(value.item())
    if isinstance(value, float) and not np.isfinite(value):
        return str(value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return str(value)


def print_json(value: Any) -> None:
    """Write one JSON document to standard output."""
    sys.stdout.write(json.dumps(to_json(value), indent=2, allow_nan=False) + "\n")
    sys.stdout.flush()


def write_json(path: Path, value: Any) -> None:
    """Write one JSON document to a file, whole or not at all."""
    with open_whole(path) as file:
        file.write((json.dumps(to_json(value), indent=2, allow_nan=False) + "\n").encode())


def make_table(title: str, columns: Iterable[str], rows: Iterable[Sequence[object]], *, left: int = 1) -> Table:
    """A table whose first ``left`` columns are text and whose others are numbers."""
    table = Table(title=title or None, **STYLE)
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index < left else "right", overflow="fold")
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    return table


@contextmanager
def progress(text: str) -> Iterator[Progress]:
    """A bar on standard error for work that may take over a second; silent where that is not a terminal."""
    console = Console(file=sys.stderr)
    bar = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    with bar:
        bar.add_task(text, total=None)
        yield bar


def advance(bar: Progress, share: float) -> None:
    """Set the first task of a bar to a share of the work."""
    bar.update(TaskID(0), total=1.0, completed=share)


def format_shape(shape: Sequence[int]) -> str:
    """A shape as ``1x64x56x56``; a scalar's as ``scalar``."""
    return "x".join(str(size) for size in shape) if len(shape) else "scalar"


def format_count(count: float) -> str:
    """A number of parameters or MACs with three digits and a unit.

    Example:
        >>> format_count(123), format_count(45_600), format_count(5.5e8)
        ('123', '45.6 k', '550 M')
    """
    for limit, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(count) >= limit:
            scaled = count / (1e3 if unit == "k" else limit)
            return f"{scaled:#.3g}".rstrip(".") + f" {unit}"
    return f"{count:g}"


def format_time(seconds: float) -> str:
    """A time with three digits and a unit.

    Example:
        >>> format_time(0.00123), format_time(2.5e-6), format_time(1.5)
        ('1.23 ms', '2.50 us', '1.50 s')
    """
    for limit, unit in ((1.0, "s"), (1e-3, "ms"), (1e-6, "us")):
        if seconds >= limit:
            return f"{seconds / limit:#.3g}".rstrip(".") + f" {unit}"
    return f"{seconds * 1e9:.0f} ns"
