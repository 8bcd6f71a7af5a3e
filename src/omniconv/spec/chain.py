"""`Chain`: kinds made of several steps, e.g. depthwise then pointwise, with shuffles and activations between."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeAlias, get_args

from omniconv.choices import as_parts, check_instance
from omniconv.errors import ShapeError, SpecError
from omniconv.records import dataclass
from omniconv.spec.activation import Activation
from omniconv.spec.arguments import Shape, take_shape
from omniconv.spec.conv import Conv
from omniconv.spec.rearrange import PixelShuffle, Resize, Shuffle


@dataclass(frozen=True, slots=True)
class Split:
    """Parallel convolutions on consecutive slices of the channels, their outputs concatenated (MixConv)."""

    branches: tuple[Conv, ...]

    def __post_init__(self) -> None:
        branches = as_parts("branches", self.branches, (Conv,), need="a Conv", fix="Split((Conv.of(4, 8, 3),))")
        object.__setattr__(self, "branches", branches)
        if not self.branches:
            raise SpecError("a split without branches", need="at least one branch")
        if len({branch.dims for branch in self.branches}) > 1:
            raise SpecError("branches of a split differ in their number of axes", need="equal numbers of axes")

    @property
    def in_channels(self) -> int:
        """Sum over the branches."""
        return sum(branch.in_channels for branch in self.branches)

    @property
    def out_channels(self) -> int:
        """Sum over the branches."""
        return sum(branch.out_channels for branch in self.branches)

    def slices(self) -> Iterator[tuple[Conv, slice, slice]]:
        """Each branch with its slices of the input and output channels."""
        first_in = first_out = 0
        for branch in self.branches:
            yield (
                branch,
                slice(first_in, first_in + branch.in_channels),
                slice(first_out, first_out + branch.out_channels),
            )
            first_in, first_out = first_in + branch.in_channels, first_out + branch.out_channels

    def output_shape(self, shape: Sequence[int]) -> Shape:
        """Shape of the concatenated outputs; all branches must agree on the spatial sizes."""
        shape = take_shape(shape, self.in_channels, self.branches[0].dims, lambda: "split")
        if shape[1] != self.in_channels:
            raise ShapeError(f"input has {shape[1]} channels", need=f"{self.in_channels}, the sum over the branches")
        shapes = [branch.output_shape((shape[0], branch.in_channels, *shape[2:])) for branch in self.branches]
        if len({produced[2:] for produced in shapes}) > 1:
            raise ShapeError(f"branches produce different sizes {[s[2:] for s in shapes]}", need="equal spatial sizes")
        return (shape[0], self.out_channels, *shapes[0][2:])


ChainStep: TypeAlias = Conv | Split | Shuffle | PixelShuffle | Resize | Activation


@dataclass(frozen=True, slots=True)
class Chain:
    """Steps applied one after another.

    Example:
        >>> chain = Chain((Conv.of(32, 32, 3, padding=1, groups=32), Activation("relu"), Conv.of(32, 64, 1)))
        >>> chain.output_shape((1, 32, 56, 56)), chain.weight_shapes
        ((1, 64, 56, 56), ((32, 1, 3, 3), (64, 32, 1, 1)))

    Raises:
        SpecError: no convolution among the steps, or channel counts that do not fit one another.
    """

    steps: tuple[ChainStep, ...]

    def __post_init__(self) -> None:
        need = "a Conv, Split, Shuffle, PixelShuffle, Resize or Activation"
        steps = as_parts("steps", self.steps, get_args(ChainStep), need=need, fix="Chain((Conv.of(4, 8, 3),))")
        object.__setattr__(self, "steps", steps)
        convs = self.convs
        if not convs:
            raise SpecError("a chain without a convolution", need="at least one Conv or Split among the steps")
        if len({conv.dims for conv in convs}) > 1:
            raise SpecError("steps of a chain differ in their number of axes", need="equal numbers of axes")
        channels = self.in_channels
        for index, step in enumerate(self.steps):
            if isinstance(step, Conv | Split):
                if step.in_channels != channels:
                    raise SpecError(
                        f"step {index} takes {step.in_channels} channels and receives {channels}",
                        need=f"in_channels={channels}",
                        at=self.text(),
                    )
                channels = step.out_channels
            elif isinstance(step, Shuffle):
                step.source(channels)
            elif isinstance(step, PixelShuffle):
                try:
                    channels = step.output_shape((1, channels, *(1,) * self.dims))[1]
                except ShapeError as error:
                    raise SpecError(error.problem, need=error.need, at=self.text()) from None

    @property
    def convs(self) -> tuple[Conv, ...]:
        """All convolutions in order, those of splits included; one ``(w, b)`` belongs to each."""
        found: list[Conv] = []
        for step in self.steps:
            if isinstance(step, Conv):
                found.append(step)
            elif isinstance(step, Split):
                found.extend(step.branches)
        return tuple(found)

    @property
    def dims(self) -> int:
        """Number of spatial axes."""
        return self.convs[0].dims

    @property
    def in_channels(self) -> int:
        """Channels that the first step takes."""
        needed = 1
        for step in self.steps:
            if isinstance(step, Conv | Split):
                return step.in_channels * needed
            if isinstance(step, PixelShuffle):
                needed *= step.factor**self.dims
        raise SpecError("a chain without a convolution", need="at least one Conv or Split among the steps")

    @property
    def out_channels(self) -> int:
        """Channels that the last step produces."""
        channels = self.in_channels
        for step in self.steps:
            if isinstance(step, Conv | Split):
                channels = step.out_channels
            elif isinstance(step, PixelShuffle):
                channels //= step.factor**self.dims
        return channels

    @property
    def weight_shapes(self) -> tuple[Shape, ...]:
        """Shapes of the weights, one for each of :attr:`convs`."""
        return tuple(conv.weight_shape for conv in self.convs)

    def shapes(self, shape: Sequence[int]) -> tuple[Shape, ...]:
        """The shape before the first step and after each step."""
        found = [shape := take_shape(shape, self.in_channels, self.dims, self.text)]
        if shape[1] != self.in_channels:
            raise ShapeError(
                f"input of shape {shape} has {shape[1]} channels",
                need=f"in_channels={self.in_channels} on axis 1 (channels first)",
                at=self.text(),
            )
        for step in self.steps:
            found.append(found[-1] if isinstance(step, Activation) else step.output_shape(found[-1]))
        return tuple(found)

    def layers(self, shape: Sequence[int]) -> Iterator[tuple[Conv, Shape]]:
        """Each of :attr:`convs` with the shape that it receives, for an input of ``shape``."""
        for step, given in zip(self.steps, self.shapes(shape), strict=False):
            if isinstance(step, Conv):
                yield step, given
            elif isinstance(step, Split):
                yield from ((branch, (given[0], branch.in_channels, *given[2:])) for branch in step.branches)

    def output_shape(self, shape: Sequence[int]) -> Shape:
        """Output shape for an input of ``shape``.

        Raises:
            ShapeError: an input that some step does not take.
        """
        return self.shapes(shape)[-1]

    def text(self, shape: Sequence[int] | None = None) -> str:
        """The one-line problem text; see :mod:`omniconv.spec.text`."""
        from omniconv.spec.text import format_chain

        return format_chain(self, shape)

    def __str__(self) -> str:
        return self.text()


Spec: TypeAlias = Conv | Chain
"""What a kind returns: a single convolution, or a chain of steps."""


def check_spec(spec: object) -> None:
    """Refuse what is no spec.

    Raises:
        DataError: neither a `Conv` nor a `Chain`.
    """
    module = hasattr(spec, "state_dict")
    fix = "spec, weights = omniconv.torch.from_torch(module)" if module else "Conv.of(4, 8, 3)"
    check_instance("spec", spec, (Conv, Chain), need="a Conv or a Chain", fix=fix)
