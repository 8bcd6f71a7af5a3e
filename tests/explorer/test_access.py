"""The page is for everyone: by all rules of axe-core, in light and dark, large, without colours, without motion."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.axe import judge
from tests.explorer.fold import unfold

from omniconv.explorer import explore
from omniconv.kinds import kinds

TABS = ("know", "run-on-a-picture", "checkerboard", "learn", "take-along")


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return explore("cross_correlation").save(tmp_path_factory.mktemp("access") / "explorer.html")


@pytest.fixture
def open_page(browser, file):
    """The page in a context of one's own; at the end nothing was said on the console, and nothing asked for."""
    contexts, wrong = [], []

    def open_(address="", **options):
        context = browser.new_context(**({"viewport": {"width": 1280, "height": 900}} | options))
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: wrong.append(message.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda request: request.url.startswith(("file:", "blob:")) or wrong.append(request.url))
        page.goto(file.as_uri() + address)
        return page

    yield open_
    for context in contexts:
        context.close()
    assert wrong == []


def show_all_tabs(page) -> None:
    """Every panel as it is when it is chosen, all at once: one judgement instead of five."""
    for tab in TABS:
        page.click(f"#tab-{tab}")
    page.evaluate("for (const panel of document.querySelectorAll('[role=tabpanel]')) panel.hidden = false")


def open_all(page) -> None:
    page.evaluate("for (const details of document.querySelectorAll('details')) details.open = true")
    page.wait_for_timeout(50)  # they are filled by an event


@pytest.mark.wide
@pytest.mark.parametrize("scheme", ["light", pytest.param("dark", marks=pytest.mark.wide)])
def test_axe_finds_no_violation(open_page, scheme):
    page = open_page(color_scheme=scheme)
    show_all_tabs(page)
    assert judge(page) == []
    unfold(page.locator(".stage"))
    page.get_by_label("stride, width").fill("0")
    assert page.locator(".refusal").text_content() != ""
    assert judge(page, ".stage") == judge(page, ".refusal") == []


def test_axe_would_find_one(open_page):
    page = open_page()
    assert judge(page, ".top") == []
    page.evaluate("document.querySelector('.top label').removeAttribute('for')")
    assert [found.split()[0] for found in judge(page, ".top")] == ["select-name"]


@pytest.mark.wide
@pytest.mark.parametrize(("scheme", "first"), [("light", 0), ("dark", 1)])
def test_axe_finds_no_violation_in_any_kind(open_page, scheme, first):
    page = open_page(color_scheme=scheme)
    show_all_tabs(page)
    open_all(page)
    assert judge(page) == []
    page.click("#tab-know")
    for kind in list(kinds())[first::2]:
        page.select_option("#kind", kind)
        assert judge(page, ".see") == judge(page, "#panel-know") == judge(page, "aside") == [], kind
    page = open_page("?embed#kind=mixed", color_scheme=scheme)
    assert judge(page) == []


@pytest.mark.parametrize(
    ("how", "options", "size"),
    [
        # At 200 % a window of 1280 x 900 is one of 640 x 450 whose pixels are twice as large.
        ("zoomed", {"viewport": {"width": 640, "height": 450}, "device_scale_factor": 2}, "100%"),
        ("large letters", {}, "200%"),
    ],
)
def test_at_200_per_cent_nothing_is_cut_off_sideways(open_page, how, options, size):
    page = open_page(**options)
    page.evaluate("size => (document.documentElement.style.fontSize = size)", size)
    width = page.viewport_size["width"]
    for kind in ("cross_correlation", "shuffled_grouped"):
        page.select_option("#kind", kind)
        for tab in TABS:
            page.click(f"#tab-{tab}")
            assert page.evaluate("document.documentElement.scrollWidth") <= width, (kind, tab)


PIXELS = """
name => {
  const canvas = document.querySelector(".stage canvas");
  const own = Object.assign(document.createElement("canvas"), { width: canvas.width, height: canvas.height })
    .getContext("2d", { willReadFrequently: true });
  // System colours may be translucent: on paper, as they are drawn.
  for (own.fillStyle of ["Canvas", name]) own.fillRect(0, 0, 1, 1);
  const [r, g, b] = own.getImageData(0, 0, 1, 1).data;
  own.drawImage(canvas, 0, 0);
  const { data } = own.getImageData(0, 0, canvas.width, canvas.height);
  let count = 0;
  for (let i = 0; i < data.length; i += 4) count += data[i] === r && data[i + 1] === g && data[i + 2] === b;
  return count;
}
"""


def test_in_forced_colours_marks_and_choices_are_seen(open_page):
    page = open_page(forced_colors="active")
    assert page.evaluate("matchMedia('(forced-colors: active)').matches")
    page.wait_for_function("() => document.querySelector('.stage canvas').width > 100")
    drawn = {name: page.evaluate(PIXELS, name) for name in ("Canvas", "CanvasText", "Highlight")}
    assert min(drawn.values()) > 50, drawn
    tab = "element => getComputedStyle(element).borderBottomColor"
    assert page.locator("#tab-know").evaluate(tab) != page.locator("#tab-learn").evaluate(tab)
    colour = "element => getComputedStyle(element).backgroundColor"
    chosen = page.locator(".segmented input:checked + span").first.evaluate(colour)
    other = page.locator(".segmented input:not(:checked) + span").first.evaluate(colour)
    assert chosen != other


@pytest.mark.wide
def test_in_forced_colours_small_cells_show_their_signs(open_page):
    page = open_page("#text=convolution+ic1+oc1+kh3+kw3&sizes=1x80x80&seed=1", forced_colors="active")
    page.click("#tab-take-along")
    with page.expect_download() as saved:
        page.get_by_role("button", name="Save it as SVG").click()
    text = Path(saved.value.path()).read_text("utf-8")
    with page.expect_download() as saved:
        page.get_by_role("button", name="Save the numbers as CSV").click()
    rows = [row.split(",") for row in Path(saved.value.path()).read_text("utf-8").split()]
    shown = [float(value) for name, _, *values in rows if name in "xy" for value in values]
    assert 0 < shown.count(0) < 1000
    assert len(re.findall(r"h0v3\.5h0z", text)) == sum(value > 0 for value in shown)
    assert len(re.findall(r"h3\.5v0h-3\.5z", text)) == len(shown) - shown.count(0)


@pytest.mark.parametrize(("motion", "steps"), [("reduce", 0), pytest.param("no-preference", 1, marks=pytest.mark.wide)])
def test_motion_is_slow_where_little_is_wanted(open_page, motion, steps):
    page = open_page(reduced_motion=motion)
    page.clock.install()
    place = page.locator(".where")
    before = place.text_content()
    page.get_by_role("button", name="Play").click()
    page.clock.run_for(800)
    assert (place.text_content() != before) == bool(steps)
    page.clock.run_for(1000)
    assert place.text_content() != before
    seconds = page.get_by_role("button", name="New numbers").evaluate("e => getComputedStyle(e).transitionDuration")
    assert (seconds == "0s") == (motion == "reduce")


def test_an_embedded_page_is_the_picture_the_kernel_and_the_settings(open_page):
    page = open_page("?embed#kind=dilated", viewport={"width": 700, "height": 700})
    for name in (".stage canvas", ".kernel", ".controls"):
        assert page.locator(name).is_visible(), name
    for name in (".tabs", ".words", "#kind", ".line"):
        assert not page.locator(name).is_visible(), name
    page.get_by_label("dilation, width").fill("3")
    assert page.url.partition("?")[2].startswith("embed#kind=dilated&given=")
    assert "reads 9 of 81 inputs" in page.locator(".where").text_content()
    page = open_page("#kind=dilated")
    assert page.locator(".tabs").is_visible()
    assert page.get_by_label("The layer as one line of text").input_value().startswith("dilated n1 ic1 oc1 ih9 iw9")
    page = open_page("#kind=nothing")
    assert page.locator(".told").text_content() == "This address holds no layer; the first one is shown. "
