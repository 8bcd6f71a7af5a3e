"""Where workloads come from: a model file, or text files of problem lines.

The comment of a line says where the problem comes from. After the last ``;`` it may say what is wanted of us, as
``name>=number`` (see `Wanted`)::

    depthwise n1 ic64 ... g64  # MobileNet v1, layer 4; wanted>=1.4
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import numpy as np

from omniconv.bench.precision import FLOAT32, INT8, PRECISIONS, quantise_model, read_layers
from omniconv.bench.workload import Array, Workload
from omniconv.errors import ModelError, SpecError
from omniconv.records import dataclass
from omniconv.reference import random_weights
from omniconv.spec import Conv, Shape, Spec, parse

GOALS: Final = {
    "wanted": "our best layout against the best peer",
    "direct": "the same against the best peer that has no Winograd filtering",
    "exact": "ours without Winograd filtering against the best peer that has none",
    "first": "ours on channels-first arrays against the best peer",
    "bfloat16": "as wanted, in bfloat16",
    "int8": "as wanted, in integers of 8 bits",
}
"""Names of ratios that a line may ask for."""

_GOAL: Final = re.compile(r"(" + "|".join(GOALS) + r")>=(\d+(?:\.\d+)?)")


@dataclass(frozen=True, slots=True)
class Case:
    """One problem of a corpus.

    Attributes:
        line: the problem line.
        spec: the layer or chain.
        shape: of its input.
        title: where it comes from.
        goals: ratios that are wanted, by name (see :data:`GOALS`).
        corpus: name of the file.
    """

    line: str
    spec: Spec
    shape: Shape
    title: str = ""
    goals: Mapping[str, float] | None = None
    corpus: str = ""

    @property
    def kind(self) -> str:
        """What tables and pictures group by: the label, multipliers and numbers of axes other than two apart.

        Example:
            >>> spec, shape = parse("depthwise n1 ic8 oc16 iw50 kw3 g8")
            >>> Case("", spec, shape).kind
            'multiplier 1-D'
        """
        if not isinstance(self.spec, Conv):
            return "chain"
        name = self.spec.label.replace("_", " ")
        if name == "depthwise" and self.spec.out_channels > self.spec.in_channels:
            name = "multiplier"
        if name == "convolution":
            name = "dense"
        return name if self.spec.dims == 2 else f"{name} {self.spec.dims}-D"


def find_corpora(path: Path) -> list[Path]:
    """The file itself, or the ``.txt`` files of a folder in order."""
    if not path.is_dir():
        return [path]
    found = sorted(path.glob("*.txt"))
    if not found:
        raise ModelError(f"{path} holds no problems", need="a folder with .txt files of problem lines")
    return found


def read_cases(path: Path, only: str = "", precision: str = FLOAT32) -> Iterator[Case]:
    """The problems of a file or a folder whose line, title, kind or file name matches the expression ``only``.

    What a line wants in another number type does not count, and a line that wants something in other types alone is
    left out.
    """
    for file in find_corpora(path):
        for line, spec, shape, comment in read_corpus(file):
            title, wanted = read_goals(comment)
            goals = choose_goals(wanted, precision)
            if wanted and not goals:
                continue
            case = Case(line, spec, shape, title, goals, file.stem)
            if not only or any(re.search(only, text) for text in (line, comment, case.kind, file.stem)):
                yield case


def choose_goals(goals: Mapping[str, float], precision: str) -> dict[str, float]:
    """Those of one number type.

    Example:
        >>> choose_goals({"wanted": 1.5, "first": 1.0, "int8": 3.0}, "int8")
        {'wanted': 3.0}
    """
    if precision == FLOAT32:
        return {name: value for name, value in goals.items() if name not in PRECISIONS}
    return {"wanted": goals[precision]} if precision in goals else {}


def read_goals(comment: str) -> tuple[str, dict[str, float]]:
    """Take a comment apart.

    Example:
        >>> read_goals("ResNet-50, stage 1; wanted>=1.05 direct>=2.7")
        ('ResNet-50, stage 1', {'wanted': 1.05, 'direct': 2.7})
    """
    title, mark, rest = comment.rpartition(";")
    found = [_GOAL.fullmatch(word) for word in rest.split()]
    if not mark or not found or None in found:
        return comment, {}
    return title.strip(), {match[1]: float(match[2]) for match in found if match is not None}


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


def problem_workload(
    line: str, spec: Spec, shape: Shape, seed: int = 0, title: str = "", precision: str = FLOAT32
) -> Workload:
    """One problem with random weights and input, also as an ONNX model for the peers that read those."""
    from omniconv.bench.export import export_onnx

    generator = np.random.default_rng(seed)
    weights = random_weights(spec, generator)
    x = generator.standard_normal(shape, np.float32)
    exact = export_onnx(spec, shape, weights)
    if precision != INT8:
        return Workload(line, exact, {"x": x}, spec, weights, title, precision)
    model = quantise_model(exact, {"x": x}, seed)
    layers = read_layers(model, spec, shape)
    return Workload(line, model.SerializeToString(), {"x": x}, spec, weights, title, precision, layers)


def model_workload(path: Path, inputs: Mapping[str, Array], precision: str = FLOAT32) -> Workload:
    """A model file with its inputs."""
    model: Path | bytes = path
    if precision == INT8:
        model = quantise_model(str(path), dict(inputs), seed=0).SerializeToString()
    return Workload(path.name, model, dict(inputs), precision=precision)
