"""Numbers and claims of a study in words."""

from __future__ import annotations

from omniconv.study.bootstrap import Spread
from omniconv.study.claims import Claim, ClaimPart


def say_points(found: Spread) -> str:
    """A difference of accuracies.

    Example:
        >>> say_points(Spread(-0.0123, -0.02, 0.001))
        '-1.2 points (-2.0 to +0.1)'
    """
    return f"{100 * found.value:+.1f} points ({100 * found.low:+.1f} to {100 * found.high:+.1f})"


def say_share(found: Spread) -> str:
    """An accuracy, or a share of something.

    Example:
        >>> say_share(Spread(0.25, 0.2, 0.3))
        '25.0 % (20.0 to 30.0)'
    """
    return f"{100 * found.value:.1f} % ({100 * found.low:.1f} to {100 * found.high:.1f})"


def say_times(found: Spread) -> str:
    """A ratio.

    Example:
        >>> say_times(Spread(1.0, 0.98, 1.02))
        '1.00 (0.98 to 1.02)'
    """
    return f"{found.value:.2f} ({found.low:.2f} to {found.high:.2f})"


def count_times(ratio: float) -> str:
    """A ratio to one digit behind the point, or to whole numbers where it is large; beyond what can mean much, that.

    Example:
        >>> count_times(5.86), count_times(123.4), count_times(3e7)
        ('5.9', '123', 'more than 10,000')
    """
    if ratio > 10_000:
        return "more than 10,000"
    return f"{ratio:.1f}" if ratio < 99.5 else f"{ratio:.0f}"


def say_part(part: ClaimPart) -> str:
    """What a claim is judged by, as a sentence."""
    say = {"points": say_points, "share": say_share, "times": say_times}[part.unit]
    return f"{part.what[0].upper()}{part.what[1:]}: {say(part.found)}."


def write_paragraph(claim: Claim) -> str:
    """All numbers of a claim."""
    return " ".join([*(say_part(part) for part in claim.parts), *claim.beside])
