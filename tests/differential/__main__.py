"""``python -m tests.differential KIND FIRST COUNT``: run cases and write each outcome as a line of JSON.

The cases run in this process, apart from the tests, so that one which ends the process is a result like any other.
"""

from __future__ import annotations

import json
import sys
import time

from tests.differential.judge import as_json, run_case
from tests.stream import open_outcomes


def main() -> None:
    kind, first, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    out = open_outcomes()
    for seed in range(first, first + count):
        begun = time.perf_counter()
        outcome = as_json(kind, seed, run_case(kind, seed))
        out.write(json.dumps({**outcome, "seconds": round(time.perf_counter() - begun, 4)}) + "\n")


main()
