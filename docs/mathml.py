"""A Sphinx extension: formulas as MathML, which browsers draw themselves. No script and no font is fetched for them."""

from __future__ import annotations

from typing import Any

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx


def _write(display: str) -> Any:
    def visit(writer: Any, node: nodes.Element) -> None:
        writer.body.append(convert(node.astext(), display=display))
        raise nodes.SkipNode

    return visit


def setup(app: Sphinx) -> dict[str, bool]:
    """Add the renderer."""
    app.add_html_math_renderer("mathml", (_write("inline"), None), (_write("block"), None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
