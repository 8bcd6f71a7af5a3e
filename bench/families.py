"""Which networks that people have are accepted: one model of every family of timm, torchvision and readers of text.

``bench/families.py [NAME ...] [--folder DIR] [--seconds S] [--memory BYTES] [--again] [--minutes M] [--older]``: of
every module of timm, of torchvision's classification, segmentation, detection, flow and video models, and of
:mod:`recognisers`, the variant with the fewest parameters is exported to ONNX with random weights, compiled, run on one
thread and compared with PyTorch in float64. NAME is a module, such as ``vision_transformer``.

Every model has a process of its own, with limits of time and memory. Exports and results stay in the folder, so that a
run that was ended goes on where it stopped; ``--again`` judges all exports anew. The table is printed at the end: how
many are right, the error in units of the bound, the processor's seconds for compiling, and the reasons of refusals.
Needs torch, onnxscript, timm and torchvision.

Exporters: PyTorch's newer one, and where that fails, once more with timm's attention written out, and then the older
one of TorchScript, which comes first for detectors and with ``--older``; the table says which.

Numerics: weights are drawn so that values keep their scale through any depth (variance 1 / fan-in), statistics and
scales of norms near one, no branch near zero. An error is relative to the largest number of its output. A model is
right where its error is at most the bound: eight times PyTorch's own error in float32, which is what another order
of summation may do, and a roundoff of float32. Nothing can be said where PyTorch in float32 decides otherwise than in
float64, as a detector may whose boxes tie (``undecided``), and where nothing comes out (``empty``).
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import subprocess
import sys
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

FOLDER: Final = Path("build/families")
ALLOWANCE: Final = 8.0
"""How many times PyTorch's own error in float32 a model may have."""
OTHERWISE: Final = 0.01
"""An error of PyTorch in float32 that no roundoff explains: something was decided otherwise."""
OPSET: Final = 18
"""Of the older exporter."""


def export(module: str, name: str, path: Path, *, dynamo: bool) -> dict[str, Any]:
    """Write the model and, beside it, its inputs and the outputs of PyTorch in float64 and float32."""
    import torch

    from networks import build, draw_weights, flatten, give, make_inputs

    torch.set_num_threads(1)
    model = build(module, name)
    draw_weights(model)
    given = make_inputs(module, model)
    more: dict[str, Any] = {"external_data": False} if dynamo else {"opset_version": OPSET}
    with torch.no_grad():
        single = flatten(model(*give(module, given)))
        torch.onnx.export(model, give(module, given), str(path), dynamo=dynamo, verbose=False, **more)
        model.double()
        double = flatten(model(*give(module, [item.double() for item in given])))
    arrays = {f"x{index}": item.numpy() for index, item in enumerate(flatten(give(module, given)))}
    for kind, outputs in (("single", single), ("double", double)):
        arrays.update({f"{kind}{index}": item.numpy() for index, item in enumerate(outputs)})
    np.savez(path.with_suffix(".npz"), **arrays)
    return {
        "parameters": sum(item.numel() for item in model.parameters()),
        "exporter": "dynamo" if dynamo else "TorchScript",
    }


def export_somehow(module: str, name: str, path: Path, *, older: bool) -> dict[str, Any]:
    """Export the model by the first exporter that takes it; the older one first, if that is asked for.

    Raises:
        Exception: what the first one says.
    """
    from networks import import_torchvision

    import_torchvision()
    from timm.layers import set_fused_attn

    attempts = [(True, True), (True, False), (False, True), (False, False)]
    if "." in module:  # no attention of timm
        attempts = [(True, True), (False, True)]
    if older or "detection" in module:  # detectors are written for it
        attempts = attempts[::-1] if "." in module else [attempts[index] for index in (2, 3, 0, 1)]
    first: Exception | None = None
    for dynamo, fused in attempts:
        set_fused_attn(enable=fused)
        try:
            return export(module, name, path, dynamo=dynamo) | ({} if fused else {"attention": "written out"})
        except Exception as error:  # noqa: BLE001 - whatever it is, the next attempt says what remains
            first = first or error
    raise first or RuntimeError(name)


def measure(found: Sequence[Any], exact: Sequence[Any]) -> float:
    """The largest error of any output, relative to the largest number of that output; infinite for another shape."""
    worst = 0.0
    for got, want in zip(found, exact, strict=True):
        if got.shape != want.shape:
            return math.inf
        if want.size:
            scale = max(float(np.abs(want).max()), float(np.finfo(np.float32).tiny))
            error = float(np.abs(got.astype(np.float64) - want).max()) / scale
            worst = max(worst, math.inf if math.isnan(error) else error)
    return worst


def count_tiers(network: Any) -> dict[str, int]:
    """Nodes compiled, folded and on the host, those behind shapes that depend on values included."""
    counts = Counter(compiled=network.tiers.compiled, folded=network.tiers.folded, host=network.tiers.host)
    rest = network.pieces.rest if hasattr(network, "pieces") else None
    while rest is not None and rest.kept.last is not None:
        tiers = rest.kept.last.schedule.tiers
        counts.update(compiled=tiers.compiled, folded=tiers.folded, host=tiers.host)
        rest = rest.kept.last.rest
    return dict(counts)


def judge(path: Path) -> dict[str, Any]:
    """Compile the exported model and compare it."""
    import omniconv as oc

    arrays = np.load(path.with_suffix(".npz"))
    began, busy = time.perf_counter(), time.process_time()
    network = oc.compile(path, memory_limit=8 << 30)
    compiled, busy = time.perf_counter(), time.process_time() - busy
    named = {name: arrays[f"x{index}"] for index, name in enumerate(network.inputs)}
    outputs = list(network.run(named).values())
    first = time.perf_counter()
    network.run(named)
    ended = time.perf_counter()
    double, single = ([arrays[f"{kind}{index}"] for index in range(len(outputs))] for kind in ("double", "single"))
    error, peer = measure(outputs, double), measure(single, double)
    bound = ALLOWANCE * min(peer, OTHERWISE) + float(np.finfo(np.float32).eps)
    result = "right" if error <= bound else "undecided" if peer > OTHERWISE else "wrong"
    if not any(item.size for item in double):
        result = "empty"
    return {
        "result": result,
        "error": error, "peer": peer, "units": error / bound, "apart": measure(outputs, single),
        "compile_s": round(compiled - began, 2), "busy_s": round(busy, 2), "first_s": round(first - compiled, 2),
        "run_s": round(ended - first, 3), "steps": len(network.layers), **count_tiers(network),
    }  # fmt: skip


def run_one(module: str, name: str, folder: Path, memory: int, *, older: bool) -> dict[str, Any]:
    """Export where that is not done, and judge; in a process of its own."""
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    warnings.simplefilter("ignore")
    path = folder / f"{module}.onnx"
    facts: dict[str, Any] = {"module": module, "model": name}
    notes = path.with_suffix(".json")
    try:
        if not notes.exists():
            notes.write_text(json.dumps(export_somehow(module, name, path, older=older)), "utf-8")
    except Exception as error:  # noqa: BLE001 - whatever the exporter breaks on is the result
        return facts | {"result": "not exported", "reason": describe(error)}
    facts |= json.loads(notes.read_text("utf-8"))
    try:
        return facts | judge(path)
    except Exception as error:  # noqa: BLE001 - the reason of a refusal, or a fault, is the result
        return facts | {"result": "refused", "reason": describe(error)}


def describe(error: BaseException) -> str:
    """What went wrong first, and where, if it is no error of ours; in one line."""
    ours = hasattr(error, "problem")
    while not ours and (error.__cause__ or error.__context__) is not None:
        error = error.__cause__ or error.__context__ or error
    last = traceback.extract_tb(error.__traceback__)[-1]
    where = "" if ours else f" ({Path(last.filename).name}:{last.lineno})"
    return f"{type(error).__name__}: {' '.join(str(error).split())[:400]}{where}"


def start(module: str, name: str, folder: Path, seconds: float, memory: int, *, older: bool) -> dict[str, Any]:
    """Run one model in a process with limits; what it says, or what became of it."""
    facts = {"module": module, "model": name}
    words = [sys.executable, __file__, "--one", module, name, "--folder", str(folder), "--memory", str(memory)]
    words += ["--older"] if older else []
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=seconds, check=False)  # noqa: S603
    except subprocess.TimeoutExpired:
        stage = "after the export" if (folder / f"{module}.json").exists() else "exporting"
        return facts | {"result": "too slow", "reason": f"more than {seconds:.0f} s, {stage}"}
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if not lines:
        return facts | {"result": "died", "reason": f"code {done.returncode}: {done.stderr.strip()[-300:]}"}
    found: dict[str, Any] = json.loads(lines[-1])
    return found


def list_families() -> dict[str, list[str]]:
    """Every family with its models; asked only where that is not known, because the libraries take a while to load."""
    from networks import find_families

    return find_families()


def choose(module: str) -> str:
    """The model that stands for a family."""
    from networks import find_smallest

    return find_smallest(module, list_families()[module])


def read_results(path: Path) -> Iterator[dict[str, Any]]:
    """What earlier runs found."""
    if path.exists():
        for line in path.read_text("utf-8").splitlines():
            yield json.loads(line)


def show(results: list[dict[str, Any]]) -> str:
    """The table."""
    lines = [
        "| family | model | size [M] | exporter | compiled, folded, host | result | error, bounds | compile [s] |",
        "| --- | --- | ---: | --- | --- | --- | ---: | ---: |",
    ]
    for item in results:
        size = f"{item['parameters'] / 1e6:.1f}" if "parameters" in item else ""
        tiers = ", ".join(str(item[key]) for key in ("compiled", "folded", "host") if key in item)
        units = f"{item['units']:.2f}" if "units" in item else ""
        lines.append(
            f"| {item['module']} | {item['model']} | {size} | {item.get('exporter', '')} | {tiers} | {item['result']} "
            f"| {units} | {item.get('busy_s', '')} |"
        )
    counts = Counter(item["result"] for item in results)
    exported = len(results) - counts["not exported"]
    right = [item for item in results if item["result"] == "right"]
    error, bounds = (max((item[key] for item in right), default=0.0) for key in ("error", "units"))
    errors = f"largest relative error {error:.1e}, largest error {bounds:.2f} bounds"
    lines += ["", f"{counts['right']} of {exported} exported models are right; {errors}."]
    lines += [f"{count} {result}" for result, count in counts.most_common()]
    for item in results:
        if "reason" in item:
            lines.append(f"- {item['module']} ({item['model']}) {item['result']}: {item['reason']}")
    return "\n".join(lines)


def main() -> int:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n", maxsplit=1)[0])
    parser.add_argument("names", nargs="*")
    parser.add_argument("--folder", type=Path, default=FOLDER)
    parser.add_argument("--seconds", type=float, default=180)
    parser.add_argument("--memory", type=int, default=16 << 30)
    parser.add_argument("--minutes", type=float, default=math.inf)
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--older", action="store_true")
    parser.add_argument("--one", nargs=2)
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    if given.one:
        module, name = given.one
        print(json.dumps(run_one(module, name, given.folder, given.memory, older=given.older)))
        return 0
    index = given.folder / "families.json"
    chosen: dict[str, str] = json.loads(index.read_text("utf-8")) if index.exists() else {}
    wanted = given.names or list(list_families())
    log = given.folder / "results.jsonl"
    found = {item["module"]: item for item in read_results(log)}
    until = time.monotonic() + 60 * given.minutes
    for module in wanted:
        if time.monotonic() > until:
            break
        if module in found and not given.again:
            continue
        if module not in chosen:
            chosen[module] = choose(module)
            index.write_text(json.dumps(chosen, indent=1), "utf-8")
        found[module] = start(
            module, chosen[module], given.folder, given.seconds, given.memory, older=given.older
        )  # fmt: skip
        with log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(found[module]) + "\n")
        print(found[module], flush=True)
    print(show([found[module] for module in wanted if module in found]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
