"""`MapNetwork`: a network for images of any size, one by one or in batches of one shape."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from omniconv.compiler.planning.shared import Shared
from omniconv.errors import LimitError, OmniconvError, UnsupportedError
from omniconv.limits import format_size
from omniconv.mapping.memory import COMPUTING, SHARES
from omniconv.program.cut import whole
from omniconv.program.describe import describe_program
from omniconv.program.part import cut_program
from omniconv.program.program import Program
from omniconv.runtime.arena import ArenaPool
from omniconv.runtime.executable import Executable
from omniconv.runtime.kept import Kept
from omniconv.spec import Shape
from omniconv.tiles.lines import Whole
from omniconv.tiles.subject import Origin, find_outputs

Array: TypeAlias = npt.NDArray[Any]
Outputs: TypeAlias = dict[str, Array]


class MapNetwork:
    """Computes images. Plans of the last shapes are kept; they share machine code, weights and memory. Thread-safe.

    Images are computed together only where that is proved to compute each of them as it would be alone: the program for
    the batch, cut to one image, reads that image only and is the program for one.

    Args:
        origin: what is computed.
        output: the output that is wanted; ``None`` for all.
        memory: of the run [bytes].
    """

    def __init__(self, origin: Origin, output: str | None, memory: int) -> None:
        self._allowed = memory * COMPUTING // SHARES
        self._share = memory // SHARES
        self.subject = replace(origin, options=replace(origin.options, memory_limit=self._allowed)).open()
        self.image = self.subject.find_only()
        self.dtype: np.dtype[Any] = self.subject.target.element.dtype
        self._output = output
        self._shared, self._pool = Shared(), ArenaPool()
        self._kept: Kept[Executable] = Kept(self._allowed)
        self._apart: set[Shape] = set()

    def compute(self, images: Sequence[Array]) -> list[Outputs | OmniconvError]:
        """The outputs of each image, or why there are none. All have one shape ``(C, *spatial)``.

        Raises:
            UnsupportedError: an operator that is not compiled, before any image could be computed.
        """
        shape = (len(images), *images[0].shape)
        try:
            run = self._find(shape)
        except OmniconvError as error:
            if len(images) == 1:
                if isinstance(error, UnsupportedError) and self._kept.last is None:
                    raise  # the network is in the way, and not this image
                return [error]
            run = None
        if run is None:
            half = len(images) // 2
            return self.compute(images[:half]) + self.compute(images[half:])
        # Memory of its own: what an executable keeps for its next results, it would keep for each shape.
        found = {name: np.empty(size, run.dtype) for name, size in run.outputs.items()}
        run.run({next(iter(run.inputs)): np.stack(images)}, found)
        named = {
            name: y != 0 if run.output_dtypes[name].kind == "b" else y
            for name, y in found.items()
            if self._output in (None, name)
        }
        if len(images) == 1:
            return [{name: y[0] if y.shape[:1] == (1,) else y for name, y in named.items()}]
        return [{name: y[n] for name, y in named.items()} for n in range(len(images))]

    def _find(self, shape: Shape) -> Executable | None:
        """What computes so many images of a shape together; ``None`` where that is not proved to be right."""
        if shape in self._apart:
            return None
        try:
            return self._kept.find(shape, lambda: self._make(shape))
        except OmniconvError:
            if shape[0] > 1:
                self._apart.add(shape)
            raise

    def _make(self, shape: Shape) -> Executable:
        subject = self.subject
        program, truths = subject.lower({self.image.name: shape})
        if self._output is not None:
            find_outputs(program, self._output, subject.at)
        outputs = sum(math.prod(program.shapes[name]) for name in program.outputs) * self.dtype.itemsize
        if outputs > self._share:
            raise LimitError(
                f"results of {format_size(outputs)} for {shape[0]} images of shape {shape[1:]}",
                need=f"at most {format_size(self._share)}",
                fix=f'memory="{-(-outputs * SHARES // 2**20)}M", or omniconv.tiled',
                at=subject.at,
            )
        if shape[0] > 1:
            self._prove(program, shape)
        return Executable.of(
            program,
            subject.target,
            subject.options,
            subject.at,
            shared=self._shared,
            truths=truths,
            pool=self._pool,
        )

    def _prove(self, program: Program, shape: Shape) -> None:
        """Find out that each image of a batch is computed as one alone.

        Raises:
            UnsupportedError: that is not so, or not known.
            ShapeError: a network for a fixed number of images.
        """
        single, _ = self.subject.lower({self.image.name: (1, *shape[1:])})
        for name, alone in zip(program.outputs, single.outputs, strict=True):
            cut = Whole(program, (name,), program.inputs)
            box = whole(program.shapes[name])
            own = cut_program(single, {alone: whole(single.shapes[alone])})
            first = None
            for n in range(shape[0]):
                part = cut_program(program, {name: ((n, n + 1), *box[1:])})
                reads = part.reads.get(program.inputs[0])
                described = cut.describe(part.program)
                first = described if first is None else first
                if (
                    program.shapes[name][0] != shape[0]
                    or (reads is not None and reads != ((n, n + 1), *whole(shape)[1:]))
                    or described != first
                    or (n == 0 and describe_program(part.program) != describe_program(own.program))
                ):
                    raise UnsupportedError(
                        f"output {name!r} of one image depends on others of its batch",
                        need="images one by one",
                        at=self.subject.at,
                    )
