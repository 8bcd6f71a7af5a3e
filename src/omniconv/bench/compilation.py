"""What compiling costs: time and peak memory of every layer, in a process that does nothing else.

``python -m omniconv.bench.compilation`` reads a request as JSON from standard input and answers on standard output. The
object cache is off there, and no peer is loaded, so that the memory is the compiler's own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from omniconv.bench.memory import begin_peak, peak_beyond, read_peak
from omniconv.records import dataclass

WARM_UP: Final = "pointwise n1 ic16 oc16 iw16 kw1"
"""Compiled first and not counted: loading LLVM and starting it up belongs to no layer."""


@dataclass(frozen=True, slots=True)
class Compilation:
    """One layer.

    Attributes:
        line: the problem.
        seconds: to plan, compile and pack [s].
        peak_bytes: most memory the process held meanwhile, beyond what it held before; ``None`` where the system does
            not tell [bytes].
        process_bytes: the same with all that it held, Python, NumPy and LLVM included [bytes].
        reason: why it failed.
    """

    line: str
    seconds: float
    peak_bytes: int | None = None
    process_bytes: int | None = None
    reason: str = ""


def measure_compilation(
    lines: Sequence[str], *, threads: int = 1, target: str | None = None, layout: str = "NHWC"
) -> list[Compilation]:
    """Compile each problem once in a new process."""
    source = Path(__file__).resolve().parents[2]
    path = os.pathsep.join([str(source), *filter(None, [os.environ.get("PYTHONPATH")])])
    request = {"lines": list(lines), "threads": threads, "target": target, "layout": layout}
    done = subprocess.run(
        [sys.executable, "-m", __name__],
        input=json.dumps(request),
        env={**os.environ, "PYTHONPATH": path, "OMNICONV_CACHE": "off"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return [Compilation(**record) for record in json.loads(done.stdout)]


def serve(request: dict[str, Any]) -> list[dict[str, Any]]:
    """Compile the problems of a request."""
    from omniconv.api import compile as compile_spec
    from omniconv.reference import random_weights
    from omniconv.spec import parse

    found = []
    for line in (WARM_UP, *request["lines"]):
        compiled, reason, before = None, "", None
        start = time.perf_counter()
        try:
            spec, shape = parse(line)
            weights = random_weights(spec, np.random.default_rng(0))
            before = begin_peak()
            start = time.perf_counter()
            compiled = compile_spec(
                spec,
                shape,
                weights,
                threads=request["threads"],
                target=request["target"],
                layout=request["layout"],
            )
        except Exception as error:  # noqa: BLE001 - one layer that fails must not hide the others
            reason = f"{type(error).__name__}: {error}"
        seconds = time.perf_counter() - start
        memory = {"peak_bytes": peak_beyond(before), "process_bytes": read_peak()}
        found.append({"line": line, "seconds": seconds, **memory, "reason": reason})
        del compiled
    return found[1:]


if __name__ == "__main__":
    json.dump(serve(json.load(sys.stdin)), sys.stdout)
