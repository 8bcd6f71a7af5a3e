"""``omniconv explore`` and ``omniconv explain --open``."""

from __future__ import annotations

import re
import socket
import threading
import urllib.request

import pytest

from omniconv.explorer import explore
from omniconv.explorer.server import POLL_SECONDS, PageServer


@pytest.fixture
def opened(monkeypatch):
    """What a browser that is opened gets; then the user interrupts."""
    found = {}

    def open_page(url):
        found["url"] = url

    def serve(self):
        server = threading.Thread(target=super(PageServer, self).serve_forever, args=(POLL_SECONDS,), daemon=True)
        server.start()
        with urllib.request.urlopen(found.get("url") or self.url, timeout=10) as answer:
            found["page"] = answer.read().decode()
        self.shutdown()
        server.join()
        raise KeyboardInterrupt

    monkeypatch.setattr("webbrowser.open", open_page)
    monkeypatch.setattr(PageServer, "serve_forever", serve)
    return found


def test_a_file(invoke, tmp_path):
    path = tmp_path / "page.html"
    found = invoke("explore", "dilated", "--html", path)
    assert found.code == 0, found.err
    assert found.out == f"page: {path}\n"
    assert path.read_text(encoding="utf-8") == explore("dilated").page()


def test_a_page_in_the_browser(invoke, opened):
    found = invoke("explore", "dilated ic1 oc1 iw9 kw3 dw2")
    assert found.code == 0, found.err
    assert opened["url"] in found.out
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/[\w-]{32,}/", opened["url"])
    assert "dilated n1 ic1 oc1 iw9 kw3" in opened["page"]


def test_the_browser_may_stay_shut(invoke, opened):
    assert invoke("explore", "--no-open").code == 0
    assert "url" not in opened
    assert "page" in opened


def test_explain_opens_its_layer(invoke, opened):
    found = invoke("explain", "depthwise", "kernel_size=5", "padding=same", "-s", "1,64,28,28", "--open")
    assert found.code == 0, found.err
    assert "depthwise n1 ic64 oc64 ih28 iw28 kh5" in opened["page"]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["dilate"], 2, "no kind 'dilate'; need one that"),
        (["dilated", "--html", "page.txt"], 2, "--html page.txt has no known ending; need .html or .htm"),
        (["dilated", "--html", "none/page.html"], 3, "does not exist"),
        (["dilated", "-s", "1,2"], 3, "rank 2"),
        (["dilated", "-s", "a"], 2, "sizes are not integers"),
        (["conv ic1 oc1"], 3, "problem line begins with 'conv'"),
        (["dilated", "--port", "70000"], 2, "--port"),
        (["dilated", "--port", "0", "--html", "page.html"], 2, "--port belongs to the page that is served; --html"),
    ],
)
def test_wrong_words_are_one_line(invoke, words, code, message):
    found = invoke("explore", *words)
    assert found.code == code
    assert message in found.err
    assert found.err.count("\n") == 1
    assert found.out == ""


def test_a_taken_port_is_one_line(invoke):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        found = invoke("explore", "--no-open", "--port", port)
    assert found.code == 2
    assert f"port {port} is taken; need a free one, e.g. --port 0" in found.err
    assert found.err.count("\n") == 1
