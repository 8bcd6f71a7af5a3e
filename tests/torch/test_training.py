"""Steps of training: weights that change at every step, losses and gradients of PyTorch, and nothing compiled anew.

``bench/curves.py`` holds a thousand steps in float32 against a written bound.
"""

from __future__ import annotations

import copy

import pytest

torch = pytest.importorskip("torch")
nn = torch.nn

from omniconv.torch import convert  # noqa: E402
from omniconv.torch.programs import PROGRAMS  # noqa: E402


def make_model():
    layers = []
    for conv in (nn.Conv2d(3, 12, 1), nn.Conv2d(12, 12, 3, 2, 1, groups=12, bias=False)):
        layers += [conv, nn.BatchNorm2d(conv.out_channels), nn.SiLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 4)).double()


@pytest.mark.wide
@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last], ids=["first", "last"])
def test_every_step_has_the_loss_and_gradients_of_torch_and_compiles_nothing(order) -> None:
    """PyTorch starts at every step from the weights of ours."""
    torch.manual_seed(0)
    other = make_model().to(memory_format=order)
    mine = copy.deepcopy(other)
    convert(mine)
    x = torch.randn(4, 3, 10, 8, dtype=torch.float64).contiguous(memory_format=order)
    classes = torch.tensor([0, 1, 2, 3])
    losses, compiled = [], []
    for _ in range(8):
        other.load_state_dict(mine.state_dict())
        found = []
        for model in (mine, other):
            loss = nn.functional.cross_entropy(model(x), classes)
            found.append([loss, *torch.autograd.grad(loss, list(model.parameters()))])
        torch.testing.assert_close(*found, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(list(mine.buffers()), list(other.buffers()), rtol=1e-9, atol=1e-12)
        with torch.no_grad():
            for each, slope in zip(mine.parameters(), found[0][1:], strict=True):
                each -= 0.5 * slope
        losses.append(float(loss.detach()))
        compiled.append(PROGRAMS.compiled)
    assert losses == sorted(losses, reverse=True), "the weights change"
    assert len(set(compiled)) == 1
