"""What the page writes of a layer in other languages computes that layer; its modules have the types they claim."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from tests.explorer.model import PAGE, ask, needs_node

import omniconv as oc
from omniconv.kinds import kinds
from omniconv.reference import random_weights, reference
from omniconv.spec import Activation, Chain

SAMPLES = [(kind, sample) for kind in kinds().values() for sample in kind.samples]


def _cases(language: str):
    requests, specs = [], []
    for kind, sample in SAMPLES:
        spec = kind.build(sample)
        requests.append({"ask": "code", "language": language, "text": spec.text(sample.shape)})
        specs.append((f"{kind.name}: {sample}", spec, sample.shape))
    # A chain with every activation.
    names = ("clip", "leaky_relu", "elu", "hard_sigmoid", "abs", "neg", "exp", "gelu_tanh", "gelu")
    conv = oc.parse("convolution ic2 oc2 kw3 pl1 pr1")[0]
    steps = [
        step
        for name in names
        for step in (conv, Activation.of(name, **({"lo": -1.0, "hi": 1.0} if name == "clip" else {})))
    ]
    chain = Chain(tuple(steps))
    requests.append({"ask": "code", "language": language, "text": chain.text((1, 2, 9))})
    specs.append(("activations", chain, (1, 2, 9)))
    for (name, spec, shape), found in zip(specs, ask(requests), strict=True):
        rng = np.random.default_rng(1)
        x = rng.standard_normal(shape).astype(np.float32)
        weights = random_weights(spec, rng, bias=False)
        yield name, spec, shape, found["answer"], x, weights, reference(spec, x, weights)


@needs_node
def test_pytorch_code_computes_the_layer():
    torch = pytest.importorskip("torch")
    for name, spec, _, text, x, weights, expected in _cases("pytorch"):
        scope: dict = {}
        exec(compile(text, name, "exec"), scope)
        layer = scope["layer"]
        convs = [m for m in layer.modules() if isinstance(m, torch.nn.modules.conv._ConvNd)]
        specs = spec.convs if isinstance(spec, Chain) else (spec,)
        for module, conv, (w, _) in zip(convs, specs, weights, strict=True):
            mirrored = np.flip(w, tuple(range(2, w.ndim))).copy() if conv.flip else w
            module.weight.data = torch.from_numpy(mirrored)
            module.bias.data.zero_()
        y = layer(torch.from_numpy(x)).detach().numpy()
        np.testing.assert_allclose(y, expected, rtol=2e-4, atol=2e-4, err_msg=name)


@needs_node
def test_onnx_text_computes_the_layer():
    onnx = pytest.importorskip("onnx")
    parser = pytest.importorskip("onnx.parser")
    runtime = pytest.importorskip("onnxruntime")
    for name, _, _, text, x, weights, expected in _cases("onnx"):
        model = parser.parse_model(text)
        onnx.checker.check_model(model, full_check=True)
        session = runtime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        [y] = session.run(None, {"x": x} | {f"w{i}": w for i, (w, _) in enumerate(weights)})
        np.testing.assert_allclose(y, expected, rtol=2e-4, atol=2e-4, err_msg=name)


@needs_node
def test_omniconv_code_runs():
    for _, _, shape, text, *_, expected in list(_cases("omniconv"))[::9]:
        scope: dict = {}
        exec(compile(text, "omniconv", "exec"), scope)
        assert scope["shape"] == shape
        assert scope["y"].shape == expected.shape


def test_modules_have_the_types_they_claim(tmp_path):
    tsc = shutil.which("tsc")
    if tsc is None:
        pytest.skip("the TypeScript compiler is not installed; npm install --global typescript")
    options = {
        "allowJs": True, "checkJs": True, "strict": True, "noEmit": True, "target": "ES2022", "module": "ES2022",
        "moduleResolution": "bundler", "lib": ["ES2022", "DOM", "DOM.Iterable"], "types": [],
    }  # fmt: skip
    config = {"compilerOptions": options, "include": [str(Path(PAGE) / "*.js")]}
    (tmp_path / "tsconfig.json").write_text(json.dumps(config), encoding="utf-8")
    done = subprocess.run([tsc, "-p", str(tmp_path)], capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stdout
