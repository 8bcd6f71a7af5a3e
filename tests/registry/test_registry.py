"""Every kind's every sample through every property, on every engine; random specs through the same properties."""

from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings
from tests.registry.properties import ENGINES, PROPERTIES, Case
from tests.strategies import chains, convs

from omniconv.kinds import kinds
from omniconv.spec import Chain, Conv

TURNS = [
    pytest.param(
        engine, turn, marks=[pytest.mark.wide] if turn == 0 else [], id=name if turn is None else f"{name}-{word}"
    )
    for name, engine in ENGINES.items()
    for turn, word in ([(None, "all")] if name == "reference" else [(1, "odd"), (0, "even")])
]
"""Compiled, a property sees every second of the samples that it applies to, the first among them, and the wide run sees
the others."""


@pytest.mark.parametrize("kind", kinds().values(), ids=list(kinds()))
@pytest.mark.parametrize(("engine", "turn"), TURNS)
def test_kind(engine, turn, kind, tally):
    """Every sample through every property that has a meaning for it."""
    seen = Counter()
    for sample in kind.samples:
        case = Case(kind.build(sample), sample.shape, engine)
        for prop in PROPERTIES.values():
            if not prop.applies(case) or (not prop.computes and engine.name != "reference"):
                continue
            seen[prop.name] += 1
            if turn is not None and seen[prop.name] % 2 != turn:
                continue
            try:
                prop(case)
            except Exception as error:
                error.add_note(f"property {prop.name} of {kind.name}({sample}) on {engine.name} | {case}")
                raise
            tally(f"sample x property, {engine.name}")


@pytest.mark.parametrize("kind", kinds().values(), ids=list(kinds()))
def test_samples_are_varied(kind):
    specs = [kind.build(sample) for sample in kind.samples]
    assert 4 <= len(specs) <= 10
    assert len({(spec, sample.shape) for spec, sample in zip(specs, kind.samples, strict=True)}) == len(specs)
    assert {spec.dims for spec in specs} >= ({2, 3} if kind.name == "factorised" else {1, 2, 3})
    assert any(sample.shape[0] > 1 for sample in kind.samples)
    assert any(spec.in_channels % 2 for spec in specs)


@pytest.mark.parametrize("kind", kinds().values(), ids=list(kinds()))
def test_traits_hold(kind):
    specs = [kind.build(sample) for sample in kind.samples]
    assert ("single" in kind.traits) == all(isinstance(spec, Conv) for spec in specs)
    assert ("chain" in kind.traits) == all(isinstance(spec, Chain) for spec in specs)
    convs = [conv for spec in specs for conv in ((spec,) if isinstance(spec, Conv) else spec.convs)]
    if "per_channel" in kind.traits:
        assert all(conv.groups == conv.in_channels for conv in convs)
    assert ("flips" in kind.traits) == all(conv.flip for conv in convs)
    grows = [
        any(o > 2 * i for i, o in zip(sample.shape[2:], spec.output_shape(sample.shape)[2:], strict=True))
        or spec.output_shape(sample.shape)[2:] == tuple(2 * i for i in sample.shape[2:])
        for spec, sample in zip(specs, kind.samples, strict=True)
    ]
    assert ("upsamples" in kind.traits) == any(grows)


@pytest.mark.parametrize("prop", PROPERTIES.values(), ids=list(PROPERTIES))
@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(problem=convs())
def test_random_conv(prop, problem):
    _check(prop, problem)


@pytest.mark.parametrize("prop", PROPERTIES.values(), ids=list(PROPERTIES))
@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(problem=chains(longest=4))
def test_random_chain(prop, problem):
    _check(prop, problem)


def _check(prop, problem):
    case = Case(problem.spec, problem.shape, ENGINES["reference"])
    if prop.applies(case):
        prop(case)
