"""The page's model in node, and settings to ask it about."""

from __future__ import annotations

import inspect
import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from tests.strategies import Problem, problems

import omniconv
from omniconv.errors import OmniconvError
from omniconv.kinds import kinds
from omniconv.spec import Shape, Spec

PAGE = Path(omniconv.__file__).parent / "explorer" / "page"
NODE = shutil.which("node")

needs_node = pytest.mark.skipif(NODE is None, reason="node is not installed; apt-get install nodejs")


def ask(requests: list[dict]) -> list[dict]:
    """The answers of one node process, in order."""
    done = subprocess.run(
        [NODE, str(Path(__file__).with_name("answer.mjs")), str(PAGE)],
        input=json.dumps(requests),
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def drawn(count: int) -> list[Problem]:
    """So many legal specs with shapes, the same at every call."""
    found: list[Problem] = []

    @settings(
        max_examples=count,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(problems())
    def collect(problem):
        found.append(problem)

    collect()
    return found


def random_arguments(rng: np.random.Generator, name: str) -> dict:
    """Arguments of a kind, some of which break a rule."""
    dims = int(rng.integers(1, 4))

    def pick(*values):
        return values[rng.integers(len(values))]

    def rarely(wrong, *values):
        return wrong if rng.random() < 0.03 else pick(*values)

    def axes(wrong, *values):
        form = rng.random()
        if form < 0.5:
            return rarely(wrong, *values)
        return tuple(rarely(wrong, *values) for _ in range(dims if form < 0.98 else pick(1, 2, 3)))

    def padding():
        form = rng.random()
        if form < 0.35:
            return rarely("full", "same", "same_lower", "causal", "valid")
        if form < 0.7:
            return axes(-1, 0, 1, 2, 1, 3)
        return tuple((pick(0, 1, 2, 4), pick(0, 1, 3)) for _ in range(dims))

    choices = {
        "in_channels": lambda: rarely(0, 1, 2, 4, 6, 8, 12),
        "out_channels": lambda: rarely(-1, 1, 2, 4, 6, 8, 12),
        "mid_channels": lambda: rarely(0, None, None, None, 2, 4),
        "second_groups": lambda: pick(None, None, 1, 2, 3),
        "channel_multiplier": lambda: rarely(0, 1, 1, 2, 3),
        "groups": lambda: rarely(0, 1, 1, 2, 2, 4),
        "factor": lambda: rarely(0, 1, 2, 3),
        "mode": lambda: rarely("cubic", "nearest", "linear"),
        "form": lambda: pick("unit", "layers") if name == "shuffled_grouped" else rarely("x", "per_channel", "dense"),
        "kernel_size": lambda: axes(0, 1, 2, 3, 3, 4, 5),
        "kernel_sizes": lambda: tuple(axes(0, 1, 2, 3, 5) for _ in range(rng.integers(0, 4))),
        "splits": lambda: pick(None, None, (1, 1), (2, 1), (1, 2, 3)),
        "stride": lambda: axes(0, 1, 1, 1, 2, 2, 3),
        "dilation": lambda: axes(-1, 1, 1, 1, 2, 3),
        "padding": padding,
        "output_padding": lambda: axes(5, 0, 0, 0, 1),
        "padding_mode": lambda: rarely("mirror", "zeros", "zeros", "reflect", "replicate", "circular"),
        "axes": lambda: rarely((2,), None, (0,), (0,)),
        "activation": lambda: rarely("swash", None, "relu", "silu", "gelu"),
        "flip": lambda: pick(False, True),
        "dims": lambda: rarely(4, None, dims, dims),
    }
    given: dict = {}
    for parameter in inspect.signature(kinds()[name].constructor).parameters.values():
        required = parameter.default is inspect.Parameter.empty
        if required or rng.random() < 0.6:
            given[parameter.name] = choices[parameter.name]()
    return given


def random_shape(rng: np.random.Generator, spec: Spec) -> Shape:
    """An input shape, now and then of another rank, other channels or without values."""
    dims = spec.dims if rng.random() < 0.95 else 2
    channels = spec.in_channels if rng.random() < 0.95 else 5
    smallest = 0 if rng.random() < 0.05 else 1
    return (int(rng.integers(1, 3)), channels, *(int(size) for size in rng.integers(smallest, 9, dims)))


def random_settings(count: int, seed: int) -> list[dict]:
    """Settings of every kind, legal or not, with what Python says to each."""
    rng = np.random.default_rng(seed)
    names = list(kinds())
    found = []
    for index in range(count):
        name = names[index % len(names)]
        arguments = random_arguments(rng, name)
        shape = None
        try:
            spec = kinds()[name].constructor(**arguments)
            shape = random_shape(rng, spec)
            expected: dict = {"answer": {"text": spec.text(shape), "output": list(spec.output_shape(shape))}}
        except OmniconvError as error:
            expected = {"error": type(error).__name__, "message": str(error)}
        found.append({"kind": name, "given": arguments, "shape": shape, "expected": expected})
    return found


def as_json(value):
    """A default as JSON has it."""
    return list(value) if isinstance(value, tuple) else value
