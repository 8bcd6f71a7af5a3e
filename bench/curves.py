r"""Train for a thousand steps, and hold each of them against PyTorch in float64 from the same weights.

``bench/curves.py [--steps N] [--batch N] [--layout WORD]``: a network of dense, depthwise, dilated, grouped and
pointwise layers with batch norms and SiLU, converted, in float32. Where training is chaotic, two curves part that begin
alike, for a rounding between them; so PyTorch starts anew at every step, from our weights of that step, and finds the
loss and all gradients in float64 and in float32.

To first order, the loss of float32 is off by no more than the roundings inside of each layer, carried on to the loss:

.. math::
    |\tilde L - L| \le \sum_{\mathrm{layers}} \sum_i \left|\frac{\partial L}{\partial y_i}\right| \beta(y_i)

with beta the bound of the layer's sums in any order (:func:`bound_rounding`). Gradients may be off, in their norm, by
:data:`steps.ALLOWANCE` times what those of PyTorch in float32 are. The program ends with an error at the first step
where either fails, where something is compiled after the first steps, or where memory grows.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
import time
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - its usual name

from omniconv.bench.machine import describe_machine
from omniconv.torch import convert
from omniconv.torch.programs import PROGRAMS
from steps import ALLOWANCE, LAYOUTS, distance, find_gradients, find_memory

UNIT: Final = 2.0**-24
"""What one operation in float32 rounds by, at most, in parts of its result."""
CLASSES: Final = 10
POOL: Final = 64
"""Batches, which come again and again."""
RATE: Final = 0.1
SETTLED: Final = 50
"""Step after which nothing is compiled, and no more memory taken than :data:`MORE`."""
MORE: Final = 2**23
"""Bytes by which the process may grow afterwards: the reports of these steps, and what PyTorch keeps for its own."""
REPORT: Final = Path("build/bench/curves.json")


def make_model() -> nn.Sequential:
    """The network."""
    layers: list[nn.Module] = []
    for conv in (
        nn.Conv2d(3, 16, 3, 2, 1, bias=False),
        nn.Conv2d(16, 16, 3, 1, 1, groups=16, bias=False),
        nn.Conv2d(16, 32, 1),
        nn.Conv2d(32, 32, 5, 2, 4, 2, groups=32, bias=False),
        nn.Conv2d(32, 32, 3, 1, 1, groups=8, bias=False),
        nn.Conv2d(32, 64, 1, bias=False),
    ):
        layers += [conv, nn.BatchNorm2d(conv.out_channels), nn.SiLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, CLASSES))


def make_batches(batch: int) -> list[tuple[Tensor, Tensor]]:
    """Noisy images of as many patterns as there are classes."""
    patterns = torch.randn(CLASSES, 3, 16, 16)
    found = []
    for _ in range(POOL):
        classes = torch.randint(CLASSES, (batch,))
        found.append((patterns[classes] + torch.randn(batch, 3, 16, 16), classes))
    return found


def gamma(count: int) -> float:
    """The factor of so many roundings, one after another."""
    return count * UNIT / (1 - count * UNIT)


def bound_rounding(layer: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """By how much float32 may miss y, the layer of this very x: all of it in float64.

    Sums of K products and a bias: gamma(K + 1) times the same sum of absolute values. A mean of N values is off by
    gamma(N) times the mean of absolute values, a variance by gamma(N + 4) of itself and what the mean is off; eight
    roundings follow. An exponential function is taken for eight.
    """
    match layer:
        case nn.Conv2d() | nn.Linear():
            absolute = copy.deepcopy(layer)
            for each in absolute.parameters():
                each.abs_()
            count = layer.weight[0].numel() + 1
            return gamma(count) * absolute(x.abs())
        case nn.BatchNorm2d():
            axes, count = (0, 2, 3), x.numel() // x.shape[1]
            mean = x.mean(axes, keepdim=True)
            variance = ((x - mean) ** 2).mean(axes, keepdim=True) + layer.eps
            off = gamma(count) * x.abs().mean(axes, keepdim=True)
            spread = (x - mean).abs()
            apart = gamma(count + 4) * variance + 2 * off * spread.mean(axes, keepdim=True) + off**2
            scale, shift = (each.abs().view(1, -1, 1, 1) for each in (layer.weight, layer.bias))
            slope = scale / variance.sqrt()
            return slope * (off + spread * apart / (2 * variance)) + gamma(8) * (slope * (spread + off) + shift)
        case nn.SiLU():
            return gamma(8) * y.abs()
        case nn.AdaptiveAvgPool2d():
            return gamma(x[0, 0].numel() + 1) * layer(x.abs())
        case nn.Flatten():
            return torch.zeros_like(y)
    raise AssertionError(f"no bound of {layer}")


def find_exactly(model: nn.Sequential, x: Tensor, classes: Tensor) -> tuple[list[Tensor], float]:
    """The loss and all gradients in float64, and the bound of the loss of float32."""
    values = [x.double()]
    for layer in model:
        values.append(layer(values[-1]))
    loss = F.cross_entropy(values[-1], classes)
    parameters = list(model.parameters())
    found = torch.autograd.grad(loss, [*parameters, *values[1:]])
    gradients, slopes = found[: len(parameters)], found[len(parameters) :]
    with torch.no_grad():
        # The last function: differences to the largest, exponentials, their sum, a logarithm, a mean.
        bound = gamma(CLASSES + len(classes) + 16) * float(values[-1].abs().amax() * 2 + loss)
        for layer, before, after, slope in zip(model, values, values[1:], slopes, strict=False):
            bound += float((slope.abs() * bound_rounding(layer, before, after)).sum())
    return [loss.detach(), *gradients], bound


def train(options: argparse.Namespace) -> list[dict[str, float]]:
    """All steps; what was found at each of them."""
    torch.manual_seed(0)
    batches = make_batches(options.batch)
    plain = make_model()
    last = options.layout == LAYOUTS[1]
    order: Any = torch.channels_last if last else torch.contiguous_format
    plain = plain.to(memory_format=order)
    exact, mine = copy.deepcopy(plain).double(), copy.deepcopy(plain)
    convert(mine)
    rows = []
    compiled = memory = 0
    for step in range(options.steps):
        x, classes = batches[step % POOL]
        x = x.contiguous(memory_format=order)
        ours = find_gradients(mine, x, classes)
        for other in (plain, exact):
            other.load_state_dict(mine.state_dict())
        theirs = find_gradients(plain, x, classes)
        found, bound = find_exactly(exact, x, classes)
        # A bias before a batch norm has no gradient but rounding, which no two ways share.
        kept = [place for place, value in enumerate(found) if place and value.norm() > 1e-9 * found[0].norm()]
        row = {"loss": float(found[0]), "bound": bound, "memory": find_memory(), "compiled": PROGRAMS.compiled}
        for name, values in (("ours", ours), ("torch", theirs)):
            row[name] = abs(float(values[0].double() - found[0]))
            row[f"{name} gradients"] = distance([values[place] for place in kept], [found[place] for place in kept])
        rows.append(row)
        check(step, row)
        if step == SETTLED:
            compiled, memory = PROGRAMS.compiled, find_memory()
        if step > SETTLED and (PROGRAMS.compiled > compiled or find_memory() > memory + MORE):
            raise SystemExit(
                f"step {step}: compiled {PROGRAMS.compiled - compiled}, {find_memory() - memory} bytes more"
            )
        with torch.no_grad():
            for each, slope in zip(mine.parameters(), ours[1:], strict=True):
                each -= RATE * slope
    return rows


def check(step: int, row: dict[str, float]) -> None:
    """End the program where a step is off by more than it may be."""
    for name in ("ours", "torch"):
        if not row[name] <= row["bound"]:
            raise SystemExit(f"step {step}: the loss of {name} is off by {row[name]:.1e}, bound {row['bound']:.1e}")
    if not row["ours gradients"] <= ALLOWANCE * row["torch gradients"]:
        raise SystemExit(
            f"step {step}: gradients are off by {row['ours gradients']:.1e}, PyTorch's {row['torch gradients']:.1e}"
        )


def main(arguments: list[str]) -> int:
    """Train, print, write a report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--layout", default=LAYOUTS[1], choices=LAYOUTS)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    began = time.perf_counter()
    rows = train(options)
    seconds, losses = time.perf_counter() - began, [row["loss"] for row in rows]
    print(f"{len(rows)} steps in {seconds:.0f} s, loss {losses[0]:.4f} to {losses[-1]:.4f}")
    print(f"loss: bounds from {min(row['bound'] for row in rows):.1e} to {max(row['bound'] for row in rows):.1e}")
    for name in ("ours", "torch"):
        worst = max(row[name] for row in rows)
        share = max(row[name] / row["bound"] for row in rows)
        gradients = max(row[f"{name} gradients"] for row in rows)
        print(f"  {name}: off by {worst:.1e} at most, {share:.1e} of the bound; gradients by {gradients:.1e}")
    ratio = max(row["ours gradients"] / row["torch gradients"] for row in rows)
    print(f"  gradients: ours at most {ratio:.2f} times as far off as PyTorch's of the same step")
    settled = rows[min(SETTLED, len(rows) - 1)]
    print(
        f"  after step {SETTLED}: compiled {rows[-1]['compiled'] - settled['compiled']:.0f}, memory "
        f"{settled['memory'] / 2**20:.1f} to {rows[-1]['memory'] / 2**20:.1f} MiB"
    )
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    REPORT.write_text(json.dumps({"machine": describe_machine(1), "layout": options.layout, "steps": rows}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
