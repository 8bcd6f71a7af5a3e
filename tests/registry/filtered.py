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

import math

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
    return math.prod(24 if axis.reads < 8 else 1440 for axis in form.axes if axis.filtered)


def _matrices(axis):
    """|B^T|, |G| of every part over the taps of the kernel, and |A^T|."""
    if not axis.filtered:  # an axis that is direct is a sum of its taps for every output
        return np.eye(axis.r), [np.eye(axis.r)], np.ones((1, axis.r))
    spread = []
    for first in axis.parts:
        g = np.zeros((axis.reads, axis.kernel))
        taps = [first + i * axis.stride for i in range(axis.r) if first + i * axis.stride < axis.kernel]
        g[:, taps] = axis.filtering.kernel[:, : len(taps)]
        spread.append(np.abs(g))
    return np.abs(axis.filtering.data), spread, np.abs(axis.filtering.result)


def filtered_magnitude(conv, x, w, b, form):
    """What stands in brackets after gamma above, for every output."""
    conv = conv.resolve(x.shape)
    n, _, *outputs = conv.output_shape(x.shape)
    groups, inputs = conv.groups, conv.in_channels // conv.groups
    taps, w = conv.weight_shape[2:], np.abs(w.astype(np.float64))
    padding = conv.padding
    if conv.transposed:  # with stride 1: a plain layer with its kernel turned round
        w = w.reshape(groups, inputs, -1, *taps).swapaxes(1, 2)
        padding = [(k * d - d - a, k * d - d - c) for (a, c), d, k in zip(padding, conv.dilation, taps, strict=True)]
    w = w.reshape(groups, -1, inputs, *taps)
    if conv.flip != conv.transposed:
        w = w[(..., *(slice(None, None, -1) for _ in taps))]
    x = np.abs(x.astype(np.float64))
    if conv.padding_mode != "zeros":
        mode = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}[conv.padding_mode]
        x, padding = np.pad(x, [(0, 0), (0, 0), *padding], mode=mode), [(0, 0)] * len(taps)
    axes = form.axes[-len(taps) :]
    values = x.reshape(n, groups, inputs, *x.shape[2:])
    weights, starts = w, []
    for axis, (before, _), output, dilation in zip(axes, padding, outputs, conv.dilation, strict=True):
        data, kernels, _ = _matrices(axis)
        m = axis.m if axis.filtered else 1
        first = [
            residue + dilation * i
            for residue in range(dilation)
            for i in range(0, -((residue - output) // dilation), m)
        ]
        starts.append(first)
        reads = np.asarray(
            [
                [s * axis.stride + i * dilation * axis.stride for i in range(axis.reads if axis.filtered else axis.r)]
                for s in first
            ]
        )
        reads = np.stack([reads + part * dilation for part in axis.parts])
        room = max(0, int(reads.max()) - before - values.shape[3] + 1)
        wide = np.pad(values, [(0, 0)] * 3 + [(before, room)] + [(0, 0)] * (values.ndim - 4))
        # Axes that are done go to the end, as (parts, blocks, points) of values and (parts, points) of weights.
        values = np.einsum("ngcpbi...,ki->ngc...pbk", wide[:, :, :, reads], data)
        weights = np.einsum("goct...,pkt->goc...pk", weights, np.stack(kernels))
    sums = {1: "ngcpbk,gocpk->ngobk", 2: "ngcpbkqdl,gocpkql->ngobkdl", 3: "ngcpbkqdlrem,gocpkqlrm->ngobkdlem"}
    products = np.einsum(sums[len(axes)], values, weights, optimize=True)
    for axis in axes:  # the first pair that is left, (blocks, points), becomes (blocks, outputs) at the end
        products = np.einsum("ngobk...,ik->ngo...bi", products, _matrices(axis)[2])
    y = np.zeros((n, products.shape[1] * products.shape[2], *outputs))
    places = []
    for axis, first, output in zip(axes, starts, outputs, strict=True):
        m = axis.m if axis.filtered else 1
        places.append(
            [
                (b, i, s + i * axis.dilation)
                for b, s in enumerate(first)
                for i in range(m)
                if s + i * axis.dilation < output
            ]
        )
    picked = products
    for at, place in enumerate(places):
        shape = (*picked.shape[: 3 + at], -1, *picked.shape[5 + at :])
        order = sorted((o, b * picked.shape[4 + at] + i) for b, i, o in place)
        picked = np.take(picked.reshape(shape), [index for _, index in order], axis=3 + at)
    y += picked.reshape(y.shape)
    return y if b is None else y + np.abs(b.astype(np.float64)).reshape(-1, *(1 for _ in outputs))


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
