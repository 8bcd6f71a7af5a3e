"""Each property goes red on an engine that is broken where the property looks."""

from dataclasses import replace

import numpy as np
import pytest
from tests.registry.properties import DOUBLE, PROPERTIES, Case, Engine

from omniconv.kinds import kinds
from omniconv.reference import reference
from omniconv.spec import Conv


def shifted(spec, x, weights):
    return np.roll(reference(spec, x, weights), 1, -1)


def truncated(spec, x, weights):
    return reference(spec, x, weights)[..., :-1]


def squared(spec, x, weights):
    return reference(spec, x, weights) ** 2


def quadratic_in_w(spec, x, weights):
    return reference(spec, x, [(w * np.abs(w), b) for w, b in _pairs(spec, weights)])


def one_too_many(spec, x, weights):
    y = reference(spec, x, weights)
    return y if _pairs(spec, weights)[-1][1] is None else y + 1


def taps_backwards(spec, x, weights):
    return reference(spec, x, [(w[..., ::-1], b) for w, b in _pairs(spec, weights)])


def next_image(spec, x, weights):
    y = reference(spec, x, weights)
    y[1:] += y[:1] + 1
    return y


def overwriting(spec, x, weights):
    y = reference(spec, x, weights)
    x[...] = 0
    return y


def contiguous_only(spec, x, weights):
    flat = np.lib.stride_tricks.as_strided(x, x.shape, np.empty(x.shape, x.dtype).strides)
    return reference(spec, np.nan_to_num(flat), weights)


def groups_rotated(spec, x, weights):
    if isinstance(spec, Conv) and spec.groups > 1:
        x = np.roll(x, spec.in_channels // spec.groups, 1)
    return reference(spec, x, weights)


def position_dependent(spec, x, weights):
    y = reference(spec, x, weights)
    return y * np.arange(1, y.shape[-1] + 1)


def wider(spec, x, weights):
    return reference(spec, x, weights) + np.abs(x).sum()


def dense_taps(spec, x, weights):
    if isinstance(spec, Conv) and not spec.transposed and spec.stride != (1,) * spec.dims:
        spec = spec.resolve(x.shape)
        late = tuple((before + 1, max(0, after - 1)) for before, after in spec.padding)
        wrong = replace(spec, padding=late)
        if spec.padding_mode == "zeros" and wrong.output_shape(x.shape) == spec.output_shape(x.shape):
            return reference(wrong, x, weights)
    return reference(spec, x, weights)


def _pairs(spec, weights):
    return [weights] if isinstance(spec, Conv) and not isinstance(weights[0], tuple) else list(weights)


RED = [
    ("equals_brute_force", shifted),
    ("equals_brute_force", truncated),
    ("equals_brute_force", taps_backwards),
    ("equals_brute_force", one_too_many),
    ("equals_brute_force", dense_taps),
    ("linear_in_x", squared),
    ("linear_in_w", quadratic_in_w),
    ("bias_is_added", one_too_many),
    ("adjoint", position_dependent),
    ("adjoint", shifted),
    ("batch_is_one_by_one", next_image),
    ("inputs_are_left_alone", overwriting),
    ("inputs_are_left_alone", contiguous_only),
    ("groups_are_sliced_dense", groups_rotated),
    ("shift_equivariant_inside", position_dependent),
    ("receptive_field_is_support", wider),
    ("receptive_field_is_support", shifted),
]


PARTIAL = {taps_backwards, dense_taps}
"""What leaves some specs as they are: a red is asked for where the result is another."""


def is_broken(case):
    x, weights = case.draw()
    return not np.array_equal(case.engine.run(case.spec, x, weights), reference(case.spec, x, weights))


def goes_red(prop, case):
    try:
        prop(case)
    except (AssertionError, ValueError):  # ValueError: writing to a read-only input
        return True
    return False


@pytest.mark.parametrize(("name", "broken"), RED, ids=[f"{name}-{broken.__name__}" for name, broken in RED])
def test_property_goes_red_on_every_kind(name, broken):
    prop = PROPERTIES[name]
    engine = Engine(broken.__name__, broken, DOUBLE)
    asked = 0
    for kind in kinds().values():
        cases = [Case(kind.build(sample), sample.shape, engine) for sample in kind.samples]
        cases = [case for case in cases if prop.applies(case) and (broken not in PARTIAL or is_broken(case))]
        assert not cases or any(goes_red(prop, case) for case in cases), f"{kind.name} stays green"
        asked += bool(cases)
    assert asked > 0


def test_every_computing_property_is_sabotaged_on_every_kind_it_applies_to():
    whole = {name for name, broken in RED if broken not in PARTIAL}
    assert {name for name, prop in PROPERTIES.items() if prop.computes} == whole
