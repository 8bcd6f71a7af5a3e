"""`make_document`: the explorer as one HTML file that needs nothing else, neither files nor a network.

The page's own script and style are named by their hashes in a content security policy that allows nothing else: no
request, no inline handler, no ``eval``. WebAssembly may be compiled (``wasm-unsafe-eval``), pictures may be shown from
``data:`` and ``blob:`` addresses, which nobody but the page itself can fill. A page that a server of
:mod:`omniconv.explorer.server` gives may ask that server, and no other.
"""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from importlib.resources import files
from string import Template
from typing import Any, Final

from omniconv.explorer.bundle import BundleError, bundle
from omniconv.inline import hash_inline, write_json

DATA_ID: Final = "omniconv-data"
"""The element that holds the page's data: ``<script type="application/json" id="omniconv-data">``."""


def make_document(data: Mapping[str, Any], *, served: bool = False, title: str = "Omniconv explorer") -> str:
    """The whole page.

    ``page.html`` is a :class:`string.Template` with the places ``$title``, ``$policy``, ``$style``, ``$script`` and
    ``$data``; a dollar sign of its own is written ``$$``. Scripts and styles are put in as they are.

    Args:
        data: what the page is given, see :func:`omniconv.explorer.data.make_data`.
        served: whether the page comes from a server that it may ask.
        title: of the document.

    Raises:
        BundleError: modules of the page that cannot be joined.
    """
    style, script = read_style(), bundle(read_modules())
    return Template(_read("page.html")).substitute(
        title=escape(title),
        policy=escape(make_policy(script, style, served=served), quote=True),
        style=style,
        script=script,
        data=f'<script type="application/json" id="{DATA_ID}">{write_json(data)}</script>',
    )


def make_policy(script: str, style: str, *, served: bool = False) -> str:
    """The content security policy of a page with this script and this style."""
    rules = {
        "default-src": "'none'",
        "script-src": f"'{hash_inline(script)}' 'wasm-unsafe-eval'",
        "style-src": f"'{hash_inline(style)}'",
        "img-src": "data: blob:",
        "media-src": "blob:",
        "worker-src": "blob:",
        "connect-src": "'self'" if served else "'none'",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    return "; ".join(f"{name} {value}" for name, value in rules.items())


def read_modules() -> dict[str, str]:
    """The page's modules by file name."""
    folder = files("omniconv.explorer") / "page"
    return {
        item.name: item.read_text(encoding="utf-8")
        for item in sorted(folder.iterdir(), key=lambda item: item.name)
        if item.name.endswith(".js")
    }


def read_style() -> str:
    """The page's style sheet.

    Raises:
        BundleError: a text that would end the inline style.
    """
    text = _read("style.css")
    if "</style" in text.lower():
        raise BundleError("style.css has '</style'", need="no text that ends an inline style")
    return text


def _read(name: str) -> str:
    return (files("omniconv.explorer") / "page" / name).read_text(encoding="utf-8")
