"""`compare_kinds`: every kind of the registry side by side, all making the same output for one layer."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

import numpy as np

from omniconv.analysis import Cost, Machine, Record, cost
from omniconv.bench.interleave import interleave
from omniconv.bench.roofline import Roofline
from omniconv.errors import OmniconvError, ShapeError, SpecError
from omniconv.integers import as_integer
from omniconv.kinds import Kind, kinds
from omniconv.limits import check_memory
from omniconv.records import dataclass
from omniconv.report.layers import as_roofline, bound_layer
from omniconv.spec import Conv, Shape, Spec

STANDARD: Final = "cross_correlation"
"""The kind that all others are compared with."""
FACTOR: Final = 2
"""By how much kinds that enlarge their input do so here."""


@dataclass(frozen=True, slots=True)
class LayerSizes(Record):
    """The layer that is asked for; all axes alike, padding "same", batch 1.

    Attributes:
        groups: for kinds that have to be grouped.
        size: input positions on each axis.
    """

    in_channels: int
    out_channels: int
    kernel_size: int = 3
    size: int = 56
    stride: int = 1
    groups: int = 4
    dims: int = 2

    def __post_init__(self) -> None:
        for name in ("in_channels", "out_channels", "kernel_size", "size", "stride", "groups"):
            object.__setattr__(self, name, as_integer(name, getattr(self, name)))
        object.__setattr__(self, "dims", as_integer("dims", self.dims, 1, 3))

    @property
    def shape(self) -> Shape:
        """Of the input."""
        return (1, self.in_channels, *(self.size,) * self.dims)

    @property
    def padding(self) -> str:
        """Outputs are as many as inputs, divided by the stride."""
        return "same"

    @property
    def kernel_sizes(self) -> tuple[int, int]:
        """For kinds that mix kernels: this one and the next larger one."""
        return self.kernel_size, self.kernel_size + 2

    @property
    def channel_multiplier(self) -> int:
        """Outputs for each input channel, for kinds whose filters belong to one.

        Raises:
            SpecError: not a whole number.
        """
        if self.out_channels % self.in_channels:
            raise SpecError(
                f"{self.out_channels} output channels are no multiple of {self.in_channels}",
                need="out_channels % in_channels == 0, as every filter belongs to one input channel",
            )
        return self.out_channels // self.in_channels

    @property
    def text(self) -> str:
        """In words."""
        kernel, size = ("x".join([str(value)] * self.dims) for value in (self.kernel_size, self.size))
        words = f"{self.in_channels} > {self.out_channels} channels, {kernel} kernel, {size} positions"
        return words + (f", stride {self.stride}" if self.stride > 1 else "")


ALWAYS: Final = ("in_channels", "out_channels", "kernel_size", "kernel_sizes", "stride", "padding", "dims")
"""Arguments that are given to every constructor that has them: attributes of the `LayerSizes`."""
REQUIRED: Final = ("groups",)
"""Arguments that are given only where a constructor has no default for them."""
INSTEAD: Final[Mapping[str, str]] = {"channel_multiplier": "out_channels"}
"""Arguments that are given where a constructor lacks another one."""
ENLARGING: Final[Mapping[str, int]] = {"stride": FACTOR, "factor": FACTOR}
"""For kinds with the trait ``upsamples``: their input is smaller by so much, so that the output is the same."""
RETRY: Final[tuple[Mapping[str, Any], ...]] = ({"form": "dense"},)
"""What is added for constructors that have it, one after the other, where they refuse the plain arguments."""
TRAIT_NOTES: Final[Mapping[str, str]] = {
    "per_channel": "each output sees one input channel",
    "flips": "kernel mirrored",
}


def find_arguments(kind: Kind, layer: LayerSizes) -> dict[str, Any]:
    """Constructor arguments of a kind for a layer, from its signature and its traits.

    Example:
        >>> find_arguments(kinds()["depthwise"], LayerSizes(8, 16))
        {'in_channels': 8, 'kernel_size': 3, 'stride': 1, 'padding': 'same', 'dims': 2, 'channel_multiplier': 2}

    Raises:
        SpecError: values that the kind cannot have.
    """
    signature = inspect.signature(kind.constructor).parameters
    names = [name for name in ALWAYS if name in signature]
    names += [name for name in REQUIRED if name in signature and signature[name].default is inspect.Parameter.empty]
    names += [name for name, other in INSTEAD.items() if name in signature and other not in signature]
    found = {name: getattr(layer, name) for name in names}
    if "upsamples" in kind.traits:
        found.update({name: value for name, value in ENLARGING.items() if name in signature})
    return found


@dataclass(frozen=True, slots=True)
class Alternative(Record):
    """One kind for the layer.

    Attributes:
        kind: its name.
        spec: the layer of that kind; ``None`` where it has none, for which ``reason`` says why.
        shape: of its input.
        notes: in which ways it is not the standard layer.
        cost: parameters (without biases), MACs, bytes.
        bound_seconds: least time on the machine of its convolutions, one after the other [s].
        seconds: measured, channels last [s].
        multiplications: that the compiled layer does; ``None`` if it was not compiled.
    """

    kind: str
    spec: Spec | None = None
    shape: Shape = ()
    notes: tuple[str, ...] = ()
    reason: str = ""
    cost: Cost | None = None
    bound_seconds: float | None = None
    seconds: float | None = None
    multiplications: int | None = None


@dataclass(frozen=True, slots=True)
class LayerComparison(Record):
    """All kinds for one layer, the standard one first, then those with the fewest multiply-accumulates.

    Attributes:
        layer: what was asked for.
        alternatives: kinds that make an output of the same shape.
        refused: kinds that do not.
        threads: that the measured times are for.
        limits: the machine.
    """

    layer: LayerSizes
    alternatives: tuple[Alternative, ...]
    refused: tuple[Alternative, ...]
    threads: int = 1
    limits: Roofline | None = None

    @property
    def standard(self) -> Alternative:
        """What the others are compared with."""
        return self.alternatives[0]

    def savings(self, item: Alternative) -> dict[str, float | None]:
        """How many times fewer parameters and MACs, and how many times less time, than the standard layer."""
        base, own = self.standard, item
        assert base.cost is not None
        assert own.cost is not None
        return {
            "parameters": base.cost.parameters / own.cost.parameters,
            "macs": base.cost.macs / own.cost.macs,
            "time": base.seconds / own.seconds if base.seconds and own.seconds else None,
        }


def compare_kinds(
    layer: LayerSizes,
    *,
    measure: bool = True,
    threads: int = 1,
    limits: Roofline | Machine | None = None,
    rounds: int = 15,
    turn: float = 2e-3,
    on_round: Callable[[int, float], None] | None = None,
) -> LayerComparison:
    """Put every kind of the registry side by side.

    Args:
        layer: what is asked for.
        measure: compile each and measure it, all in turns.
        threads: for the compiled layers.
        limits: the machine, for the least times.
        rounds, turn: of the measurement, see :func:`omniconv.bench.interleave.interleave`.
        on_round: called with the number of rounds done and the share of the work that is finished.

    Example:
        >>> found = compare_kinds(LayerSizes(64, 128), measure=False)
        >>> found.standard.cost.macs, found.standard.cost.parameters
        (231211008, 73728)
    """
    wanted = kinds()[STANDARD].constructor(**find_arguments(kinds()[STANDARD], layer)).output_shape(layer.shape)
    roofline = None if limits is None else as_roofline(limits)
    found = [_build(kind, layer, wanted, roofline) for kind in kinds().values()]
    fitting = [item for item in found if item.spec is not None]
    fitting.sort(key=_order)
    if measure:
        fitting = _measure(fitting, roofline, threads, rounds, turn, on_round)
    return LayerComparison(layer, tuple(fitting), tuple(item for item in found if item.spec is None), threads, roofline)


def _order(item: Alternative) -> tuple[bool, bool, int]:
    assert item.cost is not None
    return item.kind != STANDARD, "upsamples" in kinds()[item.kind].traits, -item.cost.macs


def _build(kind: Kind, layer: LayerSizes, wanted: Shape, limits: Roofline | None) -> Alternative:
    notes = [text for trait, text in TRAIT_NOTES.items() if trait in kind.traits]
    shape = layer.shape
    try:
        if "upsamples" in kind.traits:
            if any(size % FACTOR for size in wanted[2:]):
                raise ShapeError(f"it enlarges by {FACTOR}, and {wanted[2]} positions are odd")
            shape = (*shape[:2], *(size // FACTOR for size in wanted[2:]))
            notes.append(f"from {_times(shape[2:])} positions")
        spec, added = construct(kind, find_arguments(kind, layer))
        made = spec.output_shape(shape)
    except OmniconvError as error:
        return Alternative(kind.name, reason=str(error).partition(" | ")[0])
    if made != wanted:
        return Alternative(kind.name, reason=f"its output is {_times(made)}; need {_times(wanted)}")
    notes += [f"{name}={value}" for name, value in added.items()]
    convs = [spec] if isinstance(spec, Conv) else list(spec.convs)
    dilation = max(max(conv.dilation) for conv in convs)
    if dilation > 1:
        notes.append(f"taps {dilation} apart")
    if max(max(conv.kernel_size) for conv in convs) == 1 < layer.kernel_size:
        notes.append("sees one position")
    split = max((conv.groups for conv in convs if not conv.is_depthwise), default=1)
    if split > 1:
        notes.append(f"{split} groups")
    price = cost(spec, shape)
    return Alternative(kind.name, spec, shape, tuple(notes), "", price, _bound(price, limits))


def _bound(price: Cost, limits: Roofline | None) -> float | None:
    return None if limits is None else sum(bound_layer(step, limits).seconds for step in price.layers if step.macs)


def construct(kind: Kind, arguments: Mapping[str, Any]) -> tuple[Spec, Mapping[str, Any]]:
    """The layer of a kind, and what had to be added to the arguments so that it takes them.

    Raises:
        SpecError: it takes them in no way; the first refusal.
    """
    known = inspect.signature(kind.constructor).parameters
    for added in ({}, *(extra for extra in RETRY if extra.keys() <= known.keys())):
        try:
            return kind.constructor(**arguments, **added), added
        except SpecError:
            continue
    return kind.constructor(**arguments), {}


def _times(sizes: Sequence[int]) -> str:
    return "x".join(str(size) for size in sizes)


def _measure(
    items: Sequence[Alternative],
    limits: Roofline | None,
    threads: int,
    rounds: int,
    turn: float,
    on_round: Callable[[int, float], None] | None,
) -> list[Alternative]:
    """All with the median times of the compiled layers, channels last, in turns, and their multiplications."""
    from omniconv import inspection
    from omniconv.api import compile as compile_spec
    from omniconv.reference import random_weights

    compiled: dict[str, Cost] = {}
    calls: dict[str, Callable[[], object]] = {}
    for item in items:
        assert item.spec is not None
        assert item.cost is not None
        check_memory(2 * item.cost.bytes, "the layer with its weights", at=item.spec.text(item.shape))
        rng = np.random.default_rng(0)
        weights = random_weights(item.spec, rng)
        run = compile_spec(item.spec, item.shape, weights, threads=threads, layout="NHWC")
        x = rng.standard_normal((item.shape[0], *item.shape[2:], item.shape[1]), np.float32)
        calls[item.kind] = partial(run, x)
        compiled[item.kind] = inspection.cost(run)
    timings = interleave(calls, rounds=rounds, seconds=0.0, turn=turn, on_round=on_round)
    return [
        replace(
            item,
            bound_seconds=_bound(compiled[item.kind], limits),
            seconds=timings[item.kind].median,
            multiplications=compiled[item.kind].multiplications,
        )
        for item in items
    ]
