"""What is computed in tiles: a model, a spec or a network that is compiled already, brought into one form."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from omniconv.analysis.subject import as_program
from omniconv.choices import check_instance
from omniconv.compiler.planning.options import Options
from omniconv.errors import DataError, ShapeError, SpecError
from omniconv.integers import as_flag, as_integer
from omniconv.program.element import find_element
from omniconv.program.from_spec import program_of
from omniconv.program.program import Program
from omniconv.reference import check_weights
from omniconv.runtime.executable import Executable
from omniconv.runtime.network import Network
from omniconv.runtime.threads import MAX_THREADS
from omniconv.spec import Chain, Conv, Shape
from omniconv.target.model import Target
from omniconv.target.select import select_target

if TYPE_CHECKING:
    from omniconv.graph.nodes import Graph
    from omniconv.graph.program import Lowered

Lowering: TypeAlias = tuple[Program, frozenset[str]]


@dataclass(frozen=True, slots=True, eq=False)
class TileSubject:
    """What is computed, before the size of the image is known.

    Attributes:
        rank: axes of the input, batch and channels included.
        channels: of the input; ``None`` where they are not known.
        lower: the program for an input of some shape, which is never run as a whole, and the names of its outputs that
            are boolean to the model.
        options, target: how tiles are compiled.
        at: for messages.
    """

    rank: int
    channels: int | None
    lower: Callable[[Shape], Lowering]
    options: Options
    target: Target
    at: str


@dataclass(frozen=True, slots=True, eq=False)
class Origin:
    """What a subject is made of, so that it can be made again: also in another process, to which this is sent.

    Attributes:
        source: a checked graph, a spec or a program of known shapes.
        weights: of a spec.
        truths: outputs of a program that are boolean to the model.
        options, target, at: as of the subject.
    """

    source: Graph | Program | Chain | Conv
    options: Options
    target: Target
    at: str
    weights: tuple[Any, ...] | None = None
    truths: frozenset[str] = frozenset()

    def open(self) -> TileSubject:
        """The subject.

        Raises:
            ShapeError: a network with several inputs.
        """
        if isinstance(self.source, Conv | Chain):
            return _of_spec(self.source, self)
        if isinstance(self.source, Program):
            return _of_program(self.source, self)
        from omniconv.graph.program import lower_in_parts

        dims = {info.name: info.dims for info in self.source.inputs}
        limit, element = self.options.memory_limit, self.target.element
        lower = partial(lower_in_parts, self.source, memory_limit=limit, element=element)
        return _of_dims(dims, lower, self)


def open_subject(
    net: Any, weights: Sequence[Any] | None, threads: int | None, dtype: Any, *, exact: bool | None
) -> TileSubject:
    """Anything that :func:`omniconv.tiled` takes; see :func:`find_origin`."""
    return find_origin(net, weights, threads, dtype, exact=exact).open()


def find_origin(
    net: Any, weights: Sequence[Any] | None, threads: int | None, dtype: Any, *, exact: bool | None
) -> Origin:
    """Anything that :func:`omniconv.tiled` takes, in a form that can be sent elsewhere.

    Raises:
        DataError: something else.
        SpecError: choices that a compiled network has made already, or weights with anything but a spec.
    """
    if weights is not None and not isinstance(net, Conv | Chain):
        raise SpecError(f"weights= with a {type(net).__name__}", need="weights for a spec only")
    if isinstance(net, Network | Executable):
        if (threads, dtype, exact) != (None, None, None):
            raise SpecError(
                "threads, dtype and exact belong to what is compiled for tiles",
                need="none of them for a network that is compiled already",
                fix="omniconv.compile(model, exact=True)",
            )
        return _find_compiled(net)
    element = find_element("float32" if dtype is None else dtype)
    options = Options(
        threads=as_integer("threads", 1 if threads is None else threads, 1, MAX_THREADS),
        exact=False if exact is None else as_flag("exact", exact),
    )
    target = select_target(None).of(element)
    if isinstance(net, Conv | Chain):
        pairs = (
            None
            if weights is None
            else tuple(
                (np.asarray(w, element.dtype), None if b is None else np.asarray(b, element.dtype))
                for w, b in check_weights(net, weights)
            )
        )
        return Origin(net, options, target, net.text(), pairs)
    if isinstance(net, Program):
        return Origin(net, options, target.of(net.element), "program")
    if isinstance(net, str | os.PathLike | bytes) or type(net).__name__ == "ModelProto":
        from omniconv.graph import prepare

        at = f"file {os.fspath(net)!r}" if isinstance(net, str | os.PathLike) else "model"
        return Origin(prepare(net), options, target, at)
    raise DataError(
        f"cannot compute {type(net).__name__} in tiles",
        need="a model (path, bytes, ModelProto), a spec with weights, or what omniconv.compile returned",
    )


def _find_compiled(net: Network | Executable) -> Origin:
    """A network that is compiled already, with what was asked of it."""
    if isinstance(net, Network):
        return Origin(net.graph, replace(net.options, layout="NCHW", row_major=frozenset()), net.target, repr(net))
    truths = frozenset(name for name, dtype in net.output_dtypes.items() if dtype.kind == "b")
    options = Options(threads=net.threads, exact=net.plan.exact, accuracy=net.plan.accuracy)
    return Origin(net.plan.program, options, net.target, repr(net), truths=truths)


def _of_spec(spec: Chain | Conv, origin: Origin) -> TileSubject:
    first = spec if isinstance(spec, Conv) else next(step for step in spec.steps if isinstance(step, Conv))
    pairs, element = origin.weights, origin.target.element

    def lower(shape: Shape) -> Lowering:
        found = as_program(spec, shape, element) if pairs is None else program_of(spec, shape, pairs, element)
        return found, frozenset()

    return TileSubject(2 + first.dims, spec.in_channels, lower, origin.options, origin.target, origin.at)


def _of_program(program: Program, origin: Origin) -> TileSubject:
    """A program of known shapes."""
    dims = {name: program.shapes[name] for name in program.inputs}
    at = origin.at

    def lower(shape: Shape) -> Lowering:
        if shape != (own := program.shapes[program.inputs[0]]):
            raise ShapeError(
                f"an image of shape {shape} for a network of input shape {own}",
                need="a model whose sizes are open",
                fix="omniconv.compile(model) of one that was exported with dynamic sizes",
                at=at,
            )
        return program, origin.truths

    return TileSubject(*_find_rank(dims, at), lower, origin.options, origin.target, at)


def _of_dims(dims: Mapping[str, Any], lower: Callable[[Mapping[str, Shape]], Lowered], origin: Origin) -> TileSubject:
    """A graph whose sizes are open."""

    def lower_for(shape: Shape) -> Lowering:
        found = lower({next(iter(dims)): shape})
        return found.program, found.truths

    return TileSubject(*_find_rank(dims, origin.at), lower_for, origin.options, origin.target, origin.at)


def _find_rank(dims: Mapping[str, Any], at: str) -> tuple[int, int | None]:
    """Axes and channels of the only input.

    Raises:
        ShapeError: several inputs, or one that is no image.
    """
    if len(dims) != 1:
        raise ShapeError(f"inputs {list(dims)}", need="one input", fix="constants={name: array} in compile", at=at)
    (sizes,) = dims.values()
    if sizes is None or len(sizes) < 3:
        raise ShapeError(f"an input of sizes {sizes}", need="(N, C, *spatial)", at=at)
    return len(sizes), sizes[1] if isinstance(sizes[1], int) else None


def find_output(program: Program, output: str | None, at: str) -> str:
    """The output that is asked for, where there are several.

    Raises:
        SpecError: none is named, or none of that name.
    """
    outputs = tuple(dict.fromkeys(program.outputs))
    if output is not None:
        check_instance("output", output, str, need="the name of an output")
    if output is None and len(outputs) != 1:
        raise SpecError(f"outputs {list(outputs)}", need="one of them", fix=f"output={outputs[0]!r}", at=at)
    if output is not None and output not in outputs:
        raise SpecError(f"output={output!r} is not an output", need="one of " + ", ".join(outputs), at=at)
    return outputs[0] if output is None else output
