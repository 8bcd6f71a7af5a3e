"""WebAssembly in the page: the modules as JSON, filled and run by JavaScript in a browser."""

from __future__ import annotations

import base64
import json

import numpy as np
import pytest
from tests.strategies import Problem

import omniconv as oc
from omniconv.errors import LimitError
from omniconv.explorer.document import make_document, make_policy
from omniconv.explorer.modules import PRESETS, compile_asked, make_presets, make_taps
from omniconv.kinds import kinds
from omniconv.reference import error_bound
from omniconv.spec import parse
from omniconv.web.packing import flatten_weights

RUN = """
async ([module, level, flat, x]) => {
  const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const { instance } = await WebAssembly.instantiate(bytes(module[level]));
  const { memory, run } = instance.exports;
  const index = new Int32Array(bytes(module.weights.index).buffer);
  const packed = new Float32Array(memory.buffer, module.weights.offset, index.length);
  index.forEach((from, to) => { if (from >= 0) packed[to] = flat[from]; });
  new Float32Array(memory.buffer, module.input.offset, x.length).set(x);
  const size = module.output.shape.reduce((a, b) => a * b, 1);
  const y = new Float32Array(memory.buffer, module.output.offset, size).fill(NaN);
  run();
  return Array.from(y);
}
"""


@pytest.fixture(scope="module")
def page(browser, tmp_path_factory):
    """An empty page under the policy of the explorer."""
    path = tmp_path_factory.mktemp("page") / "page.html"
    policy = make_policy("", "").replace('"', "&quot;")
    path.write_text(f'<!doctype html><meta http-equiv="Content-Security-Policy" content="{policy}">')
    context = browser.new_context()
    found = context.new_page()
    found.goto(path.as_uri())
    yield found
    context.close()


def check(page, spec, shape, module):
    x, weights = Problem(spec, shape).draw(0)
    expected = oc.reference(spec, x, weights)
    flat = flatten_weights(spec, weights).tolist()
    for level in ("simd", "relaxed"):
        y = page.evaluate(RUN, [module, level, flat, x.ravel().tolist()])
        y = np.array(y, np.float32).reshape(expected.shape)
        assert (np.abs(y - expected) <= error_bound(spec, x, weights)).all(), (str(spec), level)


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=pytest.mark.wide, id=name) for name, kind in kinds().items()]
)
def test_every_sample_runs_in_a_browser(page, kind, tally):
    for sample in kind.samples:
        spec = kind.build(sample)
        check(page, spec, sample.shape, compile_asked(spec, sample.shape))
        tally("samples in WebAssembly in a browser")


@pytest.mark.parametrize("name", ["mixed", "transposed", "sub_pixel"])
def test_a_sample_runs_in_a_browser(page, name):
    kind = kinds()[name]
    spec, shape = kind.build(kind.samples[0]), kind.samples[0].shape
    check(page, spec, shape, json.loads(json.dumps(compile_asked(spec, shape))))


def test_presets_are_layers_for_a_picture():
    assert [preset["name"] for preset in make_presets()] == list(PRESETS)
    for preset in make_presets():
        spec, shape = parse(PRESETS[preset["name"]])
        assert preset["module"]["text"] == spec.text(shape)
        assert spec.output_shape(shape) == shape
        assert shape[2:] == (512, 512)
        assert base64.b64decode(preset["module"]["relaxed"])[:4] == b"\0asm"


def test_what_every_page_carries_is_small():
    assert len(json.dumps([make_taps(), *make_presets()])) < 150_000
    assert len(make_document({"taps": make_taps(), "presets": make_presets()})) < 1_500_000


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("pointwise n1 ic1 oc1 ih5000 iw5000 kh1 kw1", "25000000 elements in one value; need at most 16777216 in"),
        ("pointwise ic2000 oc2000 ih8 iw8 kh1 kw1", "4000000 weights; need at most 1048576"),
        ("convolution ic1 oc1 ih99 iw99 kh65 kw64", "4160 taps; need at most 4096"),
        ("chain iw9999 > convolution ic1 oc1 kw4000 > convolution ic1 oc1 kw97", "4097 taps; need at most 4096"),
        ("chain n1 ih8 iw8 > " + " > ".join(["pointwise ic1 oc1 kh1 kw1"] * 33), "33 steps; need at most 32"),
        (
            "chain n1 iw8 > split " + " + ".join(["pointwise ic1 oc1 kw1"] * 33),
            "33 convolutions; need at most 32 in the explorer",
        ),
        ("chain n1 iw8 > resize f9999999 nearest > pointwise ic1 oc1 kw1", "79999992 elements in one value"),
    ],
)
def test_a_layer_that_is_too_large_is_refused_before_it_is_planned(monkeypatch, line, message):
    monkeypatch.setattr("omniconv.explorer.modules.compile_web", None)
    spec, shape = parse(line)
    with pytest.raises(LimitError, match=message):
        compile_asked(spec, shape)


@pytest.mark.wide
@pytest.mark.parametrize(
    "line",
    [
        "convolution n1 ic1 oc1 ih128 iw128 kh64 kw64",
        "depthwise n1 ic1024 oc1024 ih128 iw128 kh3 kw3 g1024",
        "pointwise n1 ic1024 oc1024 ih8 iw8 kh1 kw1",
        "convolution n1 ic1 oc1 iw16777216 kw4096",
    ],
)
@pytest.mark.timeout(30)
def test_the_largest_layers_are_compiled_in_time(line):
    spec, shape = parse(line)
    assert compile_asked(spec, shape)["text"] == spec.text(shape)
