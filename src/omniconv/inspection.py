"""The analyses for anything: a spec, a chain, a model file, its bytes, an ``onnx.ModelProto`` or a compiled network."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from omniconv import analysis
from omniconv.analysis import Connectivity, Cost, Coverage, Finding, Overlap, ReceptiveField, RequiredInput
from omniconv.analysis.subject import Subject, as_program
from omniconv.errors import DataError, SpecError
from omniconv.integers import read_sequence
from omniconv.program.element import FLOAT32, Element, find_element
from omniconv.program.program import Program
from omniconv.spec import Chain, Conv

Shapes: TypeAlias = Mapping[str, Sequence[int]]


def open_subject(
    x: Any, *, shapes: Shapes | None = None, memory_limit: int | None = None, dtype: Any = None
) -> Subject:
    """Bring anything that can be analysed into the form that :mod:`omniconv.analysis` takes.

    Args:
        x: a `Conv`, `Chain` or `Program`; a path, bytes or ``onnx.ModelProto``; what :func:`omniconv.compile` returned.
        shapes: for a model or an open network, shapes of inputs by name, where it leaves dimensions open.
        memory_limit: for a model, most memory to use [bytes].
        dtype: for a model, what it is computed with, as for :func:`omniconv.compile`; default float32.

    Raises:
        ModelError, UnsupportedError, ShapeError, LimitError: as for :func:`omniconv.compile`.
        DataError: something else.
    """
    x = _fix(x, shapes)
    if isinstance(x, Conv | Chain | Program):
        return x
    program = getattr(getattr(x, "plan", None), "program", None)
    if isinstance(program, Program):
        return program
    if _is_model(x):
        from omniconv.graph import to_program

        return to_program(x, shapes=shapes, memory_limit=memory_limit, element=_find_element(dtype) or FLOAT32)
    raise DataError(
        f"cannot analyse {type(x).__name__}",
        need="a spec, a path, bytes, an onnx.ModelProto or a compiled layer or network of known shapes",
    )


def _fix(x: Any, shapes: Shapes | None) -> Any:
    """An open network at the shapes that are given; anything else as it is."""
    if shapes is None or _is_model(x):
        return x
    network = sys.modules.get("omniconv.runtime.network")
    if network is None or not isinstance(x, network.Network):
        raise SpecError(
            f"shapes= with a {type(x).__name__}",
            need="shapes= for models and open networks only",
            fix="shape=(N, C, *spatial) for a spec",
        )
    return x.fix(shapes)


def _check_shape(subject: Subject, shape: Sequence[int] | None) -> Subject:
    """A subject; of a program, whose shapes are fixed, no other shape is asked for."""
    return as_program(subject, shape) if isinstance(subject, Program) else subject


def _find_element(dtype: Any) -> Element | None:
    return None if dtype is None else find_element(dtype)


def _is_model(x: Any) -> bool:
    return isinstance(x, str | os.PathLike | bytes | bytearray) or type(x).__name__ in ("ModelProto", "Graph")


def cost(x: Any, shape: Sequence[int] | None = None, *, shapes: Shapes | None = None, dtype: Any = None) -> Cost:
    """:func:`omniconv.analysis.cost` of anything; bytes are those of ``dtype``, by default float32.

    What is compiled already has a type of its own, and takes no other; of its layers that are filtered the
    multiplications are known that are done.

    Example:
        >>> cost(Conv.of(3, 8, 3), (1, 3, 8, 8)).macs
        7776
    """
    if not _is_model(x):
        x, shapes = _fix(x, shapes), None
    filtered = getattr(getattr(x, "plan", None), "filtered", None)
    return analysis.cost(open_subject(x, shapes=shapes, dtype=dtype), shape, _find_element(dtype), filtered)


def receptive_field(
    x: Any,
    tensor: str | None = None,
    shape: Sequence[int] | None = None,
    *,
    shapes: Shapes | None = None,
    **options: Any,
) -> ReceptiveField:
    """:func:`omniconv.analysis.receptive_field` of anything."""
    return analysis.receptive_field(open_subject(x, shapes=shapes), tensor, shape, **options)


def required_input(
    x: Any,
    box: Sequence[Sequence[int]],
    tensor: str | None = None,
    shape: Sequence[int] | None = None,
    *,
    shapes: Shapes | None = None,
    **options: Any,
) -> RequiredInput:
    """:func:`omniconv.analysis.required_input` of anything."""
    return analysis.required_input(open_subject(x, shapes=shapes), box, tensor, shape, **options)


def overlap(x: Any, shape: Sequence[int] | None = None, *, shapes: Shapes | None = None, **options: Any) -> Overlap:
    """:func:`omniconv.analysis.overlap` of anything."""
    return analysis.overlap(_check_shape(open_subject(x, shapes=shapes), shape), shape, **options)


def coverage(
    x: Any, tensor: str | None = None, shape: Sequence[int] | None = None, *, shapes: Shapes | None = None
) -> Coverage:
    """:func:`omniconv.analysis.coverage` of anything; a list of rates is a stack of 3-tap layers along one axis."""
    if not isinstance(x, str | bytes | bytearray) and read_sequence(x) is not None:
        x = analysis.dilated_stack(x)
    return analysis.coverage(open_subject(x, shapes=shapes), tensor, shape)


def connectivity(
    x: Any,
    tensor: str | None = None,
    shape: Sequence[int] | None = None,
    *,
    shapes: Shapes | None = None,
    **options: Any,
) -> Connectivity:
    """:func:`omniconv.analysis.connectivity` of anything."""
    return analysis.connectivity(_check_shape(open_subject(x, shapes=shapes), shape), tensor, shape, **options)


def findings(x: Any, shape: Sequence[int] | None = None, *, shapes: Shapes | None = None) -> tuple[Finding, ...]:
    """What all analyses amount to, most important first; see :func:`omniconv.analysis.find_findings`."""
    subject = open_subject(x, shapes=shapes)
    return analysis.find_findings(analysis.fitting_program(subject, shape))
