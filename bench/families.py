"""Which networks that people have are accepted: one model of every family of timm, torchvision and readers of text.

``bench/families.py [NAME ...] [--folder DIR] [--seconds S] [--memory BYTES] [--again] [--minutes M] [--write]``: of
every module of timm, of torchvision's classification, segmentation, detection, flow and video models, and of
:mod:`recognisers`, the variant with the fewest parameters is exported to ONNX with random weights, compiled, run on one
thread and compared with PyTorch in float64 (:mod:`judging`). NAME is a module, such as ``vision_transformer``.

Every export and every judgement has a process of its own, with a limit of the processor's time and of memory. Exports
stay in the folder and results in ``bench/families.jsonl``, so that a run that was ended goes on where it stopped;
``--again`` judges all exports anew. ``--write`` renews the tables of docs/guide/families.md from the results and does
nothing else. Needs torch, onnxscript, timm and torchvision.

Exporters: PyTorch's newer one, and where that fails or takes too long, once more with timm's attention written out, and
then without its optimiser, then the older one of TorchScript, which comes first for detectors; the table says which. A
file that breaks the rules of ONNX counts as not exported.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any, Final

from families_page import PAGE, RESULTS, read_results, renew, write_results

FOLDER: Final = Path("build/families")
JUDGING: Final = Path(__file__).with_name("judging.py")
PATIENCE: Final = 4
"""Seconds of the clock for each second of the processor that a process may take, where the machine is busy."""


SECONDS: Final = 240
"""Of the processor, for an export or a judgement."""
MEMORY: Final = 16 << 30
"""For an export or a judgement [bytes]."""


def limit(seconds: int, memory: int) -> None:
    """Bound the process that is about to begin."""
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))


def start(words: list[str], seconds: int, memory: int) -> dict[str, Any]:
    """Run a process of :mod:`judging` within limits: what it says, or as ``reason`` what became of it."""
    command = [sys.executable, str(JUDGING), *words]
    slow = {"reason": f"more than {seconds} s"}
    try:
        done = subprocess.run(  # noqa: S603
            command,
            capture_output=True,
            text=True,
            timeout=PATIENCE * seconds,
            check=False,
            preexec_fn=partial(limit, seconds, memory),
        )
    except subprocess.TimeoutExpired:
        return slow
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if lines:
        found: dict[str, Any] = json.loads(lines[-1])
        return found
    if done.returncode == -signal.SIGXCPU:
        return slow
    return {"reason": f"ended with code {done.returncode}: {done.stderr.strip()[-300:]}"}


def list_attempts(module: str) -> list[list[str]]:
    """Options of the exporters, in the order in which they are tried."""
    attempts = [[], ["--unfused"], ["--plain"], ["--older"], ["--older", "--unfused"]]
    if "." in module:  # no attention of timm
        attempts = [[], ["--older"]]
    return attempts[::-1] if "detection" in module else attempts  # detectors are written for the older one


def export(module: str, name: str, path: Path, seconds: int = SECONDS, memory: int = MEMORY) -> dict[str, Any]:
    """Export the model, if that was not done, by the first exporter that takes it; the reason of each that did not."""
    notes = path.with_suffix(".json")
    if not notes.exists():
        reasons = []
        for options in list_attempts(module):
            facts = start(["export", module, name, str(path), *options], seconds, memory)
            if "reason" not in facts:
                break
            reasons.append(f"{' '.join(option[2:] for option in options) or 'newer'}: {facts['reason']}")
        else:
            facts = {"reason": "; ".join(reasons)}
        notes.write_text(json.dumps(facts | {"attempts": reasons}), "utf-8")
    return dict(json.loads(notes.read_text("utf-8")))


def run_one(module: str, name: str, folder: Path, seconds: int, memory: int) -> dict[str, Any]:
    """Export and judge one model."""
    facts: dict[str, Any] = {"module": module, "model": name}
    path = folder / f"{module}.onnx"
    facts |= export(module, name, path, seconds, memory)
    if "reason" in facts:
        return facts | {"result": "not exported"}
    return facts | {"result": "refused"} | start(["judge", str(path)], seconds, memory)


def choose(module: str) -> str:
    """The model that stands for a family."""
    from networks import find_families, find_smallest

    return find_smallest(module, find_families()[module])


def list_names(found: dict[str, dict[str, Any]]) -> list[str]:
    """Every family; those that nobody has judged are noted down as such."""
    from networks import find_families

    for module in find_families():
        found.setdefault(module, {"module": module, "model": choose(module), "result": "not judged"})
    return list(found)


def main() -> int:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n", maxsplit=1)[0])
    parser.add_argument("names", nargs="*")
    parser.add_argument("--folder", type=Path, default=FOLDER)
    parser.add_argument("--seconds", type=int, default=SECONDS, help="of the processor, for an export or a judgement")
    parser.add_argument("--memory", type=int, default=MEMORY)
    parser.add_argument("--minutes", type=float, default=math.inf)
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--write", action="store_true", help="the tables of the page")
    given = parser.parse_args()
    if given.write:
        PAGE.write_text(renew(PAGE.read_text("utf-8"), read_results(RESULTS)), "utf-8")
        return 0
    given.folder.mkdir(parents=True, exist_ok=True)
    found = read_results(RESULTS)
    wanted = given.names or list_names(found)
    until = time.monotonic() + 60 * given.minutes
    for module in wanted:
        if time.monotonic() > until:
            break
        known = found.get(module, {"result": "not judged"})
        if known["result"] != "not judged" and not given.again:
            continue
        name = known["model"] if "model" in known else choose(module)
        found = read_results(RESULTS) | {module: run_one(module, name, given.folder, given.seconds, given.memory)}
        write_results(RESULTS, found)
        print(found[module], flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
