"""A Sphinx extension: our own sections of docstrings (Formula, Numerics, ...) in the form that Sphinx reads.

Docstrings are written to be read in an editor. A formula there is indented text, which becomes a literal block; the
other sections that napoleon does not know become paragraphs below their names.
"""

from __future__ import annotations

import re
from typing import Any, Final

from sphinx.application import Sphinx

LITERAL: Final = frozenset({"Formula"})
PLAIN: Final = frozenset({"Use", "Legality", "Cost", "Numerics", "Sources", "Shapes"})
_HEAD: Final = re.compile(r"([A-Z]\w+):$")


def rewrite(lines: list[str]) -> list[str]:
    """The lines of a docstring with our own sections rewritten.

    Example:
        >>> rewrite(["Formula:", "    y = 2 x", "", "Numerics:", "    Exact."])
        ['.. rubric:: Formula', '', '::', '', '    y = 2 x', '', '.. rubric:: Numerics', '', 'Exact.']
    """
    found: list[str] = []
    inside = ""
    for line in lines:
        head = _HEAD.match(line)
        if head is not None:
            inside = head[1]
        if head is not None and inside in LITERAL | PLAIN:
            found += [f".. rubric:: {inside}", "", *(["::", ""] if inside in LITERAL else [])]
        else:
            found.append(line.removeprefix("    ") if inside in PLAIN else line)
    return found


def _process(app: Sphinx, what: str, name: str, item: Any, options: Any, lines: list[str]) -> None:  # noqa: ARG001
    lines[:] = rewrite(lines)


def setup(app: Sphinx) -> dict[str, bool]:
    """Rewrite before napoleon, whose priority is 500, reads the sections that it knows."""
    app.connect("autodoc-process-docstring", _process, priority=400)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
