"""What the page writes of a layer in other languages computes that layer; its modules have the types they claim."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from tests.explorer import keras_stand_in
from tests.explorer.model import PAGE, ask, needs_node

import omniconv as oc
from omniconv.kinds import kinds
from omniconv.reference import random_weights, reference
from omniconv.spec import Activation, Chain

SAMPLES = [(kind, sample) for kind in kinds().values() for sample in kind.samples]


def _cases(language: str, lines=(), step: int = 1):
    requests, specs = [], []
    for line in lines:
        spec, shape = oc.parse(line)
        requests.append({"ask": "code", "language": language, "text": spec.text(shape)})
        specs.append((line, spec, shape))
    for kind, sample in SAMPLES[::step]:
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


def _read_keras_weights(spec, weights):
    """Weights as Keras keeps them: of each convolution, or of each group of a transposed one, and a bias of zeros."""
    specs = spec.convs if isinstance(spec, Chain) else (spec,)
    for conv, (w, _) in zip(specs, weights, strict=True):
        taps = tuple(range(2, w.ndim))
        w = np.flip(w, taps) if conv.flip else w
        if conv.transposed:
            for own in np.split(w, conv.groups):
                yield np.transpose(own, (*taps, 1, 0)), conv.out_channels // conv.groups
        else:
            yield np.transpose(w, (*taps, 1, 0)), conv.out_channels


@needs_node
@pytest.mark.parametrize("step", [5, pytest.param(1, marks=pytest.mark.wide)])
def test_keras_code_computes_the_layer(monkeypatch, step):
    """By Keras where it is installed, else by layers that follow its documentation."""
    pytest.importorskip("torch")
    if find_spec("keras") is None:
        monkeypatch.setitem(sys.modules, "keras", keras_stand_in)
    extra = [
        "depthwise_transposed ic4 oc8 ih3 iw4 kh3 kw2 sh2 sw3 pt1 pb0 pl0 pr1 ah1 aw0 g4",
        "transposed ic2 oc3 ih3 iw4 kh3 kw3 sh2 sw2 dh2 dw2 pt1 pb1 pl0 pr0 ah1 aw1 g1",
        "transposed ic1 oc2 iw5 kw2 sw4 aw2", "transposed ic1 oc1 iw5 kw4 sw2 pl1 pr1",
        "dilated ic2 oc2 ih9 iw8 kh3 kw2 sh2 sw3 dh2 dw3 pt2 pb1 pl0 pr4",
        "convolution ic2 oc3 ih7 iw8 kh3 kw5 sh2 sw3 same_upper",
        "convolution ic2 oc3 ih7 iw8 kh3 kw5 sh2 sw3 same_lower",
        "convolution ic2 oc3 ih7 iw8 kh3 kw5 pt2 pb1 pl1 pr3 reflect",
        "convolution ic2 oc3 ih7 iw8 kh3 kw5 pt2 pb1 pl1 pr3 circular",
        "convolution ic2 oc3 id3 ih5 iw4 kd3 kh3 kw3 pf1 pk1 pt1 pb1 pl1 pr1 replicate",
        "chain id2 ih3 iw4 > resize f2 linear > convolution ic2 oc2 kd1 kh3 kw3",
        "chain ih6 iw6 > depthwise ic3 oc6 kh3 kw3 sh2 sw2 same_upper g3 > pointwise ic6 oc4 kh1 kw1",
    ]  # fmt: skip
    for name, spec, shape, text, x, weights, expected in _cases("keras", extra, step):
        scope: dict = {}
        exec(compile(text, name, "exec"), scope)
        layer = scope["layer"]
        assert tuple(scope["y"].shape) == (shape[0], *expected.shape[2:], expected.shape[1]), name
        held = layer.get_weights()
        given = [array for pair in _read_keras_weights(spec, weights) for array in pair]
        separable = "SeparableConv" in text
        given = [array for i, array in enumerate(given) if not (separable and i == 1)]
        values = [
            np.zeros(place.shape) if isinstance(each, int) else np.reshape(each, place.shape)
            for each, place in zip(given, held, strict=True)
        ]
        layer.set_weights([value.astype(np.float32) for value in values])
        y = layer(np.moveaxis(x, 1, -1)).detach().numpy()
        np.testing.assert_allclose(np.moveaxis(y, -1, 1), expected, rtol=2e-4, atol=2e-4, err_msg=f"{name}\n{text}")


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
