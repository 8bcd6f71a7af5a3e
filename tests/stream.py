"""Cases that run in another process, each outcome a line of JSON: what ends the process is an outcome, too."""

from __future__ import annotations

import json
import logging
import os
import selectors
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

ROOT = Path(__file__).parents[1]
PATIENCE = 120.0
"""Time that one case may take [s]."""


def open_outcomes() -> TextIO:
    """Where a process of cases writes its outcomes: what libraries print is not mixed with them."""
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    return out


def run_cases(module: str, kind: str, first: int, count: int, **environment: str) -> Iterator[dict[str, Any]]:
    """The outcomes of ``python -m MODULE KIND FIRST COUNT``; one that ends it, or does not end, is an outcome, too."""
    seed, end = first, first + count
    while seed < end:
        with tempfile.TemporaryFile() as errors:
            command = [sys.executable, "-m", module, kind, str(seed), str(end - seed)]
            path = os.pathsep.join((str(ROOT / "src"), str(ROOT), os.environ.get("PYTHONPATH", "")))
            variables = {**os.environ, "PYTHONPATH": path, **environment}
            process = subprocess.Popen(command, cwd=ROOT, env=variables, stdout=subprocess.PIPE, stderr=errors)
            try:
                for line in lines_of(process):
                    yield json.loads(line)
                    seed += 1
            finally:
                process.kill()
                status = process.wait()
            if seed < end:
                errors.seek(0)
                told = errors.read().decode("utf-8", "replace")[-800:]
                yield {
                    "kind": kind,
                    "seed": seed,
                    "verdict": "crashed",
                    "reason": f"the process ended with {status}",
                    "detail": told,
                    "notes": [],
                }
                seed += 1


def lines_of(process: subprocess.Popen[bytes]) -> Iterator[bytes]:
    """Lines as they come, until the end or until nothing has come for too long."""
    assert process.stdout is not None
    rest, last = b"", time.monotonic()
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while time.monotonic() - last < PATIENCE:
            if not selector.select(1.0):
                continue
            data = os.read(process.stdout.fileno(), 1 << 16)
            if not data:
                return
            last = time.monotonic()
            *lines, rest = (rest + data).split(b"\n")
            yield from lines
