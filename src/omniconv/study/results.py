"""`summarise`: from what the jobs found to the tables of a study, with intervals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from omniconv.records import dataclass
from omniconv.study.bootstrap import (
    Float64,
    Spread,
    compare_means,
    compare_sums,
    compare_times,
    interval,
    resample_accuracies,
)
from omniconv.study.decoders import DIMS, ENLARGINGS, Scenes, measure_scenes
from omniconv.study.evidence import find_claims
from omniconv.study.images import LabelledImages
from omniconv.study.networks import Design
from omniconv.study.settings import StudySettings
from omniconv.study.split import DataSplit
from omniconv.study.study import DecoderResult, KernelResult, KindResult, MeasuredTime, Study
from omniconv.study.timing import MEASURES, Times
from omniconv.study.variants import STANDARD, VARIANTS


@dataclass(frozen=True, eq=False)
class Findings:
    """What the jobs of a study found.

    Attributes:
        settings, images, split, machine, epochs: of the study.
        designs, matched: the networks of both comparisons, by kind.
        widths: of the second comparison, with how many times as long a step takes.
        tried: rates of learning.
        rates: those of them that were chosen, by kind and width.
        times: of the first comparison.
        found: of each training, by name.
        scenes: that decoders learned.
    """

    settings: StudySettings
    images: LabelledImages
    split: DataSplit
    machine: dict[str, Any]
    epochs: int
    designs: Mapping[str, Design]
    matched: Mapping[str, Design]
    widths: Mapping[str, Any]
    tried: tuple[float, ...]
    rates: Mapping[tuple[str, int], float]
    times: Times
    found: Mapping[str, Any]
    scenes: Scenes

    def runs(self, design: Design) -> list[dict[str, Any]]:
        """The trainings of a network, seed by seed."""
        first = self.settings.first_seed
        name = f"train/{design.variant.name}/{design.width}"
        return [self.found[f"{name}/{seed}"] for seed in range(first, first + self.settings.seeds)]

    def right(self, design: Design, key: str = "wrong") -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Whether the network of a seed names an image of the test rightly, ``(seeds, images)``."""
        runs = self.runs(design)
        right = np.ones((len(runs), self.split.counts[2]), bool)
        for row, run in zip(right, runs, strict=True):
            row[run[key]] = False
        return right


def summarise(at: Findings) -> Study:
    """All of it, judged."""
    groups = (at.designs, at.matched)
    designs = [design for group in groups for design in group.values()]
    standard = at.designs[STANDARD]
    right = np.stack([*(at.right(design) for design in designs), at.right(standard, "wrong_cut")])
    draws = resample_accuracies(right, at.settings.first_seed)
    values = right.mean(axis=(1, 2))
    base = draws[:, 0], values[0]
    same_width: list[KindResult] = []
    same_time: list[KindResult] = []
    for place, design in enumerate(designs):
        first = place < len(at.designs)
        accuracy = interval(values[place], draws[:, place])
        difference = interval(values[place] - base[1], draws[:, place] - base[0])
        (same_width if first else same_time).append(_describe(at, design, accuracy, difference, first))
    runs = at.runs(standard)
    kernels = KernelResult(
        compare_means(np.array([run["rest"] for run in runs])),
        compare_means(np.array([run["rest_before"] for run in runs])),
        interval(values[-1] - base[1], draws[:, -1] - base[0]),
    )
    decoders = tuple(_describe_decoder(at, name, dims) for dims in DIMS for name in ENLARGINGS)
    grids = {(name, dims): _read_grid(at, name, dims) for name in ENLARGINGS for dims in DIMS}
    pairs = {item.kind: draws[:, place] for place, item in enumerate(same_width)}
    claims = find_claims(tuple(same_width), tuple(same_time), kernels, decoders, grids, pairs)
    return Study(
        {**asdict(at.settings), "rates": list(at.tried)},
        _describe_data(at),
        at.machine,
        at.epochs,
        tuple(_note(at)),
        tuple(same_width),
        tuple(same_time),
        kernels,
        decoders,
        claims,
    )


def _describe(at: Findings, design: Design, accuracy: Spread, difference: Spread, first: bool) -> KindResult:
    kind = design.variant.name
    runs = at.runs(design)
    times = {}
    if first:
        for name in MEASURES:
            own, base = (np.array(at.times[each][name]) for each in (kind, STANDARD))
            times[name] = MeasuredTime(float(np.median(own)), compare_times(own, base))
    return KindResult(
        kind,
        design.variant.words,
        design.width,
        at.rates[kind, design.width],
        design.parameters,
        design.macs,
        design.field,
        float(np.mean([run["epochs"] for run in runs])),
        accuracy,
        difference,
        None if first else float(at.widths[kind][1]),
        times,
    )


def _read_grid(at: Findings, name: str, dims: int) -> Float64:
    """Energy of what is wrong at the frequencies of the grid, over the variance of the images, seed by seed."""
    return np.array([run["share_error"] * run["error"] for run in _read_runs(at, name, dims)])


def _read_runs(at: Findings, name: str, dims: int) -> list[dict[str, float]]:
    first = at.settings.first_seed
    return [at.found[f"decoder/{name}/{dims}/{seed}"] for seed in range(first, first + at.settings.seeds)]


def _describe_decoder(at: Findings, name: str, dims: int) -> DecoderResult:
    enlarging = ENLARGINGS[name]
    predicted = enlarging.predict(dims)
    untrained = at.found[f"first/{name}/{dims}"]
    energies = np.array(untrained["energies"])
    above, below = int(np.argmax(predicted)), int(np.argmin(predicted))
    if above == below:
        above = len(predicted) - 1
    totals = energies.mean(axis=0)
    runs = _read_runs(at, name, dims)
    return DecoderResult(
        name,
        dims,
        enlarging.factor,
        tuple(predicted),
        tuple(float(value) for value in totals / totals[below]),
        compare_sums(energies, above, below),
        compare_means(np.array(untrained["shares"])),
        compare_means(np.array([run["share"] for run in runs])),
        measure_scenes(dims, enlarging.factor, at.scenes),
        compare_means(_read_grid(at, name, dims)),
        compare_means(np.array([run["error"] for run in runs])),
    )


def _describe_data(at: Findings) -> dict[str, Any]:
    images = at.images
    train, validation, test = at.split.counts
    return {
        "name": images.name,
        "task": images.task,
        "classes": list(images.classes),
        "shape": list(images.x.shape[1:]),
        "training": train,
        "validation": validation,
        "test": test,
        "left_out": list(images.left_out),
        "digest": images.digest,
    }


def _note(at: Findings) -> list[str]:
    """What differs from what was asked for."""
    notes = []
    if at.epochs < at.settings.epochs:
        notes.append(f"the time allowed {at.epochs} epochs instead of {at.settings.epochs}, for every kind")
    for kind, design in at.designs.items():
        if design.width != at.settings.width:
            notes.append(
                f"{kind} cannot have width {at.settings.width}, which is no multiple of {VARIANTS[kind].multiple}; "
                f"it took {design.width}"
            )
    for kind, (width, pace) in at.widths.items():
        if not 0.8 <= pace <= 1.25:
            notes.append(
                f"{kind} has no width that takes as long as the standard network: at {width} it takes {pace:.2f} times"
            )
    left_out = at.images.left_out
    if left_out:
        shown = "; ".join(left_out[:3]) + ("; ..." if len(left_out) > 3 else "")
        notes.append(f"{len(left_out)} image{'s' if len(left_out) > 1 else ''} left out: {shown}")
    return notes
