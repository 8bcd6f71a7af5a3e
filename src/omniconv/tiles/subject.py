"""What is computed in tiles: a model, a spec or a network that is compiled already, brought into one form."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from omniconv.analysis.subject import as_program
from omniconv.choices import check_instance
from omniconv.compiler.planning.options import Options
from omniconv.errors import DataError, ModelError, ShapeError, SpecError, UnsupportedError
from omniconv.integers import as_flag
from omniconv.processors import take_threads
from omniconv.program.element import FLOAT32, find_element
from omniconv.program.from_spec import program_of
from omniconv.program.program import Program
from omniconv.records import dataclass
from omniconv.reference import check_weights
from omniconv.runtime.executable import Executable
from omniconv.runtime.network import Network
from omniconv.runtime.saved import point_to_load
from omniconv.spec import Chain, Conv, Shape
from omniconv.target.model import Target
from omniconv.target.select import select_target

if TYPE_CHECKING:
    from omniconv.graph.nodes import Graph
    from omniconv.graph.program import Lowered

Lowering: TypeAlias = tuple[Program, frozenset[str]]


@dataclass(frozen=True, slots=True)
class TileInput:
    """One input of what is computed.

    Attributes:
        name: of the input.
        rank: its axes, batch and channels included; ``None`` where they are not known.
        channels: of an image; ``None`` where they are not known.
        image: whether it is read in tiles; otherwise every tile is given all of it.
    """

    name: str
    rank: int | None
    channels: int | None
    image: bool


@dataclass(frozen=True, slots=True, eq=False)
class TileSubject:
    """What is computed, before the size of the image is known.

    Attributes:
        inputs: in the order of the network.
        lower: the program for inputs of some shapes, which is never run as a whole, and the names of its outputs that
            are boolean to the model.
        options, target: how tiles are compiled.
        at: for messages.
    """

    inputs: tuple[TileInput, ...]
    lower: Callable[[Mapping[str, Shape]], Lowering]
    options: Options
    target: Target
    at: str

    @property
    def images(self) -> tuple[TileInput, ...]:
        """The inputs that are read in tiles."""
        return tuple(item for item in self.inputs if item.image)

    def name_inputs(self, given: Any, what: str) -> dict[str, Any]:
        """What is given for each input, by name; for the only one it may come without.

        Raises:
            ShapeError: names that are not those of the inputs.
        """
        names = [item.name for item in self.inputs]
        if not isinstance(given, Mapping):
            if len(names) == 1:
                return {names[0]: given}
            need = f"{what} for each by name"
            fix = "{" + ", ".join(f"{name!r}: ..." for name in names) + "}"
            raise ShapeError(f"one {what} for inputs {names}", need=need, fix=fix, at=self.at)
        if set(given) != set(names):
            raise ShapeError(f"{what} for {list(given)}", need=f"one for each of the inputs {names}", at=self.at)
        return {name: given[name] for name in names}

    def find_only(self) -> TileInput:
        """The only input, an image.

        Raises:
            ShapeError: there are several.
        """
        if len(self.inputs) != 1:
            names = [item.name for item in self.inputs]
            raise ShapeError(f"inputs {names}", need="one input", fix="constants={name: array} in compile", at=self.at)
        return self.inputs[0]


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
            ShapeError: a network without an image.
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
    taken = take_threads(threads)
    options = Options(
        threads=taken.number,
        threads_why=taken.why,
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
        try:
            graph = prepare(net)
        except ModelError as error:
            raise point_to_load(error, net) from error.__cause__
        return Origin(graph, options, target, at)
    raise DataError(
        f"cannot compute {type(net).__name__} in tiles",
        need="a model (path, bytes, ModelProto), a spec with weights, or what omniconv.compile returned",
    )


def _find_compiled(net: Network | Executable) -> Origin:
    """A network that is compiled already, with what was asked of it.

    Raises:
        UnsupportedError: it keeps bfloat16: what passes between tiles and sweeps is not rounded where a whole network
            rounds it.
    """
    precision = net.options.precision if isinstance(net, Network) else net.plan.precision
    if precision != FLOAT32.name:
        raise UnsupportedError(f"tiles of a network in {precision}", need="one in float32", at=repr(net))
    if isinstance(net, Network):
        return Origin(net.graph, replace(net.options, layout="NCHW", row_major=frozenset()), net.target, repr(net))
    truths = frozenset(name for name, dtype in net.output_dtypes.items() if dtype.kind == "b")
    options = Options(
        threads=net.threads, threads_why=net.threads_why, exact=net.plan.exact, accuracy=net.plan.accuracy
    )
    return Origin(net.plan.program, options, net.target, repr(net), truths=truths)


def _of_spec(spec: Chain | Conv, origin: Origin) -> TileSubject:
    first = spec if isinstance(spec, Conv) else next(step for step in spec.steps if isinstance(step, Conv))
    pairs, element = origin.weights, origin.target.element

    def lower(shapes: Mapping[str, Shape]) -> Lowering:
        (shape,) = shapes.values()
        found = as_program(spec, shape, element) if pairs is None else program_of(spec, shape, pairs, element)
        return found, frozenset()

    image = TileInput("x", 2 + first.dims, spec.in_channels, image=True)
    return TileSubject((image,), lower, origin.options, origin.target, origin.at)


def _of_program(program: Program, origin: Origin) -> TileSubject:
    """A program of known shapes."""
    dims = {name: program.shapes[name] for name in program.inputs}
    at = origin.at

    def lower(shapes: Mapping[str, Shape]) -> Lowering:
        for name, shape in shapes.items():
            if shape != program.shapes[name]:
                raise ShapeError(
                    f"an image of shape {shape} for a network of input shape {program.shapes[name]}",
                    need="a model whose sizes are open",
                    fix="omniconv.compile(model) of one that was exported with dynamic sizes",
                    at=at,
                )
        return program, origin.truths

    return TileSubject(_sort_inputs(dims, at), lower, origin.options, origin.target, at)


def _of_dims(dims: Mapping[str, Any], lower: Callable[[Mapping[str, Shape]], Lowered], origin: Origin) -> TileSubject:
    """A graph whose sizes are open."""

    def lower_for(shapes: Mapping[str, Shape]) -> Lowering:
        found = lower(shapes)
        return found.program, found.truths

    return TileSubject(_sort_inputs(dims, origin.at), lower_for, origin.options, origin.target, origin.at)


def _sort_inputs(dims: Mapping[str, Any], at: str) -> tuple[TileInput, ...]:
    """Which inputs are images: those with an open size in space, or else those that have positions.

    Raises:
        ShapeError: none is, or images of different numbers of axes.
    """
    ranks = {name: None if sizes is None else len(sizes) for name, sizes in dims.items()}
    spatial = {name: tuple(sizes[2:]) for name, sizes in dims.items() if sizes is not None}
    found = [name for name, sizes in spatial.items() if any(not isinstance(size, int) for size in sizes)]
    found = found or [name for name, sizes in spatial.items() if any(size != 1 for size in sizes)]
    found = found or [name for name, sizes in spatial.items() if sizes]
    if not found:
        raise ShapeError(f"inputs of sizes {dict(dims)}", need="an image (N, C, *spatial)", at=at)
    if len({ranks[name] for name in found}) > 1:
        sizes = {name: dims[name] for name in found}
        raise ShapeError(f"images of different numbers of axes: {sizes}", need="one number", at=at)
    return tuple(
        TileInput(
            name,
            ranks[name],
            sizes[1] if name in found and isinstance(sizes[1], int) else None,
            image=name in found,
        )
        for name, sizes in dims.items()
    )


def find_outputs(program: Program, output: str | None, at: str) -> tuple[str, ...]:
    """The outputs that are asked for: all, or the one that is named.

    Raises:
        SpecError: none of that name.
    """
    outputs = tuple(dict.fromkeys(program.outputs))
    if output is None:
        return outputs
    check_instance("output", output, str, need="the name of an output")
    if output not in outputs:
        raise SpecError(f"output={output!r} is not an output", need="one of " + ", ".join(outputs), at=at)
    return (output,)
