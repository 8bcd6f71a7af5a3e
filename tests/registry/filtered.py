r"""How far filtering may be from the reference, and when it is exact. See docs/guide/numerics.md.

.. math::
    |\hat y - y| \le \gamma_{C + r} \Big(|b| +
    |A^T| \Big[ \sum_c (|G| |g_c| |G^T|) \odot (|B^T| |d_c| |B|) \Big] |A|\Big)

for sums of C products: input channels of a group, times parts of the kernel, times taps along a depth that is summed
directly. Roundings on the way of one product: one of the transformed weight (made in float64, rounded once); at most 5
in the input transform along each axis; C + 1 in the sum over the channels; at most 6 in the output transform along each
axis; one when the bias is added: r = 3 + 11 for each filtered axis. Weights that come in have ceil(taps / 2) + 2 along
each axis in place of the one: so many additions, and a rounded factor.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace

import numpy as np

from omniconv.compiler.kernels.winograd.forms import list_forms
from omniconv.compiler.problem.problem import Problem
from omniconv.reference import error_bound
from omniconv.reference.bounds import gamma


def forms_of(spec, shape):
    """Every form that a layer can be filtered in."""
    problem = Problem.of(spec.resolve(shape), shape)
    return list(list_forms(problem)) if problem.taps > 1 else []


def scale_of(form):
    """What weights are multiples of, so that transformed ones are whole but for powers of two."""
    return math.prod({6: 30, 8: 1440}.get(axis.reads, 24) for axis in form.axes if axis.filtered)


def whole_of(form):
    """Up to which magnitude such weights and whole inputs give no rounding: halves and quarters want bits as well."""
    return 2.0 ** (24 - sum({6: 4, 8: 10}.get(axis.reads, 0) for axis in form.axes if axis.filtered))


@dataclass
class View:
    """One phase of one axis: what its blocks read and write.

    Attributes:
        reads: input positions, ``(parts, blocks, points)``.
        data, kernels, result: absolute values of B^T, of G of every part over the taps of the kernel, and of A^T.
        outputs: for each output that there is, its position, block and place in the block.
    """

    reads: np.ndarray
    data: np.ndarray
    kernels: np.ndarray
    result: np.ndarray
    outputs: list[tuple[int, int, int]]


def _view(axis, spec_axis, size, phases, phase):
    """An axis that is not transformed has blocks of one output, whose points are its taps."""
    taps = sorted(phase.taps, key=lambda tap: tap[1])
    low = min(offset for each in phases for _, offset in each.taps)
    m, r, dilation = (axis.m if axis.filtered else 1), axis.r, spec_axis.dilation
    parts = [taps[p :: phase.in_step] for p in range(phase.in_step)]
    if phase.in_step == len(phases) == 1:
        parts = [taps[p : p + r] for p in range(0, len(taps), r)]
    begin = 0
    if len(phases) > 1:
        shift, blocks = axis.shifts[phases.index(phase)], axis.count
        begin = shift + taps[0][1] - low
        starts, firsts = [b * m + shift for b in range(blocks)], [[b * m + low for b in range(blocks)]]
    else:
        starts = [o + dilation * i for o in range(dilation) for i in range(0, -((o - phase.count) // dilation), m)]
        firsts = [[start * phase.in_step + part[0][1] for start in starts] for part in parts]
    step = dilation * phase.in_step if len(phases) == 1 else 1
    points = m + r - 1
    kernels = np.zeros((len(parts), points, spec_axis.kernel))
    for part, members in enumerate(parts):
        for column, (tap, _) in enumerate(members, begin):
            kernels[part, :, tap] = np.abs(axis.filtering.kernel[:, column]) if axis.filtered else np.eye(r)[column]
    outputs = [
        (phase.start + phase.step * q, block, j)
        for block, start in enumerate(starts)
        for j in range(m)
        for q in [start + (dilation if len(phases) == 1 else 1) * j]
        if 0 <= q < phase.count
    ]
    data, result = (np.eye(r), np.ones((1, r)))
    if axis.filtered:
        data, result = np.abs(axis.filtering.data), np.abs(axis.filtering.result)
    reads = np.asarray(firsts)[:, :, None] + step * np.arange(points)
    return View(reads, data, kernels, result, sorted(outputs))


def filtered_magnitude(conv, x, w, b, form):
    """What stands in brackets after gamma above, for every output."""
    conv = conv.resolve(x.shape)
    n, _, *outputs = conv.output_shape(x.shape)
    groups, inputs = conv.groups, conv.in_channels // conv.groups
    taps, w = conv.weight_shape[2:], np.abs(w.astype(np.float64))
    w = w.reshape(groups, inputs, -1, *taps).swapaxes(1, 2) if conv.transposed else w.reshape(groups, -1, inputs, *taps)
    x = np.abs(x.astype(np.float64))
    if conv.padding_mode != "zeros":
        mode = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}[conv.padding_mode]
        x = np.pad(x, [(0, 0), (0, 0), *conv.padding], mode=mode)
        conv = replace(conv, padding=((0, 0),) * len(taps), padding_mode="zeros")
    views = []
    for axis, spec_axis, size in zip(form.axes[-len(taps) :], conv.axes(), x.shape[2:], strict=True):
        phases = spec_axis.phases(size)
        views.append([_view(axis, spec_axis, size, phases, phase) for phase in phases])
    y = np.zeros((n, groups * w.shape[1], *outputs))
    for each in itertools.product(*views):
        places = np.ix_(range(n), range(y.shape[1]), *([o for o, _, _ in view.outputs] for view in each))
        y[places] = _magnitude_of(x.reshape(n, groups, inputs, *x.shape[2:]), w, each)
    return y if b is None else y + np.abs(b.astype(np.float64)).reshape(-1, *(1 for _ in outputs))


def _magnitude_of(values, weights, views):
    """The magnitudes of the outputs of one phase along each axis."""
    for view in views:
        size = values.shape[3]
        before, after = max(0, -int(view.reads.min())), max(0, int(view.reads.max()) - size + 1)
        wide = np.pad(values, [(0, 0)] * 3 + [(before, after)] + [(0, 0)] * (values.ndim - 4))
        # Axes that are done go to the end, as (parts, blocks, points) of values and (parts, points) of weights.
        values = np.einsum("ngcpbi...,ki->ngc...pbk", wide[:, :, :, view.reads + before], view.data)
        weights = np.einsum("goct...,pkt->goc...pk", weights, view.kernels)
    sums = {1: "ngcpbk,gocpk->ngobk", 2: "ngcpbkqdl,gocpkql->ngobkdl", 3: "ngcpbkqdlrem,gocpkqlrm->ngobkdlem"}
    products = np.einsum(sums[len(views)], values, weights, optimize=True)
    for view in views:  # the first pair that is left, (blocks, points), becomes (blocks, outputs) at the end
        products = np.einsum("ngobk...,ik->ngo...bi", products, view.result)
    for at, view in enumerate(views, 3):
        m = products.shape[at + 1]
        merged = products.reshape(*products.shape[:at], -1, *products.shape[at + 2 :])
        products = np.take(merged, [block * m + j for _, block, j in view.outputs], axis=at)
    return products.reshape(products.shape[0], -1, *products.shape[3:])


def count_roundings(form, *, computed=False):
    """Roundings that one product meets beside those of its sum."""
    filtered = [axis for axis in form.axes if axis.filtered]
    return 2 + 11 * len(filtered) + (sum(-(-axis.r // 2) + 2 for axis in filtered) if computed else 1)


def form_bound(spec, x, weights, form, roundoff=2.0**-24, *, computed=False):
    """The largest error of a layer that is filtered in a form."""
    (w, b) = weights[0] if isinstance(weights[0], tuple) else weights
    terms = spec.in_channels // spec.groups * form.parts * (form.axes[0].r if form.axes[0].direct else 1)
    terms += count_roundings(form, computed=computed)
    return gamma(terms, roundoff) * filtered_magnitude(spec, x, w, b, form)


def filtered_bound(spec, x, weights, roundoff=2.0**-24, *, computed=False):
    """The largest error of any way to compute a layer: directly, or filtered in any form."""
    bound = error_bound(spec, x, weights, roundoff)
    for form in forms_of(spec, x.shape):
        bound = np.maximum(bound, form_bound(spec, x, weights, form, roundoff, computed=computed))
    return bound
