"""The page's model says what Python says: shapes, refusals, taps, values and analyses."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
from tests.explorer.model import as_json, ask, drawn, needs_node, random_settings

from omniconv.analysis import cost
from omniconv.analysis.border import find_border
from omniconv.analysis.connectivity import count_paths, find_blocks
from omniconv.analysis.coverage import coverage
from omniconv.analysis.overlap import count_image, count_phases
from omniconv.analysis.receptive_field import receptive_field
from omniconv.analysis.remedies import find_remedies
from omniconv.analysis.subject import as_program
from omniconv.analysis.support import find_support
from omniconv.analysis.trace import trace
from omniconv.errors import OmniconvError, SpecError
from omniconv.kinds import kinds
from omniconv.reference import random_weights, reference
from omniconv.spec import Activation, Chain, Conv, PixelShuffle, Split, parse

pytestmark = needs_node

SOME = pytest.mark.parametrize("count", [50, pytest.param(200, marks=pytest.mark.wide)])
"""Of what is drawn."""
SAMPLES = [(kind, sample) for kind in kinds().values() for sample in kind.samples]


def test_kinds_have_the_arguments_and_defaults_of_python():
    [found] = ask([{"ask": "defaults"}])
    for name, kind in kinds().items():
        parameters = inspect.signature(kind.constructor).parameters.values()
        given = {p.name: as_json(p.default) for p in parameters if p.default is not inspect.Parameter.empty}
        entries = found["answer"][name]
        assert sorted(entry[0] for entry in entries) == sorted(p.name for p in parameters), name
        # What has no default is undefined, which JSON writes as null; null is also None.
        assert {key: value for key, value in entries if key in given} == given, name


def test_samples_of_every_kind_have_their_text_and_shape():
    requests = [
        {"ask": "kind", "kind": kind.name, "given": dict(sample.arguments), "shape": sample.shape}
        for kind, sample in SAMPLES
    ]
    for (kind, sample), found in zip(SAMPLES, ask(requests), strict=True):
        spec = kind.build(sample)
        expected = {"text": spec.text(sample.shape), "output": list(spec.output_shape(sample.shape))}
        assert found == {"answer": expected}, f"{kind.name}: {sample}"


def test_an_edit_of_a_channel_changes_what_depends_on_it_alone():
    lines = [kind.build(sample).text((1, *sample.shape[1:])) for kind, sample in SAMPLES]
    for line, found in zip(lines, ask([{"ask": "reweigh", "text": line} for line in lines]), strict=True):
        assert all(same for same, _ in found["answer"]), line
        assert any(changed for _, changed in found["answer"]), line


def test_samples_of_every_kind_have_the_values_of_the_reference():
    rng = np.random.default_rng(0)
    requests, expected = [], []
    for kind, sample in SAMPLES:
        spec = kind.build(sample)
        x = rng.standard_normal(sample.shape).astype(np.float32)
        weights = random_weights(spec, rng)
        flat = [(w.ravel().tolist(), None if b is None else b.tolist()) for w, b in weights]
        requests.append({"ask": "evaluate", "text": spec.text(sample.shape), "x": x.ravel().tolist(), "weights": flat})
        expected.append(reference(spec, x, weights).ravel())
    for (kind, sample), found, y in zip(SAMPLES, ask(requests), expected, strict=True):
        np.testing.assert_allclose(found["answer"], y, rtol=1e-11, atol=1e-11, err_msg=f"{kind.name}: {sample}")


def test_refusals_of_every_kind_are_in_the_words_of_python():
    requests, expected = [], []
    for kind in kinds().values():
        for sample in kind.errors:
            requests.append({"ask": "kind", "kind": kind.name, "given": dict(sample.arguments), "shape": sample.shape})
            try:
                kind.build(sample).output_shape(sample.shape)
                pytest.fail(f"{kind.name}({sample}) is legal")
            except OmniconvError as error:
                expected.append({"error": type(error).__name__, "message": str(error)})
    assert ask(requests) == expected


@SOME
def test_random_settings_have_the_shape_or_the_refusal_of_python(count):
    cases = random_settings(5 * count, seed=13)
    outcomes = [case.pop("expected") for case in cases]
    legal = sum("answer" in outcome for outcome in outcomes)
    assert legal > count
    assert len(outcomes) - legal > count
    for case, found, expected in zip(cases, ask([{"ask": "kind", **c} for c in cases]), outcomes, strict=True):
        assert found == expected, case


LINES = (
    "convolution ic4 oc8 kh3 kw3",
    "transposed ic4 oc8 kw3 sw2 aw1 flip  # a comment",
    "chain n2 ih5 iw5 > split depthwise ic2 oc2 kh3 kw3 g2 pt1 pb1 pl1 pr1 + convolution ic1 oc4 kh3 kw3 same_upper",
    "chain iw5 > resize f2 linear > convolution ic1 oc4 kw3 > clip lo=-inf hi=0.5 > leaky_relu alpha=1e-05",
    "", "chain", "chain > relu", "konvolution ic4 oc4 kh3 kw3", "convolution ic4 oc8 kh3 kw3 kw3",
    "convolution ic4 kh3 kw3",
    "convolution ic4 oc8 kh3", "convolution ic4 oc8 kh3 kw3 zz3", "convolution ic4 oc8 kh3 kw3 same_upper same_lower",
    "depthwise ic4 oc8 kh3 kw3", "convolution ic4 oc8 kh3 kw3 ih5", "convolution ic4 oc8 kh3 kw3 ih0 iw5",
    "chain > convolution ic4 oc8 kh3 kw3 ih5", "chain > convolution ic4 oc8 kh3 kw3 > convolution ic4 oc8 kh3 kw3",
    "chain > convolution ic4 oc6 kh3 kw3 > pixel_shuffle f2", "chain > convolution ic4 oc6 kh3 kw3 > shuffle g4",
    "chain > convolution ic4 oc6 kh3 kw3 > relu alpha=3", "chain > convolution ic4 oc6 kh3 kw3 > elu alpha=x",
    "chain > convolution ic4 oc6 kh3 kw3 > resize f0 nearest", "grouped ic4 oc6 kh3 kw3 g4", "convolution <b>ic4</b>",
    "chain id4 > convolution ic4 oc6 kh3 kw3", "convolution ic4 oc8 kh3 kw3 it's",
    "convolution ic4 oc8 kh3 kw3 n-1 ih4 iw4",
)  # fmt: skip


def test_lines_are_read_and_refused_as_in_python():
    expected = []
    for line in LINES:
        try:
            spec, shape = parse(line)
            output = None if shape is None else list(spec.output_shape(shape))
            expected.append({"answer": {"text": spec.text(shape), "output": output}})
        except SpecError as error:
            expected.append({"error": "SpecError", "message": str(error)})
    for line, found, each in zip(LINES, ask([{"ask": "text", "text": line} for line in LINES]), expected, strict=True):
        assert found == each, line


@SOME
def test_texts_of_random_specs_are_read_back(count):
    lines = [str(problem) for problem in drawn(count)]
    for line, found in zip(lines, ask([{"ask": "text", "text": line} for line in lines]), strict=True):
        spec, shape = parse(line)
        assert found == {"answer": {"text": line, "output": list(spec.output_shape(shape))}}


@SOME
def test_what_an_output_reads_and_an_input_feeds_are_equal_to_python(count):
    rng = np.random.default_rng(3)
    cases = drawn(count)
    requests, expected = [], []
    for problem in cases:
        program = as_program(problem.spec, (1, *problem.shape[1:]))
        tensor = program.outputs[0]
        demand = np.zeros(program.shapes[tensor], bool)
        output = int(rng.integers(demand.size))
        demand.flat[output] = True
        back = np.flatnonzero(trace(program, tensor, demand)["x"])
        # Some of what it reads, or anything where it reads nothing.
        source = int(rng.choice(back)) if back.size and rng.random() < 0.9 else int(rng.integers(problem.shape[1]))
        requests.append({"ask": "trace", "text": str(problem), "output": output, "input": source})
        expected.append((program, back.tolist(), source, output))
    for request, found, (program, back, source, output) in zip(requests, ask(requests), expected, strict=True):
        text = request["text"]
        assert found["answer"]["back"] == back, text
        forward = set(found["answer"]["forward"])
        assert (output in forward) == (source in back), text
        # Every output that is said to be fed reads the input, and no other of those asked does.
        tensor = program.outputs[0]
        size = int(np.prod(program.shapes[tensor]))
        others = {int(i) for i in rng.integers(size, size=4)} | set(list(forward)[:4])
        for place in others:
            demand = np.zeros(program.shapes[tensor], bool)
            demand.flat[place] = True
            assert (place in forward) == bool(trace(program, tensor, demand)["x"].flat[source]), text


def _mixes_axes(spec) -> bool:
    """Whether a pixel shuffle picks branches of a split, which makes the page's field a bound."""
    steps = spec.steps if isinstance(spec, Chain) else ()
    return any(isinstance(step, PixelShuffle) for step in steps) and any(isinstance(step, Split) for step in steps)


@SOME
def test_analyses_are_those_of_python(count):
    cases = drawn(count)
    met = dict.fromkeys(("phases", "coverage", "field"), 0)
    for problem, found in zip(cases, ask([{"ask": "analyses", "text": str(p)} for p in cases]), strict=True):
        answer, spec, line = found["answer"], problem.spec, str(problem)
        program = as_program(spec, problem.shape)
        tensor = program.outputs[0]
        for name, direction in (("forward", "output"), ("gradient", "gradient")):
            image = count_image(program, direction, tensor)
            np.testing.assert_allclose(answer[name], image.ravel(), rtol=1e-9, atol=1e-12, err_msg=f"{name}: {line}")
        border = find_border(program, tensor).any(axis=(0, 1))
        assert answer["free"] == (~border).ravel().tolist(), line
        if isinstance(spec, Conv):
            counts = [count_phases(axis) for axis in spec.resolve(problem.shape).axes()]
            expected = np.array(1)
            for each in counts:
                expected = np.multiply.outer(expected, each)
            assert answer["phases"]["counts"] == expected.ravel().tolist(), line
            met["phases"] += 1
        covered = coverage(spec, shape=problem.shape)
        assert (answer["coverage"] is not None) == bool(covered.axes), line
        for mine, axis in zip(answer["coverage"] or (), covered.axes, strict=bool(covered.axes)):
            assert (mine["paths"], mine["holes"]) == ([int(n) for n in axis.paths], list(axis.holes)), line
            assert mine["fraction"] == pytest.approx(axis.fraction), line
            met["coverage"] += 1
        paths = count_paths(program, tensor, "x")
        assert answer["paths"] == paths.tolist(), line
        assert [tuple(block) for block in answer["blocks"]] == list(find_blocks(paths != 0)), line
        middle = tuple(size // 2 for size in program.shapes[tensor][2:])
        assert answer["support"] == np.flatnonzero(find_support(program, tensor, "x", middle)).tolist(), line
        _check_cost(answer["cost"], cost(spec, problem.shape), spec, line)
        if not _mixes_axes(spec):
            for mine, axis in zip(answer["field"], receptive_field(spec, shape=problem.shape).axes, strict=True):
                if axis.stride is None or not axis.exact:
                    continue  # no output reads anything, or Python has but a bound
                assert (mine["size"], mine["padding"]) == (axis.size, axis.padding), line
                assert tuple(mine["stride"]) == (axis.stride.numerator, axis.stride.denominator), line
                assert mine["offset"] == pytest.approx(float(axis.offset)), line
                met["field"] += 1
    assert min(met.values()) > count // 4, met


def _check_cost(found: list[dict], expected, spec, line: str) -> None:
    layers = [layer for layer in expected.layers if layer.weights]
    assert [layer["weights"] for layer in found] == [layer.weights for layer in layers], line
    assert [layer["macs"] for layer in found] == [layer.macs for layer in layers], line
    assert [layer["executed"] for layer in found] == [layer.executed_macs for layer in layers], line
    convs = spec.convs if isinstance(spec, Chain) else (spec,)
    assert [layer["biases"] for layer in found] == [conv.out_channels for conv in convs], line


def test_remedies_are_those_of_python():
    rng = np.random.default_rng(8)
    specs = []
    while len(specs) < 60:
        kernel, stride, dilation = (tuple(int(n) for n in rng.integers(1, high, 2)) for high in (6, 4, 3))
        groups = int(rng.integers(1, 3))
        spec = Conv.of(
            2, 4, kernel, stride=stride, dilation=dilation, groups=groups, transposed=True, padding=int(rng.integers(2))
        )
        if spec.output_padding == (0, 0) and min(spec.axes()[n].infer_output(6) for n in (0, 1)) > 0:
            specs.append(spec)
    shape = (1, 2, 6, 6)
    found = ask([{"ask": "remedies", "text": spec.text(shape)} for spec in specs])
    met = set()
    for spec, answer in zip(specs, found, strict=True):
        expected = [
            {
                "name": each.name,
                "advice": each.advice,
                "spec": each.spec.text(shape),
                "weights": each.parameters,
                "macs": each.macs,
            }
            for each in find_remedies(spec, shape)
        ]
        assert answer["answer"] == expected, str(spec)
        met |= {each["name"] for each in expected}
    assert met == {"kernel", "resize", "sub_pixel", "smoothing"}


def test_separability_is_that_of_singular_values():
    rng = np.random.default_rng(9)
    kernels = [rng.standard_normal(tuple(rng.integers(2, 8, 2))) for _ in range(40)]
    kernels += [np.outer(rng.standard_normal(k), rng.standard_normal(3)) for k in (2, 3, 5)] + [np.zeros((3, 3))]
    requests = [
        {"ask": "separable", "values": k.ravel().tolist(), "high": k.shape[0], "wide": k.shape[1]} for k in kernels
    ]
    for kernel, found in zip(kernels, ask(requests), strict=True):
        expected = np.linalg.svd(kernel, compute_uv=False)
        singular = np.array(found["answer"]["singular"])[: expected.size]
        np.testing.assert_allclose(singular, expected, rtol=1e-9, atol=1e-12)
        assert found["answer"]["rank"] == np.linalg.matrix_rank(kernel, tol=1e-9 * max(expected[0], 1e-300))
        best = np.outer(found["answer"]["column"], found["answer"]["row"])
        residue = np.linalg.norm(kernel - best)
        assert residue == pytest.approx(np.sqrt((expected[1:] ** 2).sum()), abs=1e-9)


def test_paddings_side_by_side_are_those_of_the_frameworks():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(11)
    lines = []
    while len(lines) < 40:
        kernel, stride, dilation = (tuple(int(n) for n in rng.integers(1, high, 2)) for high in (6, 4, 3))
        pads = tuple((int(a), int(b)) for a, b in rng.integers(0, 3, (2, 2)))
        spec = Conv.of(1, 1, kernel, stride=stride, dilation=dilation, padding=pads)
        size = (1, 1, *(int(n) for n in rng.integers(5, 13, 2)))
        if all(axis.infer_output(n) > 0 for axis, n in zip(spec.axes(), size[2:], strict=True)):
            lines.append((spec, size))
    asked = [{"ask": "borders", "text": spec.text(size)} for spec, size in lines]
    for (spec, size), answer in zip(lines, ask(asked), strict=True):
        own, tensorflow, lower, same, _, none = answer["answer"]["same"]
        assert own["padding"] == [list(pair) for pair in spec.padding]
        assert none["padding"] == [[0, 0], [0, 0]]
        for found, first in ((tensorflow, min), (lower, max)):
            for pair, n, out, axis in zip(found["padding"], size[2:], found["sizes"], spec.axes(), strict=True):
                assert out == -(-n // axis.stride)
                assert sum(pair) == max((out - 1) * axis.stride + axis.extent - n, 0)
                assert pair[0] == first(sum(pair) // 2, sum(pair) - sum(pair) // 2)
        module = {"kernel_size": spec.kernel_size, "dilation": spec.dilation}
        if spec.stride == (1, 1):
            layer = torch.nn.Conv2d(1, 1, **module, padding="same")
            assert [n for pair in reversed(same["padding"]) for n in pair] == layer._reversed_padding_repeated_twice
            assert tuple(same["sizes"]) == tuple(layer(torch.zeros(size)).shape[2:])
        else:
            assert same["refusal"]
            with pytest.raises(ValueError, match="not supported for strided"):
                torch.nn.Conv2d(1, 1, **module, stride=spec.stride, padding="same")
        # An output is at the edge where another value around the input changes it.
        for found in answer["answer"]["same"]:
            if found["refusal"]:
                continue
            ones = Conv.of(1, 1, spec.kernel_size, stride=spec.stride, dilation=spec.dilation)
            results = [
                reference(
                    ones,
                    np.pad(np.zeros(size), [(0, 0), (0, 0), *found["padding"]], constant_values=value),
                    [(np.ones(ones.weight_shape), None)],
                )
                for value in (0, 1)
            ]
            changed = (results[0] != results[1])[0, 0]
            assert list(changed.shape) == found["sizes"]
            edge = np.zeros(changed.shape, bool)
            edge[found["edges"][0]] = True
            edge[:, found["edges"][1]] = True
            # A dilated window may end beyond the input with taps that are all inside or all of zero padding.
            assert not (changed & ~edge).any()
            if spec.dilation == (1, 1):
                assert (changed == edge).all()


ADDRESS = {"ask": "address", "text": "convolution ic1 oc2 iw5 kw3"}


def test_an_address_holds_input_and_weights():
    x, w = [0, -1.5, 1e-7, 2, 1e30], [1, 2, 3, 0.1, 0.2, 0.3]
    [written] = ask([{**ADDRESS, "x": x, "w": w}])
    [found] = ask([{"ask": "setting", "hash": written["answer"]}])
    assert (found["answer"]["x"], found["answer"]["w"]) == (x, w)
    large = {"ask": "address", "text": "pointwise ic16 oc17 iw5 kw1", "x": None, "w": [0.5] * 272}
    [written] = ask([large])
    assert "w=" not in written["answer"]


@pytest.mark.parametrize(
    "numbers", ["w=1", "w=", "w=1,2,,4,5,6", "w=1,2,3,4,5,inf", "w=1,2,3,4,5,x", "x=1,2,3,4", "w=" + "1," * 999]
)
def test_an_address_with_other_numbers_holds_nothing(numbers):
    [written] = ask([{**ADDRESS, "x": None, "w": None}])
    [found] = ask([{"ask": "setting", "hash": f"{written['answer']}&{numbers}"}])
    assert found["answer"] is None


def test_a_layer_that_is_too_large_is_shown_with_a_smaller_input():
    lines = {
        "convolution ic64 oc64 ih56 iw56 kh3 kw3": [4, 14, 14],
        "convolution ic1 oc1 ih60000 iw60000 kh3 kw3": [4, 118, 118],
        "pointwise ic1 oc2000000 iw1 kw1": None,
        "convolution ic900 oc900 ih8 iw8 kh9 kw9 pt4 pb4 pl4 pr4": None,
    }
    found = [answer["answer"] for answer in ask([{"ask": "smaller", "text": line} for line in lines])]
    assert [sizes and sizes[1:] for sizes in found] == [sizes and sizes[1:] for sizes in lines.values()]


def _without_activations(spec):
    """A spec whose activations, which move nothing, are left out; none where it is made of nothing else."""
    if not isinstance(spec, Chain):
        return spec
    steps = tuple(step for step in spec.steps if not isinstance(step, Activation))
    return Chain(steps) if any(isinstance(step, Conv | Split) for step in steps) else None


@pytest.mark.parametrize("count", [30, pytest.param(200, marks=pytest.mark.wide)])
def test_what_an_output_reads_and_an_input_feeds_are_equal_to_brute_force(count):
    """One input after the other is set to 1 in the float64 reference with weights above zero: what changes is fed."""
    rng = np.random.default_rng(21)
    requests, expected = [], []
    for problem in drawn(2 * count + 40):
        spec = _without_activations(problem.spec)
        size = int(np.prod(problem.shape[1:]))
        if spec is None or size > 400 or len(requests) == count:
            continue
        ones = np.eye(size, dtype=np.float32).reshape(size, *problem.shape[1:])
        weights = [(np.abs(w) + 0.5, None) for w, _ in random_weights(spec, rng, bias=False)]
        fed = reference(spec, ones, weights).reshape(size, -1) != 0
        output, source = int(rng.integers(fed.shape[1])), int(rng.integers(size))
        requests.append({"ask": "trace", "text": str(problem), "output": output, "input": source})
        expected.append(
            {"back": np.flatnonzero(fed[:, output]).tolist(), "forward": np.flatnonzero(fed[source]).tolist()}
        )
    assert len(requests) == count
    assert sum("transposed" in request["text"] for request in requests) >= count // 20
    for request, found, each in zip(requests, ask(requests), expected, strict=True):
        assert found["answer"] == each, request["text"]
