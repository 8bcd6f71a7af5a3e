"""Constructor arguments of a kind, from the command line."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

from omniconv.cli.exits import UsageProblemError
from omniconv.kinds import Kind, kinds


def find_kind(name: str) -> Kind:
    """Look a kind up; the error names the nearest ones."""
    registry = kinds()
    wanted = name.strip().lower().replace("-", "_")
    if wanted not in registry:
        near = get_close_matches(wanted, registry, n=3, cutoff=0.4) or list(registry)
        raise UsageProblemError(f"no kind {name!r}; need one that `omniconv kinds` lists, e.g. {', '.join(near)}")
    return registry[wanted]


def parse_value(text: str) -> Any:
    """Read an integer, a tuple of integers or a name.

    Example:
        >>> parse_value("3"), parse_value("(1, 2)"), parse_value("1,2"), parse_value("same")
        (3, (1, 2), (1, 2), 'same')
    """
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text.strip()


def parse_settings(kind: Kind, texts: Sequence[str]) -> dict[str, Any]:
    """Read ``name=value`` settings of a constructor.

    Raises:
        UsageProblemError: a setting without ``=``, or a name that the constructor does not have.
    """
    known = list(inspect.signature(kind.constructor).parameters)
    found: dict[str, Any] = {}
    for text in texts:
        name, separator, value = text.partition("=")
        name = name.strip().replace("-", "_")
        if not separator:
            raise UsageProblemError(f"{text!r} is not a setting; need name=value, e.g. stride=2")
        if name not in known:
            raise UsageProblemError(f"{kind.name} has no argument {name!r}; it takes {', '.join(known)}")
        found[name] = parse_value(value)
    return found
