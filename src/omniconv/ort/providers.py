"""Execution providers: there is one, the CPU's; of others that are asked for, a warning says that they are missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from omniconv.errors import warn
from omniconv.ort.failures import InvalidArgument, fail

CPU: Final = "CPUExecutionProvider"


def get_available_providers() -> list[str]:
    """Names of the execution providers that sessions can have."""
    return [CPU]


def get_all_providers() -> list[str]:
    """The same: there are no others."""
    return [CPU]


def check_providers(providers: Any, options: Any) -> None:
    """Look at what was asked for, and warn of what is not there.

    Args:
        providers: names, or pairs of a name and options; ``None`` for the default.
        options: where names are given, options of each.

    Raises:
        InvalidArgument: something else.
    """
    given = () if options is None else options
    if not isinstance(given, Sequence) or not all(isinstance(item, Mapping) for item in given):
        raise fail(InvalidArgument, "provider_options is no list of dicts", need="a dict for each of the providers")
    if providers is None:
        return
    if not isinstance(providers, Sequence) or isinstance(providers, str | bytes):
        raise fail(InvalidArgument, f"providers is a {type(providers).__name__}", need="a list", fix=f"[{CPU!r}]")
    names = [_name(item) for item in providers]
    if options is not None:
        if len(given) != len(names):
            raise fail(InvalidArgument, "provider_options does not fit providers", need="a dict for each of them")
        if not all(isinstance(item, str) for item in providers):
            raise fail(InvalidArgument, "options stand in providers and in provider_options", need="one of them")
    missing = [repr(name) for name in names if name != CPU]
    if missing:
        warn(
            f"execution providers {', '.join(missing)} are not available; need {CPU!r}, on which the session runs",
            UserWarning,
        )


def _name(item: Any) -> str:
    """The name of an execution provider, whatever its options: those of the CPU's change no answer."""
    pair = isinstance(item, tuple) and len(item) == 2 and isinstance(item[1], Mapping)
    name = item[0] if pair else item
    if not isinstance(name, str):
        raise fail(InvalidArgument, f"providers holds {item!r}", need="names, or pairs of a name and a dict of options")
    return name
