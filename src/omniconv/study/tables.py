"""The tables of a study, as texts: for the page, the terminal and the documentation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from omniconv.records import dataclass
from omniconv.report.words import count_words, seconds_words
from omniconv.study.bootstrap import Spread
from omniconv.study.settings import BATCH, PATIENCE
from omniconv.study.study import DecoderResult, KindResult, Study
from omniconv.study.timing import MEASURES
from omniconv.study.words import say_times

HEADINGS: Final = {
    "pytorch_training": "PyTorch, training",
    "omniconv_training": "Omniconv, training",
    "pytorch_inference": "PyTorch, inference",
    "omniconv_inference": "Omniconv, inference",
}


@dataclass(frozen=True, slots=True)
class TextTable:
    """A table of texts, the first ``left`` columns of which are words."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    left: int = 1


def make_accuracies(title: str, kinds: Sequence[KindResult], *, layers: bool = True) -> TextTable:
    """What each kind has learned, with or without what its layers are."""
    paced = any(item.pace is not None for item in kinds)
    columns = ["kind", *(["layers"] if layers else []), "width", "parameters", "MACs", "accuracy [%]"]
    columns += ["difference [points]", "rate", "epochs", *(["step"] if paced else [])]
    rows = []
    for item in kinds:
        row = [item.kind, *([item.words] if layers else [])]
        row += [f"{item.width}", count_words(item.parameters), count_words(item.macs)]
        row.append(_write(item.accuracy, ".1f"))
        row.append("" if item.kind == kinds[0].kind else _write(item.difference, "+.1f"))
        row += [f"{item.rate:g}", f"{item.epochs:.1f}"]
        if item.pace is not None:
            row.append(f"{item.pace:.2f}")
        rows.append(tuple(row))
    return TextTable(title, tuple(columns), tuple(rows), 2 if layers else 1)


def _write(found: Spread, form: str) -> str:
    """A share in hundredths, with its bounds."""
    return f"{100 * found.value:{form}} ({100 * found.low:{form}} to {100 * found.high:{form}})"


def make_times(found: Study) -> TextTable:
    """Saved on paper, and what an image takes."""
    base = found.same_width[0]
    rows = []
    for item in found.same_width:
        row = [item.kind, f"{base.parameters / item.parameters:.2f}", f"{base.macs / item.macs:.2f}"]
        for name in MEASURES:
            time = item.times[name]
            row.append(f"{seconds_words(time.seconds)}, {1 / time.ratio.value:.2f}")
        row.append(seconds_words(item.times[MEASURES[0]].seconds * found.data["training"]))
        rows.append(tuple(row))
    headings = tuple(HEADINGS[name] for name in MEASURES)
    columns = ("kind", "fewer parameters", "fewer MACs", *headings, "an epoch by PyTorch")
    return TextTable("Times fewer and times faster than the standard network; time of an image", columns, tuple(rows))


def make_decoders(decoders: Sequence[DecoderResult]) -> TextTable:
    """What is predicted of each way of enlarging, and what was measured."""
    columns = (
        "enlarged by", "axes", "taps", "energy of phases", "largest over least", "grid, untrained", "grid, trained",
        "in real images", "grid in the error [%]",
    )  # fmt: skip
    rows = []
    for item in decoders:
        row = [item.name, f"{item.dims}", *_group_phases(item), say_times(item.contrast)]
        row += [f"{100 * share:.2f} %" for share in (item.untrained.value, item.trained.value, item.real)]
        rows.append((*row, _write(item.grid, ".2g")))
    return TextTable("The grid in generated images", columns, tuple(rows))


def _group_phases(item: DecoderResult) -> tuple[str, str]:
    """The different numbers of taps, and the mean energy of the phases with each, the least being 1."""
    levels = sorted(set(item.predicted))
    sums = [[e for taps, e in zip(item.predicted, item.energies, strict=True) if taps == level] for level in levels]
    means = [sum(energies) / len(energies) for energies in sums]
    energies = ":".join(f"{mean / min(means):.2f}" for mean in means)
    return ":".join(f"{level:g}" for level in levels), energies if len(levels) > 1 else "even"


def make_settings(found: Study) -> TextTable:
    """How it was done."""
    data, settings, machine = found.data, found.settings, found.machine
    first = settings["first_seed"]
    tried = ", ".join(f"{rate:g}" for rate in settings.get("rates", ()))  # which early runs did not keep
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    rows = (
        ("images", f"{data['task']}: {'x'.join(map(str, data['shape']))}, {len(data['classes'])} classes"),
        ("split", f"{data['training']} to learn from, {data['validation']} to choose by, {data['test']} to judge by"),
        ("network", "stem, three layers of the kind, each with a batch norm and ReLU; mean over positions; linear"),
        (
            "seeds",
            f"{first} to {first + settings['seeds'] - 1}: first stem, decision and order of images alike for all kinds",
        ),
        (
            "training",
            f"at most {found.epochs} epochs of batches of {BATCH}, AdamW, the rate falling along half a cosine",
        ),
        (
            "tuning",
            f"rates {tried or 'not kept'} for each kind and width, by another seed's validation",
        ),
        ("early stop", f"after {PATIENCE} epochs without a better validation; the best epoch counts"),
        ("intervals", "95 %, by bootstrap over seeds and images, paired"),
        ("times", f"one thread, batch {BATCH}, all networks in turns, medians"),
        ("machine", f"{machine['cpu']}, {machine['system']}, Python {machine['python']}"),
        ("versions", versions),
    )
    return TextTable("How it was done", ("what", "how"), rows, 2)
