"""Train a small PyTorch network of kinds that PyTorch has no layers for, and load the weights of a stack of its own."""

from __future__ import annotations

import torch

from omniconv.torch import convert, nn


def main() -> None:
    """Print losses, and how far the loaded layer is from PyTorch's stack."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        nn.Conv2d(3, 16, 3, stride=2, padding=1),
        torch.nn.ReLU(),
        nn.ShuffledGrouped2d(16, 32, 3, groups=4, padding=1, activation="relu"),
        nn.Mixed2d(32, (3, 5)),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(32, 2),
    )
    optimiser = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    x = torch.randn(16, 3, 16, 16).to(memory_format=torch.channels_last)
    target = (x.mean((1, 2, 3)) > 0).long()
    losses = []
    for _ in range(30):
        optimiser.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(x), target)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    print(f"loss {losses[0]:.3f} -> {losses[-1]:.3f}")
    assert losses[-1] < losses[0]

    # The parameters of a kind come in the order of the equivalent stack of PyTorch's layers.
    stack = torch.nn.Sequential(
        torch.nn.Conv2d(8, 8, 5, padding=2, groups=8), torch.nn.ReLU(), torch.nn.Conv2d(8, 12, 1)
    )
    layer = nn.DepthwiseSeparable2d(8, 12, 5, padding=2, activation="relu")
    layer.load_state_dict(dict(zip(layer.state_dict(), stack.state_dict().values(), strict=True)))
    x = torch.randn(2, 8, 14, 14)
    with torch.no_grad():
        print(f"largest difference {float((layer(x) - stack(x)).abs().max()):.1e}")
        torch.testing.assert_close(layer(x), stack(x), rtol=1e-4, atol=1e-5)
    print(convert(stack))


if __name__ == "__main__":
    main()
