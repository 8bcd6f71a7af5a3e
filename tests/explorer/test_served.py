"""A page that a server gives runs layers by modules that the server compiles, and says where it gives none."""

from __future__ import annotations

import pytest

from omniconv.errors import LimitError
from omniconv.explorer.answers import ANSWERS
from omniconv.explorer.data import make_data
from omniconv.explorer.document import make_document
from omniconv.explorer.server import PageServer
from omniconv.explorer.start import find_start

LINES = (
    "convolution ic1 oc2 ih9 iw9 kh3 kw3 pt1 pb1 pl1 pr1",
    "chain ih9 iw9 > convolution ic1 oc3 kh3 kw3 > relu > transposed ic3 oc2 kh2 kw2 sh2 sw2",
)
NUMBERS = "#panel-run-on-a-picture p.note"
NONE = "; no module for this layer: the layer has 9 steps; need at most 8."
OWN = "by a WebAssembly module that Omniconv compiled for this layer."
ENDED = "word => document.querySelector('#panel-run-on-a-picture .result').textContent.includes(word)"


def refuse(asked):
    raise LimitError("the layer has 9 steps", need="at most 8")


@pytest.fixture(scope="module")
def document():
    spec, shape, kind = find_start()
    return make_document(make_data(spec, shape, kind=kind, served=True), served=True)


def run_line(page, line: str, ended: str) -> tuple[str, str]:
    """What is said of a line on a picture when `ended` is said: of the run, and of its values."""
    page.get_by_label("The layer as one line of text").fill(line)
    page.keyboard.press("Enter")
    page.wait_for_function(ENDED, arg=ended)
    said = page.locator("#panel-run-on-a-picture .result").text_content()
    return said, page.locator(NUMBERS).first.text_content()


@pytest.mark.wide
def test_the_server_compiles_the_layer_at_hand(browser, document):
    """The values are those of the kernel for any setting, with weights that are edited too."""
    found = []
    for answers, ended in ((ANSWERS, OWN), ({"compile": refuse}, NONE)):
        context, wrong = browser.new_context(), []
        page = context.new_page()
        page.on("pageerror", lambda error, wrong=wrong: wrong.append(str(error)))
        with PageServer(document, answers) as server:
            page.goto(server.url)
            page.click("#tab-run-on-a-picture")
            values = []
            for line in LINES:
                said, numbers = run_line(page, line, ended)
                assert said.endswith(ended)
                values.append(numbers)
                page.locator(".weights input").first.fill("4.5")
                assert page.locator("#panel-run-on-a-picture .result").text_content().endswith(ended)
                values.append(page.locator(NUMBERS).first.text_content())
            found.append(values)
        assert wrong == []
        context.close()
    assert found[0] == found[1]
    assert len(set(found[0])) == 4


@pytest.mark.wide
def test_a_server_that_is_gone_or_busy(browser, document):
    page = browser.new_page()
    with PageServer(document, ANSWERS) as server:
        page.goto(server.url)
        page.click("#tab-run-on-a-picture")
        server.turns.acquire()
        server.turns.acquire()
        run_line(page, LINES[0], "a module for this layer is being compiled")
        server.turns.release()
        page.wait_for_function(ENDED, arg=OWN)
        server.turns.release()
    said, _ = run_line(page, LINES[1], "no module")
    assert "; no module for this layer: the server gives none (" in said
    page.close()
