"""Numbers in words, for pages and tables."""

from __future__ import annotations

from collections.abc import Sequence


def count_words(value: float) -> str:
    """Three digits and a unit.

    Example:
        >>> count_words(950), count_words(12_340), count_words(5.69e8)
        ('950', '12.3 k', '569 M')
    """
    for limit, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= limit:
            scaled = value / (1e3 if unit == "k" else limit)
            return f"{scaled:#.3g}".rstrip(".") + f" {unit}"
    return f"{value:g}"


def seconds_words(value: float) -> str:
    """Three digits and a unit of time.

    Example:
        >>> seconds_words(0.00123), seconds_words(2.5e-6)
        ('1.23 ms', '2.50 µs')
    """
    for limit, unit in ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")):
        if value >= limit:
            return f"{value / limit:#.3g}".rstrip(".") + f" {unit}"
    return f"{value * 1e9:.0f} ns"


def times_words(sizes: Sequence[object]) -> str:
    """Sizes as ``3x224x224``.

    Example:
        >>> times_words((3, 224, 224)), times_words(())
        ('3x224x224', '')
    """
    return "x".join(str(size) for size in sizes)


def number(value: float) -> str:
    """A number that JavaScript reads back.

    Example:
        >>> number(0.25), number(1e-07)
        ('0.25', '1e-07')
    """
    return repr(float(value))


def visible(text: str) -> str:
    """A text without characters that steer a terminal or turn the direction of writing.

    Example:
        >>> visible("a\\x1b[2Jb\\u202ec")
        'a?[2Jb?c'
    """
    return "".join(char if char.isprintable() or char == "\n" else "?" for char in text)
