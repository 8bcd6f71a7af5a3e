"""The documentation as a site: built without a warning, the same from a file and a server, alone in the world."""

from __future__ import annotations

import functools
import re
import runpy
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from tests.axe import judge

from omniconv.kinds import kinds

ROOT = Path(__file__).resolve().parents[1]
BUILD = runpy.run_path(str(ROOT / "docs" / "build.py"))
LOADED = re.compile(
    r"<(?:script|link|img|iframe|source|object|embed)\b[^>]*?\b(?:src|href|data)=[\"']?((?:https?:)?//[^\"' >]+)"
)
PAGES = ("index.html", "kinds/index.html", "kinds/transposed.html", "api/compile.html", "guide/analysis.html")


@pytest.mark.parametrize("kind", list(kinds()))
def test_the_page_of_a_kind_embeds_the_explorer_behind_its_figure(kind):
    text = (ROOT / "docs" / "kinds" / f"{kind}.md").read_text(encoding="utf-8")
    found = BUILD["embed"](text)
    assert f"```{{image}} ../pictures/kinds/{kind}.svg\n:alt: {kind}: " in found
    assert f'src="../_static/explorer.html?embed#kind={kind}"' in found
    assert (ROOT / "docs" / "pictures" / "kinds" / f"{kind}.svg").read_text(encoding="utf-8").startswith("<svg ")
    assert BUILD["embed"]((ROOT / "docs" / "index.md").read_text("utf-8")).count("<iframe") == 1
    with pytest.raises(ValueError, match="no figure"):
        BUILD["embed"]("# Words\n")


def test_no_figure_is_left_over():
    assert sorted(path.stem for path in (ROOT / "docs" / "pictures" / "kinds").iterdir()) == sorted(kinds())


@pytest.mark.wide
def test_figures_are_what_the_explorer_draws(browser):
    figures = runpy.run_path(str(ROOT / "docs" / "figures.py"))
    drawn = dict(figures["draw"](browser))
    assert list(drawn) == list(kinds())
    held = {kind: (figures["FOLDER"] / f"{kind}.svg").read_text(encoding="utf-8") for kind in drawn}
    assert [kind for kind in drawn if drawn[kind] != held[kind]] == [], "run: .venv/bin/python docs/figures.py"


def test_formulas_of_docstrings_stay_as_they_are_written():
    rewrite = runpy.run_path(str(ROOT / "docs" / "docstrings.py"))["rewrite"]
    lines = [
        "Sum.",
        "",
        "Formula:",
        "    y = x_",
        "      + *b*",
        "",
        "Args:",
        "    x: input.",
        "",
        "Numerics:",
        "    Exact.",
    ]
    assert rewrite(lines) == [
        "Sum.",
        "",
        ".. rubric:: Formula",
        "",
        "::",
        "",
        "    y = x_",
        "      + *b*",
        "",
        "Args:",
        "    x: input.",
        "",
        ".. rubric:: Numerics",
        "",
        "Exact.",
    ]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The documentation, built where every warning is an error."""
    folder = tmp_path_factory.mktemp("site")
    assert BUILD["build"](folder / "docs", folder / "source") == 0
    return folder / "docs"


@pytest.fixture(scope="module")
def served(site):
    handler = type("Quiet", (SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(handler, directory=str(site))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.mark.wide
def test_no_page_loads_anything_from_elsewhere(site):
    pages = [path for path in site.rglob("*.html") if path.name != "explorer.html"]
    assert len(pages) > 60
    for path in [*pages, *site.rglob("*.css")]:
        text = path.read_text(encoding="utf-8")
        found = LOADED.findall(text) if path.suffix == ".html" else re.findall(r"(?:url\(|@import )[\"']?https?:", text)
        assert found == [], path
    assert LOADED.findall('<script async src="https://cdn.example/x.js"></script>') == ["https://cdn.example/x.js"]
    assert len(list(site.rglob("explorer.html"))) == 1


@pytest.mark.wide
@pytest.mark.parametrize("how", ["file", "served"])
def test_pages_work_alone_and_open_the_explorer(browser, site, served, how):
    start = f"{site.as_uri()}/" if how == "file" else served
    context, wrong = browser.new_context(viewport={"width": 1280, "height": 900}), []
    page = context.new_page()
    page.on("console", lambda message: message.type in ("error", "warning") and wrong.append(message.text))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda request: request.url.startswith((start, "blob:", "data:")) or wrong.append(request.url))
    for kind in ("transposed", "shuffled_grouped"):
        page.goto(f"{start}kinds/{kind}.html")
        inner = page.frame_locator("iframe.explorer")
        inner.locator(".where", has_text="reads").wait_for()
        assert inner.locator("#kind").input_value() == kind
        assert not page.locator(".kind-figure").is_visible()
        inner.get_by_role("button", name="Step forward").click()
        assert "output" in inner.locator(".where").text_content()
    page.get_by_role("link", name="The whole explorer with this kind").click()
    page.locator("#tab-know").wait_for()
    assert page.locator("#kind").input_value() == "shuffled_grouped"
    page.locator(".words summary").first.click()
    with context.expect_page() as opened:
        page.get_by_role("link", name="docs/kinds/shuffled_grouped.md").click()
    assert opened.value.url == f"{start}kinds/shuffled_grouped.html"
    assert "shuffled_grouped" in opened.value.locator("h1").text_content()
    page.goto(f"{start}search.html?q=checkerboard")
    page.locator("#search-results li a", has_text="transposed").first.wait_for()
    page.goto(f"{start}guide/analysis.html")
    assert page.locator("math").count() > 20
    assert wrong == []
    context.close()


@pytest.mark.wide
def test_without_scripts_the_figure_stays(browser, site):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{site.as_uri()}/kinds/dilated.html")
    assert page.locator(".kind-figure").is_visible()
    assert not page.locator("iframe.explorer").is_visible()
    context.close()


@pytest.mark.wide
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_are_for_everyone(browser, site, scheme):
    context = browser.new_context(viewport={"width": 1280, "height": 900}, color_scheme=scheme)
    page = context.new_page()
    for name in (*PAGES, "search.html?q=dilated", "genindex.html"):
        page.goto(f"{site.as_uri()}/{name}")
        assert judge(page) == [], name
    page.set_viewport_size({"width": 390, "height": 800})
    for name in PAGES:
        page.goto(f"{site.as_uri()}/{name}")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, name
    context.close()
