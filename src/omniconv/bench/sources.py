"""Where workloads come from: a model file, or a text file of problem lines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from omniconv.bench.workload import Array, Workload
from omniconv.errors import SpecError
from omniconv.reference import random_weights
from omniconv.spec import Shape, Spec, parse


def read_corpus(path: Path) -> Iterator[tuple[str, Spec, Shape, str]]:
    """Each problem of a corpus: its line, spec, input shape and comment. Empty lines and comments are passed over.

    Raises:
        SpecError: a line outside the grammar or without sizes; the message names file and line.
    """
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        text, _, comment = line.partition("#")
        if not text.strip():
            continue
        try:
            spec, shape = parse(text)
        except SpecError as error:
            raise SpecError(
                error.problem, need=error.need, fix=error.fix, at=f"{path}:{number}: {text.strip()}"
            ) from None
        if shape is None:
            raise SpecError("a problem without sizes", need="n, and ih iw or iw", at=f"{path}:{number}: {text.strip()}")
        yield text.strip(), spec, shape, comment.strip()


def problem_workload(line: str, spec: Spec, shape: Shape, seed: int = 0, title: str = "") -> Workload:
    """One problem with random weights and input, also as an ONNX model for the peers that read those."""
    from omniconv.bench.export import export_onnx

    generator = np.random.default_rng(seed)
    weights = random_weights(spec, generator)
    x = generator.standard_normal(shape, np.float32)
    return Workload(line, export_onnx(spec, shape, weights), {"x": x}, spec, weights, title)


def model_workload(path: Path, inputs: Mapping[str, Array]) -> Workload:
    """A model file with its inputs."""
    return Workload(path.name, path, dict(inputs))
