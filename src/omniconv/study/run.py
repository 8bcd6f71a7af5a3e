"""`run_study`: measures times, chooses widths, trains, and judges. What is finished is kept in a journal."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

import omniconv
from omniconv.bench.machine import describe_machine
from omniconv.choices import check_instance
from omniconv.errors import DataError, SpecError
from omniconv.integers import as_integer, ceil_div
from omniconv.records import dataclass
from omniconv.study.decoders import DIMS, ENLARGINGS, Scenes, make_scenes, measure_first, train_decoder
from omniconv.study.images import LabelledImages
from omniconv.study.journal import NAME, StudyJournal
from omniconv.study.load import load_images
from omniconv.study.networks import Design
from omniconv.study.results import Findings, summarise
from omniconv.study.settings import BATCH, FEWEST_EPOCHS, RATES, StudySettings
from omniconv.study.split import DataSplit, split_images
from omniconv.study.study import Study
from omniconv.study.timing import match_width, measure_times
from omniconv.study.training import Training, one_thread, train
from omniconv.study.variants import STANDARD, find_variants
from omniconv.study.workers import StudyJob, Workers

OnStep = Callable[[str, float], None]

TUNING: Final = 1000
"""Added to the first seed: the seed with which rates of learning are tried, which no result comes from."""
DECODER_STEP: Final = 3e-3
"""Of training, for estimates [s]."""
OVERHEAD: Final = 1.3
"""How many times as long as its steps a training takes, for estimates."""


@dataclass(frozen=True, eq=False)
class _Setting:
    """What everything here is about."""

    settings: StudySettings
    images: LabelledImages
    split: DataSplit
    journal: StudyJournal
    scenes: Scenes
    workers: Workers
    processes: int
    on_step: OnStep
    began: float

    def design(self, kind: str, width: int) -> Design:
        """The network of a kind that has room for a width."""
        variant = find_variants((kind,))[-1] if kind != STANDARD else find_variants((STANDARD,))[0]
        _, channels, size, _ = self.images.x.shape
        return Design(variant, variant.fit(width), channels, size, len(self.images.classes))

    def once(self, key: str, make: Callable[[], Any]) -> Any:
        """What a job finds, from the journal where it is done."""
        if key not in self.journal.found:
            self.journal.add(key, make())
        return self.journal.found[key]

    def many(self, text: str, jobs: dict[str, StudyJob]) -> None:
        """All of some jobs that are not done yet."""
        left = [(key, job) for key, job in jobs.items() if key not in self.journal.found]
        self.on_step(text, 1 - len(left) / len(jobs))
        for done, (key, found) in enumerate(self.workers.work(left), 1):
            self.journal.add(key, found)
            self.on_step(text, 1 - (len(left) - done) / len(jobs))


def run_study(
    data: str | LabelledImages = "digits",
    settings: StudySettings | None = None,
    *,
    folder: str | os.PathLike[str] | None = None,
    resume: bool = True,
    processes: int = 1,
    on_step: OnStep | None = None,
) -> Study:
    """Train one small network with every kind of convolution, measure it, and judge what is claimed of the kinds.

    Args:
        data: ``"digits"``, ``"textures"``, the path of a folder with a folder for each class, of an ``.npz`` archive or
            of what the library ``datasets`` saved; or :class:`omniconv.study.images.LabelledImages`.
        settings: what is studied, and how long.
        folder: that is there, for the journal with which a run that was stopped goes on; none for no journal.
        resume: go on with the journal that is there; otherwise begin anew.
        processes: that train at once. The result does not depend on it. With more than one, a script needs the guard
            ``if __name__ == "__main__"``.
        on_step: called with what is being done, and the share of it that is finished.

    Raises:
        DataError: too few images of a class, or a journal of another study.
        SpecError: a setting out of range, or less time than the fewest epochs take.
        StorageError: images or a journal that cannot be read or written.
        UnsupportedError: a package that is needed is not installed.
    """
    began = time.monotonic()
    given = StudySettings() if settings is None else settings
    check_instance("settings", given, StudySettings, need="StudySettings", fix="StudySettings(seeds=5)")
    count = as_integer("processes", processes, 1, 1024)
    if on_step is not None and not callable(on_step):
        raise DataError(f"on_step is {type(on_step).__name__}", need="a function")
    images = data if isinstance(data, LabelledImages) else load_images(data)
    if given.most_images is not None:
        images = images.take(given.most_images)
    split = split_images(images, given.first_seed)
    path = None if folder is None else Path(folder) / NAME
    journal = StudyJournal(path, describe(given, images), resume=resume)
    try:
        scenes = make_scenes(images.x)
        with Workers({"split": split, "scenes": scenes}, count) as workers:
            report = on_step or (lambda _, __: None)
            return _run(_Setting(given, images, split, journal, scenes, workers, count, report, began))
    finally:
        journal.close()


def describe(settings: StudySettings, images: LabelledImages) -> dict[str, Any]:
    """What decides the findings of a study. Time does not: the epochs that it left are a finding themselves."""
    return {
        "omniconv": omniconv.__version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "data": images.digest,
        **{name: value for name, value in asdict(settings).items() if name != "minutes"},
    }


def _run(at: _Setting) -> Study:
    settings, found = at.settings, at.journal.found
    designs = {kind: at.design(kind, settings.width) for kind in settings.kinds}
    standard = designs[STANDARD]
    times = at.once(
        "times",
        lambda: measure_times(list(designs.values()), at.split, lambda share: at.on_step("measuring times", share)),
    )
    widths = {STANDARD: [standard.width, 1.0]}
    for place, kind in enumerate(settings.kinds[1:]):
        at.on_step("choosing widths", place / (len(settings.kinds) - 1))
        widths[kind] = at.once(f"width/{kind}", lambda kind=kind: list(match_width(designs[kind], standard, at.split)))  # type: ignore[misc]
    matched = {kind: replace(designs[kind], width=int(width)) for kind, (width, _) in widths.items()}
    # A network that both comparisons have is trained once.
    pairs = {(kind, design.width): design for group in (designs, matched) for kind, design in group.items()}
    paces = {(kind, widths[kind][0]): widths[kind][1] for kind in settings.kinds} | {
        (kind, design.width): _median(times[kind]["pytorch_training"]) / _median(times[STANDARD]["pytorch_training"])
        for kind, design in designs.items()
    }
    step = _median(times[STANDARD]["pytorch_training"]) * BATCH
    work_per_epoch = sum(paces.values()) * step * ceil_div(at.split.counts[0], BATCH)
    epochs = at.once("epochs", lambda: _choose_epochs(at, work_per_epoch))
    jobs: dict[str, StudyJob] = {}
    for (kind, width), design in pairs.items():
        for rate in RATES:
            tried = Training(design, rate, settings.first_seed + TUNING, epochs, judge=False)
            jobs[f"tune/{kind}/{width}/{rate}"] = (train, (tried, "split"))
    at.many("trying rates of learning", jobs)
    rates = {pair: _choose_rate(found, *pair) for pair in pairs}
    seeds = range(settings.first_seed, settings.first_seed + settings.seeds)
    jobs = {
        f"train/{kind}/{width}/{seed}": (train, (Training(design, rates[kind, width], seed, epochs), "split"))
        for seed in seeds
        for (kind, width), design in pairs.items()
    }
    at.many("training", jobs)
    jobs = {
        f"first/{name}/{dims}": (measure_first, (name, dims, settings.first_seed, "scenes"))
        for dims in DIMS
        for name in ENLARGINGS
    }
    jobs |= {
        f"decoder/{name}/{dims}/{seed}": (train_decoder, (name, dims, seed, settings.decoder_steps, "scenes"))
        for seed in seeds
        for dims in DIMS
        for name in ENLARGINGS
    }
    at.many("training decoders", jobs)
    machine = at.once("machine", lambda: describe_machine(1))
    findings = Findings(
        settings, at.images, at.split, machine, epochs, designs, matched, widths, RATES, rates, times, found, at.scenes
    )
    with one_thread():
        return summarise(findings)


def _median(values: Sequence[float]) -> float:
    return float(np.median(values))


def _choose_epochs(at: _Setting, work_per_epoch: float) -> int:
    """As many epochs as were asked for, or as the time allows.

    Raises:
        SpecError: not even :data:`omniconv.study.settings.FEWEST_EPOCHS`.
    """
    settings = at.settings
    if settings.minutes is None:
        return settings.epochs
    trainings = len(RATES) + settings.seeds
    per_epoch = OVERHEAD * trainings * work_per_epoch / at.processes
    decoders = len(DIMS) * len(ENLARGINGS) * settings.seeds * settings.decoder_steps * DECODER_STEP / at.processes
    spent = time.monotonic() - at.began + decoders
    epochs = min(settings.epochs, math.floor((60 * settings.minutes - spent) / per_epoch))
    fewest = min(FEWEST_EPOCHS, settings.epochs)
    if epochs < fewest:
        least = math.ceil((spent + fewest * per_epoch) / 6) / 10
        raise SpecError(
            f"{settings.minutes:g} minutes are too few for {len(settings.kinds)} kinds with {settings.seeds} seeds",
            need=f"about {least:g} for {fewest} epochs each",
            fix="fewer kinds, seeds or images",
        )
    return epochs


def _choose_rate(found: dict[str, Any], kind: str, width: int) -> float:
    """The rate whose validation is best; of equal ones the one with the lower loss, which may be none (no number)."""

    def rank(rate: float) -> tuple[float, float]:
        tried = found[f"tune/{kind}/{width}/{rate}"]
        return -tried["accuracy"], math.inf if tried["loss"] is None else tried["loss"]

    return min(RATES, key=rank)
