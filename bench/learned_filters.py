"""Train the small networks whose first filters the explorer offers as "learned", and write them.

    python bench/learned_filters.py            writes src/omniconv/explorer/page/learned.js

A network is a convolution of 1 to 8 channels, ReLU, a convolution of 8 to 16 with stride 2, ReLU and a linear layer to
10 classes. It learns scikit-learn's 1,797 handwritten digits of 8 x 8 pixels (`pip install scikit-learn`), three
quarters of them, and is tested on the rest. One network has filters of 3 x 3 and one of 5 x 5. Each filter is scaled to
a largest weight of 1 and rounded to two digits; the strongest comes first.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

FILE = Path(__file__).parent.parent / "src" / "omniconv" / "explorer" / "page" / "learned.js"
FILTERS, CLASSES, EPOCHS, BATCH = 8, 10, 60, 64


def read_digits() -> tuple[torch.Tensor, torch.Tensor]:
    """Pictures from 0 to 1 as (n, 1, 8, 8), and their classes."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    return torch.tensor(digits.images[:, None] / 16, dtype=torch.float32), torch.tensor(digits.target)


def train(size: int, x: torch.Tensor, labels: torch.Tensor) -> tuple[npt.NDArray[np.float64], float]:
    """The first filters of a network, the strongest first, and the share of test digits that it names rightly."""
    torch.manual_seed(size)
    order = torch.randperm(len(x))
    known, unknown = order[: len(x) * 3 // 4], order[len(x) * 3 // 4 :]
    first = nn.Conv2d(1, FILTERS, size, padding=size // 2)
    net = nn.Sequential(
        first,
        nn.ReLU(),
        nn.Conv2d(FILTERS, 16, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(256, CLASSES),
    )
    optimiser = torch.optim.AdamW(net.parameters(), lr=3e-3, weight_decay=0.05)
    for _ in range(EPOCHS):
        for part in known[torch.randperm(len(known))].split(BATCH):
            optimiser.zero_grad()
            nn.functional.cross_entropy(net(x[part]), labels[part]).backward()
            optimiser.step()
    with torch.no_grad():
        right = float((net(x[unknown]).argmax(1) == labels[unknown]).double().mean())
    filters = first.weight.detach().double().numpy().reshape(FILTERS, size * size)
    filters = filters[np.argsort(-np.linalg.norm(filters, axis=1))]
    return filters / np.abs(filters).max(axis=1, keepdims=True), right


def main() -> None:
    """Train both networks and write the module of the page."""
    torch.set_num_threads(1)
    x, labels = read_digits()
    found = {size: train(size, x, labels) for size in (3, 5)}
    words = ", ".join(f"{100 * right:.1f} % with filters of {size} × {size}" for size, (_, right) in found.items())
    lines = [
        "/**",
        " * First filters of two small networks that learned handwritten digits, made by bench/learned_filters.py;",
        f" * of the digits that they did not see they name {words}.",
        " */",
        "",
        "/** Filters row by row, by the size of their sides. @type {Record<string, number[][]>} */",
        "export const LEARNED = {",
    ]
    for size, (filters, _) in found.items():
        rows = [json.dumps([round(value, 2) + 0.0 for value in row.tolist()]) for row in filters]
        lines += [f"  {size}: [", *(f"    {row}," for row in rows), "  ],"]
    FILE.write_text("\n".join([*lines, "};", ""]), encoding="utf-8")
    print(words)


if __name__ == "__main__":
    main()
