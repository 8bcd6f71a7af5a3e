"""Damaged models that still compile give right answers: the machine code against the oracle, in poisoned memory."""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
import pytest
from tests.graph.mutations import mutate_bytes, mutate_fields, mutate_values
from tests.graph.small_models import MODELS, input_shapes
from tests.program_oracle import run_program
from tests.registry.compiled import strictly

import omniconv as oc
from omniconv.errors import OmniconvError
from omniconv.graph import to_program
from omniconv.program.program import Program

COUNT = int(os.environ.get("OMNICONV_FUZZ", "180"))
"""Damaged models altogether; OMNICONV_FUZZ=2000 is the full run."""
MUTATIONS = {"bytes": mutate_bytes, "fields": mutate_fields, "values": mutate_values}
LARGEST, SMALLEST = 1e12, 1e-12
"""Beyond these, float32 has too little room to compare with float64."""


def tame(program: Program, inputs: dict[str, np.ndarray]) -> tuple[dict[str, np.ndarray], float] | None:
    """The outputs in float64 and the largest value on the way; None where float32 cannot follow."""
    everything = tuple(dict.fromkeys((*program.outputs, *(step.y for step in program.steps))))
    values = run_program(replace(program, outputs=everything), inputs)
    largest = max((float(np.abs(value).max(initial=0.0)) for value in values.values()), default=0.0)
    if not np.isfinite(largest) or largest > LARGEST:
        return None
    for value in values.values():
        if 0 < np.abs(value).max(initial=0.0) < SMALLEST:
            return None
    return {name: values[name] for name in program.outputs}, largest


@pytest.mark.parametrize("kind", MUTATIONS)
@pytest.mark.parametrize("name", MODELS)
def test_damaged_models_are_refused_or_right(name: str, kind: str, tally) -> None:
    model = MODELS[name]()
    shapes = input_shapes(model)
    for seed in range(max(COUNT // (len(MUTATIONS) * len(MODELS)), 1)):
        damaged = MUTATIONS[kind](model.SerializeToString() if kind == "bytes" else model, seed)  # type: ignore[operator]
        data = damaged if isinstance(damaged, bytes) else damaged.SerializeToString()
        try:
            f = oc.compile(data, shapes=shapes, memory_limit=1 << 27)
            program = to_program(data, shapes=shapes, memory_limit=1 << 27)
        except OmniconvError:
            tally("damaged models, refused")
            continue
        rng = np.random.default_rng(seed)
        inputs = {key: rng.standard_normal(shape).astype(np.float32) for key, shape in f.inputs.items()}
        got = strictly(f, inputs)
        expected = tame(program, inputs)
        if expected is None:
            tally("damaged models, compiled, beyond the range of float32")
            continue
        wants, largest = expected
        for key, want in wants.items():
            assert got[key].shape == want.shape
            np.testing.assert_allclose(
                got[key], want, rtol=1e-4, atol=1e-5 * largest, err_msg=f"{name} {kind} seed {seed} output {key}"
            )
        tally("damaged models, compiled, right")
