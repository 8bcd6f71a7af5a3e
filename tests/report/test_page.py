"""The HTML page: complete, offline, sortable, and deaf to hostile names."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import pytest
from tests.report import models
from tests.report.conftest import inspect_model

from omniconv.inline import hash_inline, write_json
from omniconv.report.page import make_page, write_page

pytest.importorskip("jinja2")
pytest.importorskip("plotly")


class Elements(HTMLParser):
    """Which elements and attributes a page has, and the text of its scripts."""

    def __init__(self, page):
        super().__init__(convert_charrefs=True)
        self.names, self.attributes, self.scripts, self.inside = [], [], [], False
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.names.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        self.inside = tag == "script"
        if self.inside:
            self.scripts.append("")

    def handle_endtag(self, tag):
        self.inside = False

    def handle_data(self, data):
        if self.inside:
            self.scripts[-1] += data


@pytest.fixture(scope="module")
def hostile_page():
    return make_page(inspect_model(models.hostile(), models.HOSTILE[1]))


@pytest.fixture
def opened(browser, tmp_path):
    """Open a page: the page, what it wrote to the console, and what it asked for."""
    pages = []

    def run(found, width=1280):
        path = write_page(found, tmp_path / "report.html")
        page = browser.new_page(viewport={"width": width, "height": 900})
        pages.append(page)
        messages, requests = [], []
        page.on("console", lambda message: messages.append(message.text))
        page.on("pageerror", lambda error: messages.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(path.as_uri())
        page.wait_for_selector("body[data-ready]", timeout=120_000)
        return page, messages, requests, path

    yield run
    for page in pages:
        page.close()


def test_pages_are_equal_for_equal_inspections(awkward):
    page = make_page(awkward)
    assert page == make_page(awkward)
    assert "2026-01-02" in make_page(awkward, date="2026-01-02")
    for title in (
        "Summary",
        "Findings",
        "Layers",
        "Roofline",
        "Receptive field",
        "Overlap",
        "Coverage",
        "Separability",
    ):
        assert title in page


def test_a_page_refers_to_nothing_outside(awkward):
    found = Elements(make_page(awkward))
    for tag, name, value in found.attributes:
        if name in ("src", "href", "action", "data", "poster", "srcset", "formaction"):
            assert value.startswith(("#", "data:")), (tag, name, value)
        assert not name.startswith("on"), (tag, name)
    assert not {"iframe", "object", "embed", "base", "form", "img"} & set(found.names)


def test_the_policy_names_the_scripts_by_their_hashes(awkward):
    found = Elements(make_page(awkward))
    policy = next(value for tag, name, value in found.attributes if tag == "meta" and "default-src" in (value or ""))
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy.partition("script-src")[2].partition(";")[0]
    data, plotly, own = found.scripts
    assert hash_inline(plotly) in policy
    assert hash_inline(own) in policy
    assert set(json.loads(data)) >= {"chart-bars", "chart-treemap", "chart-growth", "chart-roofline", "overlap-0"}


def test_hostile_names_stay_text(hostile_page, awkward):
    found, plain = Elements(hostile_page), Elements(make_page(awkward))
    assert len(found.scripts) == len(plain.scripts) == 3
    assert not {"img", "svg", "a-b"} & set(found.names)
    assert "owned" in hostile_page
    assert "{{ 7 * 7 }} {% raw %} ${7*7}" in hostile_page
    assert "\u202e" not in hostile_page
    assert "\x07" not in hostile_page
    for figure in json.loads(found.scripts[0]).values():
        for text in _texts(figure):
            assert not re.search(r"<(?!br>|extra>|/extra>)", text), text


def _texts(value):
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts(item)


def test_json_cannot_leave_its_script():
    text = write_json({"</script>": ["<!--", "&", float("nan"), float("-inf"), 1.5]})
    assert not set("<>&") & set(text)
    assert json.loads(text) == {"</script>": ["<!--", "&", None, None, 1.5]}


def test_writing_is_whole_or_not_at_all(awkward, tmp_path):
    path = write_page(awkward, tmp_path / "page.html")
    assert [item.name for item in path.parent.iterdir()] == ["page.html"]


@pytest.mark.parametrize("parts", [(), ("overlap",), ("separability", "field")])
@pytest.mark.parametrize("timed", [False, True])
def test_pages_of_part_of_an_inspection(parts, timed):
    page = make_page(inspect_model(models.awkward(), parts=parts, timed=timed))
    assert ("chart-roofline" in page) == timed


def test_a_model_with_gaps_says_what_is_not_known():
    page = make_page(inspect_model(models.unsupported()))
    assert "What is not known" in page
    assert "some.where.Gadget" in page


@pytest.mark.wide
def test_plots_are_drawn_and_nothing_is_asked_for(opened, awkward):
    page, messages, requests, path = opened(awkward)
    places = page.locator(".plot").count()
    assert places >= 12
    for index in range(places):
        place = page.locator(".plot").nth(index)
        assert place.locator("svg, canvas").count() > 0
        box = place.bounding_box()
        assert box["width"] > 200
        assert box["height"] > 80
    assert page.locator("#overlap .heatmaplayer image, #overlap .heatmaplayer .hm").count() >= 2
    assert messages == []
    assert [url for url in requests if not url.startswith(("data:", "blob:"))] == [path.as_uri()]


@pytest.mark.wide
def test_the_table_sorts_and_filters(opened, awkward):
    page, messages, _, _ = opened(awkward)

    def column(index):
        return page.locator(f"#table tbody tr td:nth-child({index})").evaluate_all(
            "cells => cells.map(cell => cell.dataset.value)"
        )

    heading = page.locator("#table th", has_text="MACs").first
    heading.locator("button").click()
    assert heading.get_attribute("aria-sort") == "descending"
    macs = [float(value) for value in column(6)]
    assert macs == sorted(macs, reverse=True)
    assert len(set(macs)) > 2
    heading.locator("button").click()
    assert [float(value) for value in column(6)] == sorted(macs)
    page.locator("#table th", has_text="layer").locator("button").click()
    assert column(2) == sorted(column(2))
    page.fill("#filter", "dilated BLOCK5")
    shown = page.locator("#table tbody tr:visible")
    assert shown.count() == 1
    assert "block5" in shown.first.inner_text()
    assert messages == []


@pytest.mark.wide
def test_empty_cells_are_sorted_last(opened):
    page, _, _, _ = opened(inspect_model(models.awkward(), timed=False))
    page.locator("#table th", has_text="time").locator("button").click()
    page.locator("#table th", has_text="stride").locator("button").click()
    assert page.locator("#table tbody tr").count() > 5


@pytest.mark.wide
def test_hostile_names_do_nothing_in_a_browser(opened):
    page, messages, requests, path = opened(inspect_model(models.hostile(), models.HOSTILE[0]))
    page.wait_for_timeout(300)
    assert "owned'" in page.title()
    assert page.title().endswith("· Omniconv")
    assert page.locator(".plot a").count() == 0
    assert page.locator("main img").count() == 0
    assert page.locator("td", has_text=models.HOSTILE[3]).count() >= 1
    assert messages == []
    assert [url for url in requests if not url.startswith(("data:", "blob:"))] == [path.as_uri()]


@pytest.mark.wide
def test_injected_scripts_would_not_run(opened, awkward, tmp_path, browser):
    page = make_page(awkward).replace(
        "</main>", "<script>document.title='owned'</script><img src='http://x.invalid/'></main>"
    )
    path = tmp_path / "injected.html"
    path.write_text(page, encoding="utf-8")
    tab = browser.new_page()
    refused = []
    tab.on("requestfailed", lambda request: refused.append((request.url, request.failure)))
    tab.goto(path.as_uri())
    tab.wait_for_selector("body[data-ready]")
    assert "owned" not in tab.title()
    assert refused == [("http://x.invalid/", "csp")]
    tab.close()


@pytest.mark.wide
def test_narrow_screens_do_not_scroll_sideways(opened, awkward):
    page, messages, _, _ = opened(awkward, width=420)
    assert page.evaluate("document.documentElement.scrollWidth") <= 425
    assert messages == []
