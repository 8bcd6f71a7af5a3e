"""``python -m tests.hostile KIND FIRST COUNT``: run damaged models and write each outcome as a line of JSON.

The cases run in this process, apart from the tests and with little memory, so that one which ends the process is a
result like any other.
"""

from __future__ import annotations

import faulthandler
import json
import sys
import time

from tests.hostile.judge import limit_memory, run_case
from tests.stream import PATIENCE, open_outcomes


def main() -> None:
    kind, first, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    out = open_outcomes()
    limit_memory()
    for seed in range(first, first + count):
        faulthandler.dump_traceback_later(PATIENCE / 2, exit=True)
        begun = time.perf_counter()
        outcome = {"kind": kind, "seed": seed, **vars(run_case(kind, seed))}
        out.write(json.dumps({**outcome, "seconds": round(time.perf_counter() - begun, 4)}) + "\n")


main()
