"""Sphinx: how the documentation is built. `docs/build.py` gives it the pages, see docs/design/0020-documentation.md."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "src")]

import omniconv  # noqa: E402 - from this checkout

project = "Omniconv"
author = "The Omniconv authors"
release = omniconv.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "docstrings", "mathml"]
root_doc = "index"
default_role = "py:obj"
autodoc_typehints_format = "short"
autodoc_member_order = "bysource"
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = f"Omniconv {release}"
html_favicon = "_static/icon.svg"
html_css_files = ["omniconv.css"]
html_math_renderer = "mathml"
html_copy_source = False
# Summaries of search results would be fetched, which a page from a file may not do.
html_show_search_summary = False
html_show_sourcelink = False
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#b3005e", "color-brand-content": "#1f5f9f"},
    "dark_css_variables": {"color-brand-primary": "#ff7ab8", "color-brand-content": "#8cc2ff"},
}
