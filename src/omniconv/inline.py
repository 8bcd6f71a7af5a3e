"""What stands inside an HTML page instead of beside it: scripts and styles by their hashes, and data as JSON."""

from __future__ import annotations

import base64
import hashlib
import json
import math
from typing import Any


def hash_inline(text: str) -> str:
    """The hash by which a content security policy names an inline script or style."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def write_json(value: Any) -> str:
    """JSON that may stand inside a script element: no ``<``, ``>`` or ``&``, and no numbers JSON does not know.

    Example:
        >>> write_json({"a": "</script>", "b": float("inf")})
        '{"a":"\\\\u003c/script\\\\u003e","b":null}'
    """
    text = json.dumps(_finite(value), separators=(",", ":"), allow_nan=False)
    for char in "<>&":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return text


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
