"""Figures that were published elsewhere: receptive fields, parameters and multiply-accumulates of well-known networks.

Sources: A. Araujo, W. Norris, J. Sim, "Computing Receptive Fields of Convolutional Neural Networks" (Distill, 2019),
the table of the library that goes with it; the MobileNet and ShuffleNet v2 papers.
"""

from __future__ import annotations

import pytest
from tests.analysis.slim import alexnet_v2, mobilenet_v1, resnet_v1_50, shufflenet_v2, vgg_16

import omniconv as oc
from omniconv.analysis import connectivity, cost, receptive_field

FIELDS = {
    alexnet_v2: {
        "conv1": (11, 4, 0), "pool1": (19, 8, 0), "conv2": (51, 8, 16), "conv3": (99, 16, 32), "conv4": (131, 16, 48),
        "conv5": (163, 16, 64), "pool5": (195, 32, 64),
    },
    vgg_16: {
        "conv1_1": (3, 1, 1), "pool1": (6, 2, 2), "conv2_1": (10, 2, 4), "pool2": (16, 4, 6), "conv3_1": (24, 4, 10),
        "conv3_2": (32, 4, 14), "pool3": (44, 8, 18), "conv4_1": (60, 8, 26), "conv4_2": (76, 8, 34),
        "pool4": (100, 16, 42), "conv5_1": (132, 16, 58), "conv5_2": (164, 16, 74), "pool5": (212, 32, 90),
    },
    mobilenet_v1: {
        "Conv2d_0": (3, 2, 0), "Conv2d_1_pointwise": (7, 2, 2), "Conv2d_2_pointwise": (11, 4, 2),
        "Conv2d_3_pointwise": (19, 4, 6), "Conv2d_4_pointwise": (27, 8, 6), "Conv2d_5_pointwise": (43, 8, 14),
        "Conv2d_6_pointwise": (59, 16, 14), "Conv2d_7_pointwise": (91, 16, 30), "Conv2d_8_pointwise": (123, 16, 46),
        "Conv2d_9_pointwise": (155, 16, 62), "Conv2d_10_pointwise": (187, 16, 78), "Conv2d_11_pointwise": (219, 16, 94),
        "Conv2d_12_pointwise": (251, 32, 94), "Conv2d_13_pointwise": (315, 32, 126),
    },
    resnet_v1_50: {"block1": (35, 8, 15), "block2": (99, 16, 47), "block3": (291, 32, 143), "block4": (483, 32, 239)},
}  # fmt: skip
"""(size, effective stride, effective padding) of each end point, inputs of 224 x 224."""

FIELDS_321 = {
    mobilenet_v1: {"Conv2d_0": (3, 2, 1), "Conv2d_13_pointwise": (315, 32, 157)},
    resnet_v1_50: {"block1": (35, 8, 17), "block4": (483, 32, 241)},
    alexnet_v2: {"pool5": (195, 32, 64)},
    vgg_16: {"pool5": (212, 32, 90)},
}  # fmt: skip


@pytest.mark.parametrize(("build", "name"), [(build, name) for build, points in FIELDS.items() for name in points])
def test_receptive_fields_at_224(build, name):
    check(build(224), name, FIELDS[build][name])


@pytest.mark.parametrize(("build", "name"), [(build, name) for build, points in FIELDS_321.items() for name in points])
def test_receptive_fields_at_321(build, name):
    """Another size, where "SAME" pads differently."""
    check(build(321), name, FIELDS_321[build][name])


def check(program, name, expected):
    found = receptive_field(program, name)
    for axis in found.axes:
        assert (axis.size, axis.stride, axis.padding) == expected
        assert axis.aligned
        assert axis.whole == ()
    assert found.offset == ((expected[0] - 1) / 2 - expected[2],) * 2


@pytest.mark.parametrize(
    ("build", "flops"), [(alexnet_v2, 1.380), (vgg_16, 30.713), (resnet_v1_50, 6.963), (mobilenet_v1, 1.140)]
)
def test_operations_of_the_same_table(build, flops):
    """TensorFlow counts 2 for each MAC, and a little more for biases and pools."""
    assert 2e-9 * cost(build(224)).macs == pytest.approx(flops, rel=0.006)


def test_mobilenet_v1():
    found = cost(mobilenet_v1(classifier=True))
    assert found.macs == 568_740_352 + 1024  # 569 M; 1001 classes here, 1000 in the paper
    assert round(found.macs / 1e6) == 569
    assert round(found.weights / 1e6, 1) == round(found.count_parameters("batch_norm") / 1e6, 1) == 4.2
    assert found.executed_macs < found.macs


def test_shufflenet_v2():
    found = cost(shufflenet_v2())
    norms = sum(layer.biases for layer in found.layers if layer.name != "fc")
    assert found.parameters + norms == 2_278_604  # scale and shift for each channel of all but the last
    assert round(found.macs / 1e9, 3) == 0.145


def test_shufflenet_connects_everything():
    program = shufflenet_v2(64)
    assert connectivity(program, "conv5").full
    field = receptive_field(program, "conv5")
    assert field.size == (527, 527)


def test_the_savings_of_separable_layers():
    dense = cost(oc.convolution(64, 128, 3, padding="same"), (1, 64, 56, 56))
    separable = cost(oc.depthwise_separable(64, 128, 3, padding="same"), (1, 64, 56, 56))
    assert separable.macs / dense.macs == pytest.approx(1 / 128 + 1 / 9)
