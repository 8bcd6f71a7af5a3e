"""What reports say about models that have something to find."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from tests.report import models
from tests.report.conftest import inspect_model
from tests.report.models import Net

from omniconv.graph import to_program
from omniconv.report.findings import Evidence, find_all, level_of, say
from omniconv.report.groups import find_runs
from omniconv.report.layers import LayerRow
from omniconv.report.spectra import find_spectra


def lines(model, **options):
    return [say(item) for item in inspect_model(model, **options).findings]


def test_the_most_important_comes_first(awkward):
    severities = [item.severity for item in awkward.findings]
    assert severities == sorted(severities, reverse=True)
    first = awkward.findings[0]
    assert first.where == "up2"
    assert level_of(first) == "high"
    assert say(first).startswith("up2: 3x3 stride 2 leaves a 1:2:4 overlap (checkerboard); use a 4x4 kernel")


def test_even_upsampling_is_not_reported():
    assert not [line for line in lines(Net().conv("a", 8).up("up", 4, 4).build()) if "overlap" in line]


def test_gridding_names_the_layers_and_better_rates():
    net = Net(size=64).conv("stem", 8, stride=2)
    for place in (4, 5, 6):
        net.conv(f"block{place}", 8, dilation=2)
    [line] = [line for line in lines(net.build()) if "gridding" in line]
    assert "2, 2, 2" in line
    assert "13x13" in line
    assert "usual rule accepts" in line


@pytest.mark.parametrize("groups", [2, 4, 8])
def test_grouped_runs_see_their_share(groups):
    net = Net().conv("stem", 16).conv("g1", 16, 1, groups=groups).conv("dw", 16, groups=16)
    model = net.conv("g2", 16, groups=groups).conv("mix", 8, 1).build()
    [line] = [line for line in lines(model) if line.startswith("g1 to g2")]
    assert f"each output see 1/{groups} of the inputs" in line
    assert "a channel shuffle between them repairs it" in line


def test_a_run_is_reported_once_from_its_first_to_its_last_layer():
    net = Net().conv("stem", 16)
    for name in ("g1", "g2", "g3"):
        net.conv(name, 16, groups=4)
    [run] = find_runs(to_program(net.conv("mix", 16, 1).build()))
    assert run.layers == ("g1", "g2", "g3")
    assert run.groups == (4, 4, 4)


def test_one_grouped_layer_between_dense_ones_is_no_run():
    model = Net().conv("stem", 16, 1).conv("g", 16, groups=4).conv("mix", 16, 1).conv("h", 16, groups=4).build()
    assert find_runs(to_program(model)) == ()


def test_a_shuffle_repairs_a_run():
    from omniconv import shuffled_grouped
    from omniconv.analysis.subject import as_program

    spec = shuffled_grouped(16, 16, groups=4, form="layers", padding=1)
    [run] = find_runs(as_program(spec, (1, 16, 8, 8)))
    assert run.shuffled
    assert run.found.full
    [run] = find_runs(as_program(shuffled_grouped(16, 16, groups=8, form="layers", padding=1), (1, 16, 8, 8)))
    assert run.found.fraction == pytest.approx(0.25)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_separable_kernels_are_reported(rank):
    model = Net().conv("stem", 8).conv("blur", 8, rank=rank).conv("last", 8).build()
    found = [line for line in lines(model) if "kernels are separable" in line]
    assert bool(found) == (rank == 1)
    if rank == 1:
        assert found[0].startswith("blur: kernels are separable: rank 1 holds 100% of their energy")


def test_spectra_equal_singular_values_of_the_weights():
    program = to_program(models.awkward())
    steps = dict(zip(program.labels, program.steps, strict=True))
    for item in find_spectra(program):
        w = np.asarray(steps[item.name].w, np.float64)
        kernels = np.linalg.svd(w.reshape(-1, *w.shape[2:]), compute_uv=False)
        values = item.forms["kernel"].singular_values  # a transposed layer lists its kernels in another order
        np.testing.assert_allclose(np.sort(values, axis=0), np.sort(kernels, axis=0), atol=1e-12)
        assert item.first == pytest.approx((kernels[:, 0] ** 2).sum() / (w**2).sum(), abs=1e-12)
        for name, form in item.forms.items():
            assert (form.singular_values**2).sum() == pytest.approx((w**2).sum()), name
            assert form.errors[-1] == 0
            name, rank, share = item.cheapest()
            assert item.forms[name].errors[rank] <= 0.01
            assert share == item.forms[name].parameters[rank] / w.size


def test_low_rank_layers_are_reported():
    net = Net().conv("stem", 16)
    model = net.conv("wide", 64).build()
    rng = np.random.default_rng(3)
    from onnx import numpy_helper

    low = rng.standard_normal((64, 3)) @ rng.standard_normal((3, 16 * 9))
    model.graph.initializer[1].CopyFrom(numpy_helper.from_array(np.float32(low.reshape(64, 16, 3, 3)), "wide.w"))
    [line] = [line for line in lines(model) if line.startswith("wide: rank")]
    assert line.startswith("wide: rank 3 of the bottleneck form keeps 99% of the energy in 7% of the parameters")


def test_gaps_come_first_and_stop_what_cannot_be_known():
    found = inspect_model(models.unsupported())
    first, second = found.findings[:2]
    assert (first.where, first.severity) == ("odd", 1.0)
    assert "Bernoulli is not supported; what is behind it is analysed as if it began here" in say(first)
    assert "Gadget is not supported; 2 more nodes behind it cannot be analysed" in say(second)
    assert {item.name for item in found.layers if item.macs} == {"stem", "middle"}
    assert not [item for item in found.findings if item.topic in ("field", "connectivity")]


def row(name, macs, seconds, bound=None):
    return LayerRow(name, "conv", "", (1,), (1,), 0, macs, macs, 0, 1, 1.0, seconds, bound)


def say_rows(*rows):
    program = to_program(Net().conv("a", 8, relu=False).build())
    return [say(item) for item in find_all(Evidence(program, rows)) if item.topic == "time"]


def test_layers_that_take_longer_than_their_work():
    assert say_rows(row("a", 95, 0.6), row("b", 5, 0.4)) == [
        "b: takes 40% of the time but does 5.0% of the multiply-accumulates"
    ]
    assert say_rows(row("a", 50, 0.5), row("b", 50, 0.5)) == []
    assert say_rows(row("a", 50, 0.5, 0.1), row("b", 50, 0.5, 0.4)) == [
        "a: takes 50% of the time and reaches 20% of what this machine allows it"
    ]
    [line] = say_rows(row("a", 100, 0.5), row("b", 0, 0.3), row("c", 0, 0.2))
    assert line == "2 layers without multiply-accumulates (conv) take 50% of the time"


def test_findings_need_no_measurement():
    assert not [item for item in inspect_model(models.awkward(), timed=False).findings if item.topic == "time"]


def test_records_become_plain_values(awkward):
    plain = awkward.layers[0].to_dict()
    assert plain["name"] == "stem"
    assert set(plain) == {item.name for item in dataclasses.fields(LayerRow)}


def test_rows_hold_the_field_and_the_bound(awkward):
    rows = {item.name: item for item in awkward.layers}
    assert rows["stem"].field_size == (3, 3)
    assert rows["block4"].field_size == (15, 15)
    assert [str(stride) for stride in rows["up2"].field_stride] == ["1/2", "1/2"]
    for item in awkward.layers:
        if item.macs:
            assert item.bound_seconds == pytest.approx(max(2 * item.macs / 100e9, item.bytes / 20e9))
            assert item.roofline_share == pytest.approx(item.bound_seconds / item.seconds)
