"""The page is one file that works without a network, and runs nothing but its own script."""

from __future__ import annotations

import json
import re
from html import unescape
from importlib.util import find_spec
from pathlib import Path

import pytest
from tests.explorer.model import ask, needs_node

import omniconv as oc
from omniconv.errors import OmniconvError, ShapeError, SpecError
from omniconv.explorer import explore
from omniconv.explorer.bundle import BundleError, bundle
from omniconv.explorer.data import describe_spec, make_data
from omniconv.explorer.document import make_document, read_modules, read_style
from omniconv.explorer.start import find_start
from omniconv.inline import hash_inline
from omniconv.kinds import kinds
from omniconv.spec import Activation, Chain, Conv, PixelShuffle, Resize, Shuffle, Split

STEPS = {"conv": Conv, "shuffle": Shuffle, "pixel_shuffle": PixelShuffle, "resize": Resize}


def read_spec(found):
    """A spec from the form that the page gets."""
    match found:
        case {"type": "chain"}:
            return Chain(tuple(map(read_spec, found["steps"])))
        case {"type": "split"}:
            return Split(tuple(map(read_spec, found["branches"])))
        case {"type": "activation"}:
            return Activation.of(found["name"], **{name: float(value) for name, value in found["parameters"].items()})
    fields = {name: value for name, value in found.items() if name not in ("type", "label", "weight_shape")}
    return STEPS[found["type"]](**fields)


def read_data(page):
    block = re.search(r'<script type="application/json" id="omniconv-data">(.*?)</script>', page, re.DOTALL)
    return json.loads(block[1])


def test_the_policy_names_script_and_style_and_nothing_else():
    page = explore("depthwise").page()
    policy = unescape(re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)[1])
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == rules["connect-src"] == "'none'"
    assert rules["script-src"] == f"'{hash_inline(bundle(read_modules()))}' 'wasm-unsafe-eval'"
    assert rules["style-src"] == f"'{hash_inline(read_style())}'"
    assert "connect-src 'self'" in unescape(make_document({}, served=True))
    assert not re.search(r'(src|href)\s*=\s*"?(https?:|//)', page)


def test_every_kind_has_its_words_parameters_and_samples():
    start = find_start("mixed")
    data = json.loads(json.dumps(make_data(start.spec, start.shape, kind="mixed")))
    assert [kind["name"] for kind in data["kinds"]] == list(kinds())
    assert read_data(explore("mixed").page()) == data
    for kind in data["kinds"]:
        assert {"Summary", "Formula", "Use", "Legality", "Cost", "Sources"} <= set(kind["doc"])
        assert all(parameter["help"] for parameter in kind["parameters"]), kind["name"]
        for parameter in kind["parameters"]:
            assert parameter["required"] is False or parameter["typical"] is not None
        for found, sample in zip(kind["samples"], kinds()[kind["name"]].samples, strict=True):
            spec = kinds()[kind["name"]].build(sample)
            assert read_spec(found["spec"]) == spec
            assert oc.parse(found["text"]) == (spec, tuple(found["shape"]))
            assert found["output"] == list(spec.output_shape(sample.shape))
        for found, sample in zip(kind["errors"], kinds()[kind["name"]].errors, strict=True):
            assert re.search(sample.match, found["message"])


def test_documentation_and_code_that_the_page_names_are_there():
    root = Path(__file__).parents[2]
    data = read_data(explore("mixed").page(documentation="../docs"))
    assert data["links"]["documentation"] == "../docs"
    for kind in data["kinds"]:
        assert (root / "docs" / "kinds" / f"{kind['name']}.md").is_file()
        source = (root / "src" / Path(*kind["module"].split("."))).with_suffix(".py").read_text("utf-8")
        head, _, body = kind["code"].partition(":\n    ")
        assert head.startswith(f"def {kind['name']}(")
        assert head in source
        assert body in source
        assert '"""' not in body


@needs_node
def test_lessons_name_a_kind_and_code_that_is_there():
    [answer] = ask([{"ask": "lessons"}])
    assert len(answer["answer"]) == 13
    for lesson in answer["answer"]:
        assert lesson["kind"] in kinds()
        assert find_spec(lesson["module"]).origin.endswith(".py"), lesson["title"]
        for line in filter(None, (lesson["open"], lesson.get("cure"))):
            oc.parse(line)


def test_infinite_parameters_are_texts():
    found = describe_spec(Chain((Conv.of(1, 1, 1), Activation.of("clip"))))
    assert found["steps"][1]["parameters"] == {"lo": "-inf", "hi": "inf"}
    assert read_spec(json.loads(json.dumps(found))) == Chain((Conv.of(1, 1, 1), Activation.of("clip")))


def test_a_start_is_a_kind_a_line_or_a_spec():
    spec = Conv.of(2, 4, 3, stride=2)
    assert find_start() == find_start("cross-correlation")
    assert find_start(spec) == (spec, (1, 2, 8, 8), None)
    assert find_start(spec, (1, 2, 9, 9)) == find_start(spec.text((1, 2, 9, 9)))
    assert find_start(Conv.of(1, 1, 20)).shape == (1, 1, 32, 32)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("depthwize",), SpecError, "kind='depthwize' is unknown; need one of"),
        (("conv ic1",), SpecError, "problem line begins with 'conv'"),
        ((3,), SpecError, "spec=3 is none; need a kind"),
        (("depthwise", (1, 2, 3)), ShapeError, "rank 3"),
        ((Conv.of(1, 1, 2000),), ShapeError, "kernel extent 2000"),
    ],
)
def test_a_wrong_start_is_refused(arguments, error, message):
    with pytest.raises(error, match=message) as found:
        explore(*arguments)
    assert isinstance(found.value, OmniconvError)


def test_a_notebook_gets_a_frame_that_holds_the_page():
    found = explore("pointwise")
    frame = found._repr_html_()
    assert unescape(re.search(r'srcdoc="([^"]*)"', frame)[1]) == found.page()
    assert 'sandbox="allow-scripts allow-downloads allow-popups"' in frame
    assert oc.explore is explore


def test_a_style_that_would_end_its_element_is_refused(monkeypatch):
    monkeypatch.setattr("omniconv.explorer.document._read", lambda name: "a { content: '</Style>' }")
    with pytest.raises(BundleError, match="no text that ends an inline style"):
        read_style()


def test_a_page_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "page.html"
    assert explore("pointwise").save(path) == path
    assert path.read_text(encoding="utf-8") == explore("pointwise").page()
    with pytest.raises(OSError, match=r"none"):
        explore("pointwise").save(tmp_path / "none" / "page.html")
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("how", ["file", "frame"])
def test_the_page_works_alone(browser, tmp_path, how):
    found = explore("dilated")
    path = tmp_path / "page.html"
    path.write_text(found.page() if how == "file" else f"<!doctype html>{found._repr_html_()}", encoding="utf-8")
    context = browser.new_context()
    page = context.new_page()
    said, asked = [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(path.as_uri())
    inner = page if how == "file" else page.frame_locator("iframe")
    inner.locator("main h1, main h2").first.wait_for()
    assert said == []
    assert [url for url in asked if not url.startswith(("blob:", "data:", "about:srcdoc"))] == [path.as_uri()]
    context.close()
