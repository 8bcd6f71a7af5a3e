"""`render_page`: a template with texts that are escaped; `write_whole`: a page as a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omniconv.report.words import visible


def render_page(template: str, /, **values: Any) -> str:
    """A page. Texts are escaped and have no control characters; what is marked as safe stays as it is."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, finalize=_clean)
    page: str = environment.from_string(template).render(**values)
    return page


def write_whole(page: str, path: Path) -> Path:
    """Write a page, whole or not at all."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_text(page, encoding="utf-8", newline="\n")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def _clean(value: Any) -> Any:
    return visible(value) if type(value) is str else value
