"""Whole models: layers converted in place, and the backend of `torch.compile`."""

from __future__ import annotations

import copy
import subprocess
import sys
import tomllib
import warnings
from pathlib import Path

import pytest

from omniconv.errors import DataError, HostWarning, LimitError, ShapeError, SpecError, UnsupportedError

torch = pytest.importorskip("torch")
nn, F = torch.nn, torch.nn.functional

import omniconv.torch.nn as onn  # noqa: E402
from omniconv.torch import convert, reports  # noqa: E402
from omniconv.torch.backend import backend  # noqa: E402

PROJECT = Path(__file__).parents[2] / "pyproject.toml"


class Block(nn.Module):
    """An inverted residual: what mobile networks are made of."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.expand = nn.Conv2d(channels, 2 * channels, 1, bias=False)
        self.norm = nn.BatchNorm2d(2 * channels)
        self.depthwise = nn.Conv2d(2 * channels, 2 * channels, 3, padding=1, groups=2 * channels)
        self.act = nn.ReLU6(inplace=True)
        self.project = nn.Conv2d(2 * channels, channels, 1)

    def forward(self, x):
        return x + self.project(self.act(self.depthwise(self.act(self.norm(self.expand(x))))))


def network() -> nn.Module:
    torch.manual_seed(4)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1),
        Block(8),
        nn.ConvTranspose2d(8, 6, 2, stride=2, groups=2),
        nn.SiLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Linear(6, 5),
    )


def step(model, x, optimiser):
    optimiser.zero_grad()
    loss = model(x).square().mean()
    loss.backward()
    optimiser.step()
    return loss.item()


def test_convert_changes_layers_in_place() -> None:
    model = network().eval()
    x = torch.randn(2, 3, 12, 10)
    want = model(x)
    layer, parameters = model[0], list(model.parameters())
    seen = []
    layer.register_forward_hook(lambda *_: seen.append(1))
    report = convert(model)
    assert list(report.converted) == ["0", "1.expand", "1.norm", "1.depthwise", "1.project", "2"]
    assert not report.left
    assert type(model[0]) is onn.Conv2d
    assert model[0] is layer
    assert all(a is b for a, b in zip(model.parameters(), parameters, strict=True))
    torch.testing.assert_close(model(x), want, rtol=1e-4, atol=1e-5)
    assert seen
    assert str(report).startswith("6 layers converted, 0 left\n  0: Conv2d(3, 8,")
    assert not convert(model).converted


def test_convert_says_what_it_leaves() -> None:
    class Special(nn.Conv2d):
        def forward(self, x):
            return -super().forward(x)

    model = nn.ModuleDict({"lazy": nn.LazyConv2d(3, 1), "special": Special(1, 1, 1), "plain": nn.Conv1d(1, 1, 1)})
    report = convert(model)
    assert list(report.converted) == ["plain"]
    assert "no weights yet" in report.left["lazy"]
    assert "derived" in report.left["special"]
    single = nn.Conv3d(1, 1, 1)
    assert list(convert(single).converted) == [""]
    assert type(single) is onn.Conv3d
    with pytest.raises(DataError, match="module is int"):
        convert(3)


def test_training_follows_torch() -> None:
    """Steps in turn: each is PyTorch's, and no program is compiled after the first.

    Both go on from the same numbers, because training magnifies what rounding leaves between them.
    """
    from omniconv.torch.programs import PROGRAMS

    mine, other = network().double(), network().double()
    mine[6].p = other[6].p = 0.0
    convert(mine)
    optimisers = [torch.optim.SGD(model.parameters(), 0.05) for model in (mine, other)]
    counts, losses = [], []
    for number in range(30):
        x = torch.randn(4, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(number))
        x = x.to(memory_format=torch.channels_last)
        pair = [step(model, x, optimiser) for model, optimiser in zip((mine, other), optimisers, strict=True)]
        assert pair[0] == pytest.approx(pair[1], rel=1e-12)
        for a, b in zip(mine.parameters(), other.parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)
        mine.load_state_dict(other.state_dict())
        counts.append((PROGRAMS.compiled, PROGRAMS.memory.size))
        losses.append(pair[0])
    assert counts[0] == counts[-1], "programs, and the memory that they work in"
    assert sum(losses[-10:]) < sum(losses[:10])


DISTRIBUTED = """
import sys, torch, torch.distributed as dist
from omniconv.torch import convert
from torch import nn
rank, file = int(sys.argv[1]), sys.argv[2]
dist.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=2)
torch.manual_seed(0)
model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3, groups=4))
convert(model)
x = torch.randint(-4, 5, (4, 3, 6, 6)).float()
with torch.no_grad():
    for parameter in model.parameters():
        parameter.copy_(torch.randint(-2, 3, parameter.shape).float())
import copy
alone = copy.deepcopy(model)
(alone(x).sum() / 2).backward()
shared = nn.parallel.DistributedDataParallel(model)
shared(x[2 * rank : 2 * rank + 2]).sum().backward()
assert all(torch.equal(a.grad, b.grad) for a, b in zip(model.parameters(), alone.parameters()))
print("equal")
dist.destroy_process_group()
"""


@pytest.mark.wide
def test_two_processes_make_the_step_of_one(tmp_path) -> None:
    """Whole numbers make every sum exact, so that the gradients are equal to the last bit."""
    run = lambda rank: subprocess.Popen(
        [sys.executable, "-c", DISTRIBUTED, str(rank), str(tmp_path / "store")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    for process in [run(0), run(1)]:
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
        assert "equal" in out


# The backend


def compiled(model, **options):
    torch._dynamo.reset()
    return torch.compile(model, backend=backend, options=options or None)


def test_training_under_torch_compile() -> None:
    mine, other = network().double(), network().double()
    mine[6].p = other[6].p = 0.0
    fast = compiled(mine)
    optimisers = [torch.optim.SGD(model.parameters(), 0.05) for model in (mine, other)]
    for _ in range(3):
        x = torch.randn(4, 3, 8, 8, dtype=torch.float64)
        pair = zip((fast, other), optimisers, strict=True)
        losses = [step(model, x, optimiser) for model, optimiser in pair]
        assert losses[0] == pytest.approx(losses[1], rel=1e-9)
    report = reports()[-1]
    assert len(report.operators) == 6
    assert "batch_norm" not in report.torch
    assert "operator: " in str(report)


@pytest.mark.wide
@pytest.mark.parametrize("last", [False, True], ids=["first", "last"])
def test_frozen_parts(last) -> None:
    model = network().eval()
    fast = compiled(model, freeze=True)
    with torch.no_grad():
        for batch in (2, 3):
            x = torch.randn(batch, 3, 12, 10)
            x = x.to(memory_format=torch.channels_last) if last else x
            torch.testing.assert_close(fast(x), model(x), rtol=1e-4, atol=1e-5)
        report = reports()[-1]
        assert [part.refused for part in report.parts] == [""]
        assert not report.torch, "all of it is one part"
        model[0].weight.mul_(2)
        torch.testing.assert_close(fast(x), model(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "how",
    ["data", *(pytest.param(each, marks=pytest.mark.wide) for each in ("inference", "assigned", "loaded", "strides"))],
)
def test_frozen_weights_that_change(how) -> None:
    model = nn.Conv2d(3, 3, 3, bias=False).eval()
    fast = compiled(model, freeze=True)
    x, new = torch.randn(2, 3, 6, 6), torch.randn(3, 3, 3, 3)
    with torch.no_grad():
        before = fast(x)
        for _ in range(2):  # memory that is given back may come again at the same address
            if how == "data":
                model.weight.data = new.clone()
            elif how == "assigned":
                model.weight = nn.Parameter(new.clone())
            elif how == "loaded":
                model.load_state_dict({"weight": new})
            elif how == "strides":
                model.weight.data = model.weight.data.transpose(2, 3)
            else:
                with torch.inference_mode():
                    model.weight.mul_(3)
            after = fast(x)
            torch.testing.assert_close(after, model(x), rtol=1e-4, atol=1e-4)
            assert not torch.equal(before, after)
            before, new = after, new + 1
    assert reports()[-1].parts[0].refused == ""


@pytest.mark.wide
def test_frozen_statistics_that_training_changes() -> None:
    """PyTorch's batch norms change them without counting it."""
    model = nn.Sequential(nn.Conv1d(3, 4, 1), nn.BatchNorm1d(4)).eval()
    fast, x = compiled(model, freeze=True), torch.randn(2, 3, 6)
    with torch.no_grad():
        for _ in range(2):
            torch.testing.assert_close(fast(x), model(x), rtol=1e-4, atol=1e-4)
            model.train()(x + 3)
            model.eval()
    assert reports()[-1].parts[0].refused == ""


def test_weights_that_are_attributes_of_the_graph() -> None:
    """PyTorch gives them so to every backend where inductor is told to freeze."""
    import torch._inductor.config as inductor

    model, x = nn.Conv1d(2, 3, 1).eval(), torch.randn(1, 2, 5)
    fast = compiled(model, freeze=True)
    with torch.no_grad(), inductor.patch(freezing=True):
        for _ in range(2):
            torch.testing.assert_close(fast(x), model(x))
            model.weight.mul_(2)
    part = reports()[-1].parts[0]
    assert (len(part._frozen), len(part._free)) == (2, 1), "weight and bias; the data"


def test_weights_of_inference_mode_are_not_frozen() -> None:
    with torch.inference_mode():
        model = nn.Conv1d(2, 3, 1).eval()
        fast = compiled(model, freeze=True)
        x = torch.randn(1, 2, 5)
        with pytest.warns(HostWarning, match="weights made in inference mode"):
            torch.testing.assert_close(fast(x), model(x))
        model.weight.mul_(2)
        torch.testing.assert_close(fast(x), model(x))
    assert "weights made in inference mode" in str(reports()[-1])


def test_lists_of_tensors_are_not_constants() -> None:
    """They are other tensors at every call: a part that held them would be compiled each time."""
    from omniconv.torch.parts import FrozenPart

    inner = torch.fx.symbolic_trace(lambda x, pair, w: torch.conv1d(input=x + pair[1], weight=w))
    part = FrozenPart("part", inner, [False, False, True])
    x, w = torch.randn(1, 2, 5), torch.randn(3, 2, 1)
    with torch.no_grad():
        with pytest.warns(HostWarning, match="a list of tensors"):
            part(x, torch.unbind(torch.ones(2, 1, 2, 5)), w)
        with warnings.catch_warnings():
            warnings.simplefilter("error", HostWarning)
            for _ in range(2):
                pair = torch.unbind(torch.randn(2, 1, 2, 5))
                assert torch.equal(part(x, pair, w), inner(x, pair, w))


def test_what_is_not_known_runs_in_torch() -> None:
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 1)

        def forward(self, x):
            x = torch.relu(self.first(x))
            x = torch.special.i0(x)
            return self.second(x) + torch.fft.fft(x).real

    model = Mixed().eval()
    fast = compiled(model, freeze=True)
    x = torch.randn(1, 3, 6, 6)
    with torch.no_grad():
        torch.testing.assert_close(fast(x), model(x), rtol=1e-4, atol=1e-4)
    report = reports()[-1]
    assert len(report.parts) == 2
    assert set(report.torch) >= {"special_i0", "fft_fft"}


def test_memory_that_others_see_is_not_overwritten() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv1d(2, 3, 1)

        def forward(self, x):
            y = self.conv(x)
            z = F.relu(y, inplace=True)
            return y, z, x

    model = Shared().eval()
    fast = compiled(model, freeze=True)
    x = torch.randn(1, 2, 5)
    with torch.no_grad():
        for got, want in zip(fast(x), model(x), strict=True):
            torch.testing.assert_close(got, want)


@pytest.mark.parametrize("how", ["method", "operator", "item"])
def test_the_order_of_changes_is_kept(how) -> None:
    """Both layers read x, and it changes in between."""

    class Changes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv1d(2, 3, 1)

        def forward(self, x):
            x = x.clone()
            y = self.conv(x)
            if how == "method":
                x.add_(1)
            elif how == "operator":
                x -= 1
            else:
                x[0] = 2
            return y + self.conv(x)

    model = Changes().eval()
    fast = compiled(model, freeze=True)
    x = torch.randn(1, 2, 5)
    with torch.no_grad():
        torch.testing.assert_close(fast(x), model(x))
    assert not reports()[-1].parts
    assert len(reports()[-1].operators) == 2


def test_a_part_that_is_refused_says_so(monkeypatch) -> None:
    from omniconv.torch import parts

    def refuse(*_args, **_options):
        raise UnsupportedError("no such operator", at="node")

    monkeypatch.setattr(parts, "compile_model", refuse)
    model = nn.Conv1d(2, 3, 1).eval()
    fast = compiled(model, freeze=True)
    x = torch.randn(1, 2, 5)
    with torch.no_grad():
        with pytest.warns(HostWarning, match="no such operator"):
            torch.testing.assert_close(fast(x), model(x))
        assert "no such operator" in str(reports()[-1])


@pytest.mark.parametrize(
    "kind",
    [UnsupportedError, *(pytest.param(each, marks=pytest.mark.wide) for each in (LimitError, ShapeError))],
    ids=lambda kind: kind.__name__,
)
def test_a_part_is_refused_for_some_shapes_alone(monkeypatch, kind) -> None:
    from omniconv.torch import parts

    real, calls = parts.export_fixed, []

    def refuse(module, inputs):
        calls.append(inputs[0].shape[2])
        if inputs[0].shape[2] > 8:
            raise kind("too long", at="node")
        return real(module, inputs)

    monkeypatch.setattr(parts, "export_fixed", refuse)
    inner = torch.fx.symbolic_trace(lambda x, w: torch.conv1d(input=x, weight=w))
    part = parts.FrozenPart("part", inner, [False, True])
    w = torch.randn(3, 2, 1)
    with torch.no_grad():
        with pytest.warns(HostWarning, match="too long") as seen:
            part(torch.randn(1, 2, 9), w)
        assert [item.filename for item in seen] == [__file__]
        with warnings.catch_warnings():
            warnings.simplefilter("error", HostWarning)
            for size in (9, 5, 9, 5):
                x = torch.randn(1, 2, size)
                torch.testing.assert_close(part(x, w), inner(x, w))
    assert calls == [9, 5]
    assert part.refused == "too long | node"


def test_padding_in_words() -> None:
    from omniconv.torch.backend import CONVOLUTIONS

    x, w = torch.randn(1, 2, 8, 7), torch.randn(3, 2, 4, 3)
    call = CONVOLUTIONS[torch.conv2d]
    for word in ("same", "valid"):
        torch.testing.assert_close(call(x, w, None, 1, word, (2, 3)), F.conv2d(x, w, None, 1, word, (2, 3)))
    torch.testing.assert_close(call(x, w, None, (2, 1), "valid"), F.conv2d(x, w, None, (2, 1), "valid"))
    for stride, word, match in ((2, "same", "stride=2; need stride=1"), (1, "full", "need one of same, valid")):
        with pytest.raises(RuntimeError):
            F.conv2d(x, w, None, stride, word)
        with pytest.raises(SpecError, match=match):
            call(x, w, None, stride, word)


def test_backend_refusals() -> None:
    model = nn.Conv1d(2, 3, 1)
    graph = torch.fx.symbolic_trace(copy.deepcopy(model))
    with pytest.raises(SpecError, match="option fast is unknown"):
        backend(graph, [], options={"fast": True})
    with pytest.raises(UnsupportedError, match="gradients may be wanted"):
        backend(graph, [], options={"freeze": True})
    with pytest.raises(DataError, match="options is int"):
        backend(graph, [], options=3)


@pytest.mark.wide
def test_the_backend_is_found_by_name(tmp_path) -> None:
    """As an installed package would declare it."""
    declared = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]["entry-points"]
    folder = tmp_path / "omniconv_backend-1.dist-info"
    folder.mkdir()
    lines = [f"[{group}]\n{name} = {value}\n" for group, items in declared.items() for name, value in items.items()]
    (folder / "entry_points.txt").write_text("".join(lines))
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: omniconv-backend\nVersion: 1\n")
    script = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "import torch\n"
        "layer = torch.nn.Conv1d(2, 3, 1)\n"
        "fast = torch.compile(layer, backend='omniconv')\n"
        "x = torch.ones(1, 2, 4)\n"
        "torch.testing.assert_close(fast(x), layer(x))\n"
        "from omniconv.torch import reports\n"
        "assert len(reports()[-1].operators) == 1"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
