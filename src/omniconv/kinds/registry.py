"""The registry of kinds: every module of this package that defines ``KIND`` is one, found when first asked for.

Adding a kind is adding one file. Tests, documentation and the command line take its constructor, its samples and its
error samples from here, so nothing else keeps a list of what exists.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Mapping
from functools import cache
from types import MappingProxyType
from typing import Any, Final

from omniconv.errors import OmniconvError, SpecError
from omniconv.integers import state
from omniconv.records import dataclass
from omniconv.spec import Chain, Shape, Spec

TRAITS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "single": "returns one Conv",
        "chain": "returns a Chain",
        "per_channel": "every output channel sees exactly one input channel",
        "upsamples": "the output can be larger than the input",
        "flips": "its taps run backwards (true convolution)",
    }
)
"""Trait -> what it promises of every spec the constructor returns. Tests hold each kind to its traits."""

_MACHINERY: Final = frozenset({"registry", "arguments", "docs", "typical"})


@dataclass(frozen=True, slots=True)
class Sample:
    """One layer of a kind that every property is checked on: constructor arguments and an input shape."""

    arguments: Mapping[str, Any]
    shape: Shape

    def __str__(self) -> str:
        return ", ".join(f"{key}={value!r}" for key, value in self.arguments.items())


@dataclass(frozen=True, slots=True)
class ErrorSample:
    """Arguments that must be refused, or, with a shape, an input that the layer must refuse.

    Attributes:
        error: the class that is raised.
        match: a regular expression that the message contains.
    """

    arguments: Mapping[str, Any]
    shape: Shape | None
    error: type[OmniconvError]
    match: str

    def __str__(self) -> str:
        return ", ".join(f"{key}={value!r}" for key, value in self.arguments.items())


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of convolution.

    Attributes:
        name: snake_case noun; also the name of its module and of its constructor.
        constructor: builds the `Conv` or `Chain`.
        traits: keys of :data:`TRAITS`.
        samples: small, awkward layers.
        errors: what must be refused, and with which words.
        names: of a chain's convolutions, whatever their numbers are; they are keys of trained weights.
    """

    name: str
    constructor: Callable[..., Spec]
    traits: frozenset[str]
    samples: tuple[Sample, ...]
    errors: tuple[ErrorSample, ...]
    names: tuple[str, ...] | Callable[[Chain], tuple[str, ...]] = ()

    def name_convs(self, chain: Chain) -> tuple[str, ...]:
        """A name for each convolution of a chain of this kind."""
        return self.names(chain) if callable(self.names) else self.names

    @property
    def doc(self) -> str:
        """The constructor's docstring: formula, use, legality, cost, example, arguments, sources."""
        return inspect.getdoc(self.constructor) or ""

    @property
    def summary(self) -> str:
        """The first line of :attr:`doc`."""
        return self.doc.partition("\n")[0]

    @property
    def signature(self) -> str:
        """The constructor as it is called, e.g. ``pointwise(in_channels, out_channels, *, stride=1, dims=None)``."""
        parameters = inspect.signature(self.constructor).parameters.values()
        plain = [parameter.replace(annotation=inspect.Parameter.empty) for parameter in parameters]
        return f"{self.name}{inspect.Signature(plain)}"

    def build(self, sample: Sample | ErrorSample) -> Spec:
        """The spec of a sample."""
        return self.constructor(**sample.arguments)


class _Kinds(dict[str, Kind]):
    """Kinds by name; an unknown one is an error that lists them."""

    def __missing__(self, name: str) -> Kind:
        raise SpecError(state("kind", name, "is unknown"), need="one of " + ", ".join(self))


@cache
def kinds() -> Mapping[str, Kind]:
    """All kinds by name, in alphabetical order.

    Example:
        >>> kinds()["depthwise"].constructor(in_channels=8, kernel_size=3).weight_shape
        (8, 1, 3, 3)

    Raises:
        SpecError: from the mapping, where a kind is asked for that does not exist.
    """
    package = importlib.import_module("omniconv.kinds")
    found: dict[str, Kind] = {}
    for module_info in pkgutil.iter_modules(package.__path__, "omniconv.kinds."):
        if module_info.name.rpartition(".")[2] in _MACHINERY:
            continue
        kind = getattr(importlib.import_module(module_info.name), "KIND", None)
        if isinstance(kind, Kind):
            found[kind.name] = kind
    return MappingProxyType(_Kinds(sorted(found.items())))
