"""`find_start`: what the explorer shows first, from the name of a kind, a problem line or a spec."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from omniconv.errors import ShapeError, SpecError
from omniconv.integers import as_shape, state
from omniconv.kinds import kinds
from omniconv.spec import Chain, Conv, Shape, Spec, parse

DEFAULT: Final = "cross_correlation"
SIZES: Final = (8, 16, 32, 64, 128, 256, 512, 1024)
"""Sizes that are tried where none is given: the first that the layer takes on every axis."""


class Start(NamedTuple):
    """A layer with the shape of its input, and the kind that it is of, where that is known."""

    spec: Spec
    shape: Shape
    kind: str | None


def find_start(what: str | Spec | None = None, shape: Sequence[int] | None = None) -> Start:
    """What to show first: of a kind its first sample, of a line or a spec itself.

    Example:
        >>> find_start("dilated").kind
        'dilated'
        >>> find_start("convolution ic1 oc1 kh3 kw3").shape
        (1, 1, 8, 8)

    Args:
        what: the name of a kind, a problem line, or a spec; default: the standard layer.
        shape: of the input, channels first; default: what the line says, else the first of :data:`SIZES` that fits.

    Raises:
        SpecError: a name that no kind has, or a line outside the grammar.
        ShapeError: an input that the layer does not take.
    """
    kind: str | None = None
    written: Shape | None = None
    given = None if shape is None else as_shape(shape)
    if what is None or (isinstance(what, str) and len(what.split()) == 1):
        kind = DEFAULT if what is None else what.strip().lower().replace("-", "_")
        sample = kinds()[kind].samples[0]
        spec, written = kinds()[kind].build(sample), sample.shape
    elif isinstance(what, str):
        spec, written = parse(what)
    elif isinstance(what, Conv | Chain):
        spec = what
    else:
        raise SpecError(state("spec", what, "is none"), need="a kind, a problem line or a spec", fix='"depthwise"')
    return Start(spec, _fit(spec, given or written), kind)


def _fit(spec: Spec, shape: Shape | None) -> Shape:
    if shape is not None:
        spec.output_shape(shape)
        return shape
    for size in SIZES:
        shape = (1, spec.in_channels, *(size,) * spec.dims)
        try:
            spec.output_shape(shape)
        except ShapeError:
            if size == SIZES[-1]:
                raise
        else:
            return shape
    raise AssertionError(SIZES)
