"""Which networks that people have are accepted: one model of every family of timm and torchvision.

``bench/families.py [NAME ...] [--folder DIR] [--seconds S] [--memory BYTES] [--again] [--minutes M]``: of every module
of timm, and of torchvision's classification, segmentation, detection and video models, the variant with the fewest
parameters is exported to ONNX with random weights, compiled, run on one thread and compared with PyTorch in float64.
NAME is a module, such as ``vision_transformer``.

Every model has a process of its own, with limits of time and memory. Exports and results stay in the folder, so that a
run that was ended goes on where it stopped; ``--again`` judges all exports anew. The table is printed at the end: how
many are right, the largest error relative to the largest output, PyTorch's own error in float32 beside it, and the
reasons of refusals. Needs torch, onnxscript, timm and torchvision.

Numerics: weights are drawn so that values keep their scale through any depth (variance 1 / fan-in), statistics and
scales of norms near one, no branch near zero. A model passes where its error is at most eight times PyTorch's in
float32, which is what another order of summation may do, plus a roundoff of float32 of the largest output.
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
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np

FOLDER: Final = Path("build/families")
ALLOWANCE: Final = 8.0
"""How many times PyTorch's own error in float32 a model may have."""
TORCHVISION: Final = "torchvision."
MOST_PARAMETERS: Final = 120_000_000


def import_torchvision() -> Any:
    """The library; where its binary part does not load, the operators that its import asks for are declared only."""
    import torch

    try:
        import torchvision
    except RuntimeError:
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        import torchvision
    return torchvision


def find_families() -> dict[str, list[str]]:
    """Every family, a module, with the names of its models."""
    torchvision = import_torchvision()
    import timm

    families = {
        module: [name for name in timm.list_models(module=module) if not name.startswith("test_")]
        for module in timm.list_modules()
    }
    for name in torchvision.models.list_models():
        module = torchvision.models.get_model_builder(name).__module__.removeprefix("torchvision.models.")
        if not module.startswith("quantization"):
            families.setdefault(TORCHVISION + module, []).append(name)
    return {module: names for module, names in families.items() if names}


def build(module: str, name: str) -> Any:
    """A model without trained weights, as it is at inference."""
    torchvision = import_torchvision()
    import timm

    if module.startswith(TORCHVISION):
        backbone = {"weights_backbone": None} if any(k in module for k in ("segmentation", "detection")) else {}
        return torchvision.models.get_model(name, weights=None, **backbone).eval()
    return timm.create_model(name, pretrained=False).eval()


def find_smallest(module: str, names: list[str]) -> str:
    """The variant with the fewest parameters, counted without memory for them."""
    import torch

    sizes: dict[str, int] = {}
    for name in names:
        try:
            with torch.device("meta"):
                sizes[name] = sum(item.numel() for item in build(module, name).parameters())
        except Exception:  # noqa: BLE001, S112 - what cannot be built without data is no candidate
            continue
    return min(sizes, key=lambda name: sizes[name]) if sizes else names[0]


def make_input(module: str, model: Any) -> Any:
    """An input of the size that the model is made for."""
    import torch

    generator = torch.Generator().manual_seed(1)
    shape: tuple[int, ...] = (1, 3, 224, 224)
    if "video" in module:
        shape = (1, 3, 16, 224, 224) if "mvit" in module or "swin" in module else (1, 3, 8, 112, 112)
    elif module == "torchvision.inception":
        shape = (1, 3, 299, 299)
    elif hasattr(model, "default_cfg"):
        shape = (1, *model.default_cfg["input_size"])
    return torch.randn(shape, generator=generator)


def draw_weights(model: Any) -> None:
    """Random weights and statistics, well scaled, the same on every machine."""
    import torch

    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, item in [*model.named_parameters(), *model.named_buffers()]:
            if not item.is_floating_point():
                continue
            last = name.rsplit(".", 1)[-1]
            if last == "running_mean" or (last == "bias" and item.ndim == 1):
                item.normal_(0, 0.1, generator=generator)
            elif last == "running_var" or (item.ndim <= 1 and isinstance(item, torch.nn.Parameter)):
                item.uniform_(0.5, 1.5, generator=generator)
            elif last in ("weight", "in_proj_weight") or item.ndim in (4, 5):
                if isinstance(item, torch.nn.Parameter):
                    fan = max(1, item[0].numel())
                    item.normal_(0, fan**-0.5, generator=generator)
            elif isinstance(item, torch.nn.Parameter):
                item.normal_(0, 0.5, generator=generator)


def flatten(value: Any) -> list[Any]:
    """The tensors of a result, in order."""
    if isinstance(value, dict):
        return [tensor for item in value.values() for tensor in flatten(item)]
    if isinstance(value, list | tuple):
        return [tensor for item in value for tensor in flatten(item)]
    return [value]


def export(module: str, name: str, path: Path) -> dict[str, Any]:
    """Write a model of a module, see :func:`write_model`."""
    model = build(module, name)
    x = make_input(module, model)
    return write_model(model, [x[0]] if "detection" in module else x, path)


def write_model(model: Any, x: Any, path: Path) -> dict[str, Any]:
    """Write the model and, beside it, its input and the outputs of PyTorch in float64 and float32."""
    import torch

    torch.set_num_threads(1)
    draw_weights(model)
    with torch.no_grad():
        single = flatten(model(x))
        torch.onnx.export(model, (x,), str(path), dynamo=True, external_data=False, verbose=False)
        model.double()
        double = flatten(model([x[0].double()] if isinstance(x, list) else x.double()))
    first = x[0] if isinstance(x, list) else x
    arrays = {"x": first.numpy()}
    for kind, outputs in (("single", single), ("double", double)):
        arrays.update({f"{kind}{index}": item.numpy() for index, item in enumerate(outputs)})
    np.savez(path.with_suffix(".npz"), **arrays)
    return {"parameters": sum(item.numel() for item in model.parameters())}


def export_somehow(write: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Export a model; where the exporter does not take a fused attention of timm, the model with it written out."""
    try:
        return write()
    except Exception:  # noqa: BLE001 - whatever it is, the second attempt says what remains
        from timm.layers import set_fused_attn

        set_fused_attn(enable=False)
        return write()


def judge(path: Path) -> dict[str, Any]:
    """Compile the exported model and compare it."""
    import omniconv as oc

    arrays = np.load(path.with_suffix(".npz"))
    began = time.perf_counter()
    network = oc.compile(path, memory_limit=8 << 30)
    compiled = time.perf_counter()
    outputs = list(network.run({next(iter(network.signature if hasattr(network, "signature") else network.inputs)):
                                arrays["x"]}).values())  # fmt: skip
    error = peer = 0.0
    for index, got in enumerate(outputs):
        exact = arrays[f"double{index}"]
        scale = max(float(np.abs(exact).max()), float(np.finfo(np.float32).tiny))
        error = max(error, float(np.abs(got - exact).max()) / scale if got.shape == exact.shape else math.inf)
        peer = max(peer, float(np.abs(arrays[f"single{index}"] - exact).max()) / scale)
    good = error <= ALLOWANCE * peer + float(np.finfo(np.float32).eps)
    return {
        "result": "right" if good else "wrong", "error": error, "peer": peer,
        "compile_s": round(compiled - began, 2), "steps": len(network.layers),
    }  # fmt: skip


def run_one(module: str, name: str, folder: Path, memory: int) -> dict[str, Any]:
    """Export where that is not done, and judge; in a process of its own."""
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    warnings.simplefilter("ignore")
    path = folder / f"{module}.onnx"
    facts: dict[str, Any] = {"module": module, "model": name}
    notes = path.with_suffix(".json")
    try:
        if not notes.exists():
            notes.write_text(json.dumps(export_somehow(lambda: export(module, name, path))), "utf-8")
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


def start(module: str, name: str, folder: Path, seconds: float, memory: int) -> dict[str, Any]:
    """Run one model in a process with limits; what it says, or what became of it."""
    facts = {"module": module, "model": name}
    words = [sys.executable, __file__, "--one", module, name, "--folder", str(folder), "--memory", str(memory)]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=seconds, check=False)  # noqa: S603
    except subprocess.TimeoutExpired:
        return facts | {"result": "too slow", "reason": f"more than {seconds:.0f} s"}
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if not lines:
        return facts | {"result": "died", "reason": f"code {done.returncode}: {done.stderr.strip()[-300:]}"}
    found: dict[str, Any] = json.loads(lines[-1])
    return found


def read_results(path: Path) -> Iterator[dict[str, Any]]:
    """What earlier runs found."""
    if path.exists():
        for line in path.read_text("utf-8").splitlines():
            yield json.loads(line)


def show(results: list[dict[str, Any]]) -> str:
    """The table."""
    lines = ["| family | model | parameters [M] | result | error | PyTorch's | compile [s] |",
             "| --- | --- | ---: | --- | ---: | ---: | ---: |"]  # fmt: skip
    for item in results:
        numbers = [f"{item[key]:.1e}" if key in item else "" for key in ("error", "peer")]
        size = f"{item['parameters'] / 1e6:.1f}" if "parameters" in item else ""
        lines.append(
            f"| {item['module']} | {item['model']} | {size} | {item['result']} | {' | '.join(numbers)} "
            f"| {item.get('compile_s', '')} |"
        )
    counts = Counter(item["result"] for item in results)
    exported = len(results) - counts["not exported"]
    worst = max((item["error"] for item in results if item["result"] == "right"), default=0.0)
    lines += ["", f"{counts['right']} of {exported} exported models are right; largest relative error {worst:.1e}."]
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
    parser.add_argument("--one", nargs=2)
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    if given.one:
        module, name = given.one
        print(json.dumps(run_one(module, name, given.folder, given.memory)))
        return 0
    index = given.folder / "families.json"
    chosen: dict[str, str] = json.loads(index.read_text("utf-8")) if index.exists() else {}
    families = find_families()
    wanted = given.names or list(families)
    log = given.folder / "results.jsonl"
    found = {item["module"]: item for item in read_results(log)}
    until = time.monotonic() + 60 * given.minutes
    for module in wanted:
        if time.monotonic() > until:
            break
        if module in found and not given.again:
            continue
        if module not in chosen:
            chosen[module] = find_smallest(module, families[module])
            index.write_text(json.dumps(chosen, indent=1), "utf-8")
        found[module] = start(module, chosen[module], given.folder, given.seconds, given.memory)
        with log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(found[module]) + "\n")
        print(found[module], flush=True)
    print(show([found[module] for module in wanted if module in found]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
