r"""Batch normalisation and its gradient: moments of each channel, the normalised values, and what goes back.

.. math::
    m_c = \frac{1}{n} \sum_i x_{c,i}, \qquad v_c = \frac{1}{n} \sum_i (x_{c,i} - m_c)^2, \qquad
    z = \frac{x - m}{\sqrt{v + \epsilon}} w + b, \qquad y = f(z)

Sums are over all images and positions. With :math:`g = f'(z)\,\mathrm{dy}` and :math:`r = 1 / \sqrt{v + \epsilon}`,

.. math::
    \mathrm{db} = \sum_i g_i, \qquad \mathrm{dw} = r \sum_i g_i (x_i - m), \qquad
    \mathrm{dx} = w r \left(g - \frac{\mathrm{db}}{n} - (x - m)\, r\, \frac{\mathrm{dw}}{n}\right),

and dx = w r g where moments are given and not those of x.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar, Final, Self

from omniconv.errors import ShapeError, SpecError
from omniconv.program.dependence import Blocks, Broadcast, Dependence, Form, Part, Regroup
from omniconv.program.steps.step import Shapes, Step
from omniconv.records import dataclass
from omniconv.spec import Activation, Shape

DIFFERENTIABLE: Final = (
    "relu", "relu6", "clip", "leaky_relu", "elu", "sigmoid", "silu", "hard_sigmoid", "hard_swish", "tanh", "gelu",
    "gelu_tanh",
)  # fmt: skip
"""Activations whose derivatives are known here."""


@dataclass(frozen=True, slots=True)
class MomentsStep(Step):
    """For each channel its mean, its variance, and n / (n - 1) times the variance: y is ``(3, C)``.

    The variance is made of squared differences, so that it is never negative.
    """

    word: ClassVar[str] = "moments"
    x: str
    y: str

    def output_shape(self, shapes: Shapes) -> Shape:
        """``(3, C)``."""
        return 3, _check_images(shapes[self.x])[1]

    def dependence(self, shapes: Shapes) -> Dependence:
        """All numbers of a channel on all of its elements."""
        forms = (*_summed(shapes[self.x], self.word), Broadcast((1, shapes[self.x][1]), shapes[self.y]))
        return Dependence((Part(self.x, forms),), linear=False)


@dataclass(frozen=True, slots=True)
class _Normal(Step):
    """What steps have in common that see normalised values.

    Attributes:
        mean, variance: values of shape ``(C,)`` or ``(1, C)``.
        w, b: factors and what is added, likewise, or neither.
        epsilon: is added to the variance.
        activation: follows, where there is one.
    """

    x: str
    y: str
    mean: str
    variance: str
    w: str | None
    b: str | None
    epsilon: float
    activation: Activation | None

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of the values with a number for each channel."""
        return (
            (self.mean, self.variance)
            if self.w is None or self.b is None
            else (
                self.mean,
                self.variance,
                self.w,
                self.b,
            )
        )

    @property
    def reads(self) -> tuple[str, ...]:
        """The input and the numbers of the channels."""
        return (self.x, *self.parameters)

    def renamed(self, names: Mapping[str, str]) -> Self:
        """All of them."""
        fields = ("mean", "variance", "w", "b", "dy", "sums")
        found = {name: names.get(value, value) for name in fields if (value := getattr(self, name, None)) is not None}
        return replace(Step.renamed(self, names), **found)

    def check(self, shapes: Shapes) -> Shape:
        """The shape of x, to which all else has to fit."""
        shape = _check_images(shapes[self.x])
        if (self.w is None) != (self.b is None):
            raise SpecError("factors without what is added, or the other way round", need="both or neither")
        if self.activation is not None and self.activation.name not in DIFFERENTIABLE:
            raise SpecError(f"activation {self.activation.name!r}", need=f"one of {DIFFERENTIABLE}")
        for name in self.parameters:
            if tuple(shapes[name]) not in ((shape[1],), (1, shape[1])):
                raise ShapeError(
                    f"{name} of shape {tuple(shapes[name])}", need=f"a number for each of {shape[1]} channels"
                )
        return shape

    def depend(self, shapes: Shapes, *, summed: bool = False) -> Dependence:
        """The dependence of what is made of each element and of the numbers of its channel, or of sums of that."""
        shape, channels, parts = shapes[self.x], shapes[self.x][1], []
        row = (1, channels)
        wide = shapes[self.y] if summed else (1, channels, *(1,) * (len(shape) - 2))
        for name in self.reads:
            forms: list[Form] = []
            given = tuple(shapes[name])
            if name in (self.x, getattr(self, "dy", None)):
                forms += [*_summed(shape, self.word), Broadcast(row, wide)] if summed else []
            else:
                if name == getattr(self, "sums", None):
                    forms.append(Blocks(0, 2, 1, average=False, why=self.word))
                    given = row
                first = row if summed else wide
                if given != first:
                    forms.append(Regroup(given, given, tuple(range(len(given))), first))
                forms.append(Broadcast(first, shapes[self.y]))
            parts.append(Part(name, tuple(forms), name not in (self.w, getattr(self, "dy", None))))
        return Dependence(tuple(parts), linear=False)


@dataclass(frozen=True, slots=True)
class NormaliseStep(_Normal):
    """``y = f((x - mean) / sqrt(variance + epsilon) w + b)``."""

    word: ClassVar[str] = "normalise"

    def output_shape(self, shapes: Shapes) -> Shape:
        """x's."""
        return self.check(shapes)

    def dependence(self, shapes: Shapes) -> Dependence:
        """Each entry on the same entry and on the numbers of its channel."""
        return self.depend(shapes)


@dataclass(frozen=True, slots=True, kw_only=True)
class NormaliseSumsStep(_Normal):
    """``db`` and ``dw`` of a normalisation, from ``dy``: y is ``(2, C)``."""

    word: ClassVar[str] = "normalise_sums"
    dy: str

    @property
    def reads(self) -> tuple[str, ...]:
        """The gradient as well."""
        return (self.x, self.dy, *self.parameters)

    def output_shape(self, shapes: Shapes) -> Shape:
        """``(2, C)``."""
        shape = self.check(shapes)
        _check_gradient(shapes[self.dy], shape)
        return 2, shape[1]

    def dependence(self, shapes: Shapes) -> Dependence:
        """Both sums of a channel on all of it; with an activation that is bent, without one they may read less."""
        return self.depend(shapes, summed=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class NormaliseGradientStep(_Normal):
    """``dx`` of a normalisation from ``dy``; with ``sums`` (``db`` and ``dw``), the moments are those of x."""

    word: ClassVar[str] = "normalise_gradient"
    dy: str
    sums: str | None

    @property
    def reads(self) -> tuple[str, ...]:
        """The gradient, and the sums as well."""
        return (self.x, self.dy, *self.parameters, *(() if self.sums is None else (self.sums,)))

    def output_shape(self, shapes: Shapes) -> Shape:
        """x's."""
        shape = self.check(shapes)
        _check_gradient(shapes[self.dy], shape)
        if self.sums is not None and tuple(shapes[self.sums]) != (2, shape[1]):
            raise ShapeError(f"sums of shape {tuple(shapes[self.sums])}", need=f"{(2, shape[1])}")
        return shape

    def dependence(self, shapes: Shapes) -> Dependence:
        """Each entry on the same entries and on the numbers of its channel, with an activation that is bent."""
        return self.depend(shapes)


def _summed(shape: Shape, why: str) -> list[Form]:
    """The forms of what is summed over all but the channels, as ``(1, C)``."""
    kept = (1, shape[1], *(1,) * (len(shape) - 2))
    axes = (axis for axis in range(len(shape)) if axis != 1)
    forms: list[Form] = [Blocks(axis, shape[axis], 1, why=why) for axis in axes]
    return forms if len(shape) == 2 else [*forms, Regroup(kept, kept, tuple(range(len(kept))), kept[:2])]


def _check_images(shape: Shape) -> Shape:
    if not 2 <= len(shape) <= 5:
        raise ShapeError(f"a value of shape {tuple(shape)} to normalise", need="(N, C, *spatial) of 2 to 5 axes")
    return tuple(shape)


def _check_gradient(given: Shape, shape: Shape) -> None:
    if tuple(given) != shape:
        raise ShapeError(f"a gradient of shape {tuple(given)}", need=f"{shape}, that of the values")
