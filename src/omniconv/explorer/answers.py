"""What a served page may ask: each answer takes and gives JSON, and refuses in the words of the errors.

::

    POST check    {"text": problem line, "shape": [n, c, ...] or null}
                  -> {"spec": spec, "text": problem line, "shape": [n, c, ...], "output": [n, c, ...]}
    POST compile  the same -> module                                    see omniconv.web.module
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from omniconv.errors import SpecError
from omniconv.explorer.data import describe_spec
from omniconv.explorer.modules import compile_asked
from omniconv.explorer.server import Reply
from omniconv.explorer.start import Start, find_start

MOST_LETTERS: Final = 4096
"""Length of a problem line, at most."""


def read_layer(asked: Any) -> Start:
    """The layer and shape that a request names.

    Raises:
        SpecError: a request of another form, or a line outside the grammar.
        ShapeError: an input that the layer does not take.
    """
    text, shape = (asked.get("text"), asked.get("shape")) if isinstance(asked, dict) else (None, None)
    if not isinstance(text, str) or len(text.split()) < 2:
        raise SpecError("the request names no layer", need='"text": a problem line', fix="pointwise ic64 oc256 kh1 kw1")
    if len(text) > MOST_LETTERS:
        raise SpecError(f"the problem line has {len(text)} letters", need=f"at most {MOST_LETTERS}")
    if shape is not None and not isinstance(shape, list):
        raise SpecError(f"shape={shape!r} is not a list", need="[n, c, ...] or null")
    return find_start(text, shape)


def check(asked: Any) -> dict[str, Any]:
    """A problem line as the page knows it, with the shape that it gives."""
    spec, shape, _ = read_layer(asked)
    return {
        "spec": describe_spec(spec),
        "text": spec.text(shape),
        "shape": shape,
        "output": spec.output_shape(shape),
    }


def compile_layer(asked: Any) -> dict[str, Any]:
    """A module for the setting at hand."""
    spec, shape, _ = read_layer(asked)
    return compile_asked(spec, shape)


ANSWERS: Final[Mapping[str, Reply]] = MappingProxyType({"check": check, "compile": compile_layer})
"""Every answer by its name."""
