"""One network exported, and one compiled and compared: what :mod:`families` does in processes of their own.

``bench/judging.py export MODULE NAME PATH [--older] [--unfused] [--plain]`` writes the model to ``PATH``, and beside it
its inputs and PyTorch's outputs in float64 and float32. ``bench/judging.py judge PATH`` compiles it, runs it on one
thread and compares. Both print one line of JSON: the facts, or ``reason``.

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
import sys
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np

ALLOWANCE: Final = 8.0
"""How many times PyTorch's own error in float32 a model may have."""
OTHERWISE: Final = 0.01
"""An error of PyTorch in float32 that no roundoff explains: something was decided otherwise."""
OPSET: Final = 18
"""Of the older exporter."""


def export(module: str, name: str, path: Path, *, dynamo: bool, fused: bool, optimised: bool) -> dict[str, Any]:
    """Write the model and, beside it, its inputs and the outputs of PyTorch in float64 and float32."""
    import onnx
    import torch

    from networks import build, draw_weights, flatten, give, import_torchvision, make_inputs

    import_torchvision()
    from timm.layers import set_fused_attn

    torch.set_num_threads(1)
    set_fused_attn(enable=fused)
    model = build(module, name)
    draw_weights(model)
    given = make_inputs(module, model)
    more: dict[str, Any] = {"external_data": False, "optimize": optimised} if dynamo else {"opset_version": OPSET}
    with torch.no_grad():
        single = flatten(model(*give(module, given)))
        torch.onnx.export(model, give(module, given), str(path), dynamo=dynamo, verbose=False, **more)
        onnx.checker.check_model(str(path))  # an exporter may write what no runtime can read
        model.double()
        with widened():
            double = flatten(model(*give(module, [item.double() for item in given])))
    arrays = {f"x{index}": item.numpy() for index, item in enumerate(flatten(give(module, given)))}
    for kind, outputs in (("single", single), ("double", double)):
        arrays.update({f"{kind}{index}": item.numpy() for index, item in enumerate(outputs)})
    np.savez(path.with_suffix(".npz"), **arrays)
    exporter = "older" if not dynamo else "newer" if optimised else "newer, not optimised"
    return {
        "parameters": sum(item.numel() for item in model.parameters()),
        "exporter": exporter if fused else f"{exporter}, attention written out",
    }


@contextmanager
def widened() -> Iterator[None]:
    """Where a model asks for float32, as for a grid of positions, the exact run has float64."""
    import torch

    kept = torch.Tensor.float
    torch.Tensor.float = torch.Tensor.double
    try:
        yield
    finally:
        torch.Tensor.float = kept


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
    import onnx  # noqa: F401 - what is loaded beforehand counts neither as time nor as memory of compiling

    import omniconv as oc
    from omniconv.bench.memory import begin_peak, peak_beyond

    arrays = dict(np.load(path.with_suffix(".npz")))
    before = begin_peak()
    began, busy = time.perf_counter(), time.process_time()
    network = oc.compile(path, threads=1, memory_limit=8 << 30)
    compiled, busy = time.perf_counter(), time.process_time() - busy
    peak = peak_beyond(before)
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
        "error": error,
        "peer": peer,
        "units": error / bound,
        "apart": measure(outputs, single),
        "compile_s": round(compiled - began, 2),
        "busy_s": round(busy, 2),
        "first_s": round(first - compiled, 2),
        "run_s": round(ended - first, 3),
        "steps": len(network.layers),
        **count_tiers(network),
        "file_bytes": path.stat().st_size,
        "peak_bytes": peak,
    }


def describe(error: BaseException) -> str:
    """What went wrong first, and where, if it is no error of ours; in one line."""
    ours = hasattr(error, "problem")
    while not ours and (error.__cause__ or error.__context__) is not None:
        error = error.__cause__ or error.__context__ or error
    last = traceback.extract_tb(error.__traceback__)[-1]
    where = "" if ours else f" ({Path(last.filename).name}:{last.lineno})"
    return f"{type(error).__name__}: {' '.join(str(error).split())[:400]}{where}"


def main() -> int:
    """Do one of both, and print what came of it."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n", maxsplit=1)[0])
    stages = parser.add_subparsers(dest="stage", required=True)
    exporting = stages.add_parser("export")
    exporting.add_argument("module")
    exporting.add_argument("name")
    exporting.add_argument("path", type=Path)
    exporting.add_argument("--older", action="store_true")
    exporting.add_argument("--unfused", action="store_true")
    exporting.add_argument("--plain", action="store_true")
    stages.add_parser("judge").add_argument("path", type=Path)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    try:
        if given.stage == "export":
            kind = {"dynamo": not given.older, "fused": not given.unfused, "optimised": not given.plain}
            facts = export(given.module, given.name, given.path, **kind)
        else:
            facts = judge(given.path)
    except Exception as error:  # noqa: BLE001 - what an exporter breaks on, a refusal or a fault is the result
        facts = {"reason": describe(error)}
    print(json.dumps(facts))
    return 0


if __name__ == "__main__":
    sys.exit(main())
