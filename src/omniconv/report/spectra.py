"""Separability of every layer of a network: the spectrum of each form that could replace it."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from omniconv.analysis import Record
from omniconv.analysis.separability import (
    Unfolding,
    check_weights,
    count_parameters,
    kernel_values,
    split_groups,
    unfold,
)
from omniconv.limits import check_memory
from omniconv.program.program import Program
from omniconv.program.steps import ConvStep
from omniconv.records import dataclass
from omniconv.spec import Shape

ENERGY: Final = 0.99
"""Share of the squared norm that counts as nearly all."""
CHANNEL_FORMS: Final = ("spatial", "depthwise", "basis", "bottleneck")
OWN_FORMS: Final = ("basis",)
"""Forms, beside ``kernel``, of layers that mix channels, and of those that do not."""


@dataclass(frozen=True, slots=True)
class LayerSpectrum(Record):
    """The forms of one layer.

    Attributes:
        name: of the layer.
        shape: of its weights.
        forms: by name, see :data:`omniconv.analysis.separability.FORMS`.
    """

    name: str
    shape: Shape
    forms: dict[str, Unfolding]

    @property
    def first(self) -> float:
        """Share of the kernels' energy at rank 1: 1 where every kernel is a product of two vectors."""
        return float(1 - self.forms["kernel"].errors[1])

    def cheapest(self, energy: float = ENERGY) -> tuple[str, int, float]:
        """The form, rank and share of the parameters with which the layer keeps so much energy at the least cost."""
        found = []
        for form in self.forms.values():
            rank = form.rank(1 - energy)
            found.append((form.parameters[rank] / form.dense, form.form, rank))
        share, name, rank = min(found)
        return name, rank, share


def _spectrum(matrices: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Singular values from the smaller Gram matrix: much faster, and exact to 1e-8 of the largest."""
    rows, columns = matrices.shape[-2:]
    turned = matrices.swapaxes(-1, -2)
    gram = matrices @ turned if rows <= columns else turned @ matrices
    return np.asarray(np.sqrt(np.maximum(np.linalg.eigvalsh(gram)[..., ::-1], 0.0)))


def find_spectrum(step: ConvStep, name: str) -> LayerSpectrum:
    """The spectrum of one convolution."""
    w = step.w
    assert isinstance(w, np.ndarray)
    grouped = split_groups(check_weights(w), step.spec.groups, transposed=step.spec.transposed)
    check_memory(8 * 4 * grouped.size, "the unfoldings of the weights")
    forms = {}
    names = CHANNEL_FORMS if grouped.shape[2] > 1 else OWN_FORMS
    for form in ("kernel", *names):
        values = kernel_values(grouped) if form == "kernel" else _spectrum(unfold(grouped, form))
        values = values.reshape(-1, values.shape[-1])
        costs = tuple(count_parameters(grouped.shape, form, rank) for rank in range(values.shape[-1] + 1))
        forms[form] = Unfolding(form, values, costs, int(w.size))
    return LayerSpectrum(name, tuple(w.shape), forms)


def find_spectra(program: Program) -> tuple[LayerSpectrum, ...]:
    """All convolutions with kernels larger than 1 on at least two axes, whose weights are known and finite."""
    pairs = zip(program.steps, program.labels, strict=True)
    return tuple(
        find_spectrum(step, label)
        for step, label in pairs
        if isinstance(step, ConvStep)
        and sum(size > 1 for size in step.spec.kernel_size) > 1
        and isinstance(step.w, np.ndarray)
        and bool(np.isfinite(step.w).all())
    )
