r"""Separability: how close trained kernels are to products of smaller ones, with the exact error of every rank.

The best approximation of rank :math:`r` of a matrix with singular values :math:`\sigma_i` has the squared error
:math:`\sum_{i > r} \sigma_i^2` (Eckart-Young), so each way to factorise a layer is one unfolding of its weights:

========================  ======================================  =============================================
form                      matrix                                  layer of rank r
========================  ======================================  =============================================
``kernel``                kh x kw, for each kernel alone          r pairs of vectors for each kernel
``spatial``               (in kh) x (out kw)                      kh x 1 to r channels, then 1 x kw
``depthwise``             out x (kh kw), for each input channel   depthwise with multiplier r, then pointwise
``basis``                 (out in) x (kh kw)                      all kernels mixed from r kernels
``bottleneck``            (in kh kw) x out                        kh x kw to r channels, then pointwise
========================  ======================================  =============================================

and the CP form (:mod:`omniconv.analysis.cp`), which needs a library. With more or fewer than two spatial axes the first
spatial axis stands in the place of kh and all others in that of kw.
"""

from __future__ import annotations

import math
from dataclasses import field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from omniconv.analysis.record import Record
from omniconv.errors import DataError, ShapeError, SpecError
from omniconv.integers import as_flag, as_integer
from omniconv.limits import check_memory
from omniconv.records import dataclass
from omniconv.reference.weights import check_array
from omniconv.spec import Shape

Float64 = npt.NDArray[np.float64]

FORMS: Final = ("kernel", "spatial", "depthwise", "basis", "bottleneck")


@dataclass(frozen=True, eq=False)
class Unfolding(Record):
    """One form of a layer: the spectrum of its matrices and the cost of each rank.

    Attributes:
        form: see :data:`FORMS`.
        singular_values: ``(matrices, rank)``, descending.
        parameters: of the layer at each rank, 0 to the largest.
        dense: parameters of the layer as it is.
    """

    form: str
    singular_values: Float64 = field(repr=False)
    parameters: tuple[int, ...]
    dense: int

    @property
    def errors(self) -> Float64:
        """Relative squared error of the best rank r, r = 0, 1, ...; over all matrices together."""
        return tail_errors(self.singular_values)

    def rank(self, error: float = 1e-12) -> int:
        """The smallest rank with a relative squared error of at most ``error``."""
        return int(np.argmax(self.errors <= error))


@dataclass(frozen=True, eq=False)
class Separability(Record):
    """Separability of a kernel or of the weights of a layer.

    Attributes:
        shape: of the weights.
        singular_values: of each kernel, ``(rank,)`` for a single kernel, ``(out, in / groups, rank)`` for a layer.
        forms: the unfoldings by name; for a single kernel only ``kernel``.
    """

    shape: Shape
    singular_values: Float64 = field(repr=False)
    forms: dict[str, Unfolding]

    @property
    def errors(self) -> Float64:
        """Relative squared error of the best rank r of the kernels, r = 0, 1, ..."""
        return self.forms["kernel"].errors

    @property
    def energy(self) -> Float64:
        """Share of the squared norm that the first r singular values of the kernels hold, r = 0, 1, ..."""
        return np.asarray(1.0 - self.errors)

    @property
    def rank(self) -> int:
        """The rank that represents every kernel, up to a relative squared error of 1e-12."""
        return self.forms["kernel"].rank()

    @property
    def kernel_errors(self) -> Float64:
        """Relative squared error of rank 1 of each kernel by itself."""
        values = self.singular_values**2
        total = values.sum(axis=-1)
        return np.asarray(np.where(total > 0, values[..., 1:].sum(axis=-1) / np.where(total > 0, total, 1), 0.0))


def tail_errors(singular_values: Float64) -> Float64:
    """Squared error of each rank over the squared norm, all matrices together.

    Example:
        >>> tail_errors(np.array([[3.0, 1.0]])).round(3).tolist()
        [1.0, 0.1, 0.0]
    """
    energy = (singular_values**2).reshape(-1, singular_values.shape[-1]).sum(axis=0)
    tails = np.append(np.cumsum(energy[::-1])[::-1], 0.0)
    return np.asarray(tails / tails[0] if tails[0] > 0 else tails)


def separability(w: Any, *, groups: int = 1, transposed: bool = False) -> Separability:
    """How separable a kernel or a layer's weights are.

    Formula:
        errors[r] = sum of squared singular values beyond the r-th / sum of all: the relative squared error of the best
        rank r, exactly.

    Example:
        >>> sobel = np.array([[1.0, 0.0, -1.0], [2.0, 0.0, -2.0], [1.0, 0.0, -1.0]])
        >>> found = separability(sobel)
        >>> found.rank, found.errors.round(6).tolist()
        (1, [1.0, 0.0, 0.0, 0.0])

    Args:
        w: a kernel ``(kh, kw)``, or weights ``(out, in / groups, *kernel)`` with one to three spatial axes, transposed
            ``(in, out / groups, *kernel)``.
        groups: of the layer.
        transposed: whether w is that of a transposed layer.

    Raises:
        DataError: not an array of finite real numbers.
        ShapeError: another number of axes, or groups that do not divide.
    """
    array = check_weights(w)
    if array.ndim == 2:
        values = svd_values(array)
        kh, kw = array.shape
        costs = tuple(r * (kh + kw) for r in range(values.size + 1))
        form = Unfolding("kernel", values[None], costs, array.size)
        return Separability(array.shape, values, {"kernel": form})
    grouped = split_groups(array, groups, transposed=as_flag("transposed", transposed))
    return Separability(tuple(array.shape), kernel_values(grouped), unfold_all(grouped, array.size))


def check_weights(w: Any) -> Float64:
    """Weights as float64.

    Raises:
        DataError: not finite real numbers.
        ShapeError: a number of axes other than 2 to 5.
    """
    array = check_array(w if hasattr(w, "__array__") or hasattr(w, "__dlpack__") else _as_array(w), "w")
    if not 2 <= array.ndim <= 5 or not array.size:
        raise ShapeError(
            f"w has shape {array.shape}", need="(kh, kw), or (out, in / groups, *kernel) with 1 to 3 spatial axes"
        )
    array = array.astype(np.float64)
    if not np.isfinite(array).all():
        raise DataError("w holds values that are not finite", need="finite numbers")
    return array


def _as_array(w: Any) -> npt.NDArray[Any]:
    """A kernel as nested lists.

    Raises:
        DataError: rows of different lengths, or what is no kernel.
    """
    try:
        return np.asarray(w)
    except (TypeError, ValueError) as error:
        raise DataError(f"w cannot be read as an array: {error}", need="an array of numbers") from None


def split_groups(array: Float64, groups: int, *, transposed: bool = False) -> Float64:
    """Weights as ``(groups, out / groups, in / groups, kh, kw)``; other numbers of axes are folded to two."""
    groups = as_integer("groups", groups)
    if array.shape[0] % groups:
        raise ShapeError(f"groups={groups} does not divide shape {array.shape}", need="shape[0] % groups == 0")
    kernel = array.shape[2:]
    planes = (*kernel, 1) if len(kernel) == 1 else (kernel[0], math.prod(kernel[1:]))
    grouped = array.reshape(groups, array.shape[0] // groups, array.shape[1], *planes)
    return grouped.swapaxes(1, 2) if transposed else grouped


def svd_values(matrices: Float64) -> Float64:
    """Singular values of one or many matrices, descending."""
    return np.asarray(np.linalg.svd(matrices, compute_uv=False), np.float64)


def kernel_values(grouped: Float64) -> Float64:
    """Singular values of each kernel, ``(out, in / groups, rank)``."""
    groups, narrow, wide, kh, kw = grouped.shape
    return svd_values(grouped).reshape(groups * narrow, wide, min(kh, kw))


def unfold(grouped: Float64, form: str) -> Float64:
    """The matrices of a form, ``(count, rows, columns)``."""
    groups, narrow, wide, kh, kw = grouped.shape
    match form:
        case "kernel":
            return grouped.reshape(-1, kh, kw)
        case "spatial":
            return grouped.transpose(0, 2, 3, 1, 4).reshape(groups, wide * kh, narrow * kw)
        case "depthwise":
            return grouped.transpose(0, 2, 1, 3, 4).reshape(groups * wide, narrow, kh * kw)
        case "basis":
            return grouped.reshape(1, groups * narrow * wide, kh * kw)
        case "bottleneck":
            return grouped.transpose(0, 2, 3, 4, 1).reshape(groups, wide * kh * kw, narrow)
    raise SpecError(f"form={form!r} is unknown", need="one of " + ", ".join(FORMS))


def count_parameters(grouped: Shape, form: str, rank: int) -> int:
    """Parameters of a layer in a form, with weights ``(groups, out / groups, in / groups, kh, kw)``."""
    groups, narrow, wide, kh, kw = grouped
    return (
        rank
        * {
            "kernel": groups * narrow * wide * (kh + kw),
            "spatial": groups * (wide * kh + narrow * kw),
            "depthwise": groups * wide * (kh * kw + narrow),
            "basis": kh * kw + groups * narrow * wide,
            "bottleneck": groups * (wide * kh * kw + narrow),
        }[form]
    )


def unfold_all(grouped: Float64, dense: int) -> dict[str, Unfolding]:
    """All forms of a layer."""
    check_memory(8 * 4 * grouped.size, "the unfoldings of the weights")
    forms = {}
    for form in FORMS:
        values = svd_values(unfold(grouped, form))
        costs = tuple(count_parameters(grouped.shape, form, rank) for rank in range(values.shape[-1] + 1))
        forms[form] = Unfolding(form, values, costs, dense)
    return forms
