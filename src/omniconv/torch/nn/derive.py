"""Modules made from the kinds: names, signatures, documentation and specs all come from the registry."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, Final

from torch import nn

from omniconv.errors import SpecError
from omniconv.kinds import Kind
from omniconv.kinds.docs import sections
from omniconv.spec import Conv
from omniconv.torch.nn.layers import ChainNd, ConvNd

ORDER: Final = ("stride", "padding", "dilation", "groups", "bias", "padding_mode", "device", "dtype")
"""Optional arguments by position, as in ``torch.nn.Conv2d``. A kind has some of them; what only it has goes by name."""
ORDER_TRANSPOSED: Final = (
    "stride", "padding", "output_padding", "groups", "bias", "dilation", "padding_mode", "device", "dtype",
)  # fmt: skip
"""... and as in ``torch.nn.ConvTranspose2d``."""
OWN: Final = {"bias": True, "device": None, "dtype": None}
"""Arguments of every module, with their defaults."""
ENTRIES: Final = """\
    bias: whether every convolution adds one.
    device: of the parameters.
    dtype: of the parameters; float32 and float64 are compiled, other types are left to PyTorch's operators."""


def class_name(kind: Kind, dims: int) -> str:
    """The name of the module of a kind over so many axes, such as ``DepthwiseSeparable2d``."""
    return "".join(word.capitalize() for word in kind.name.split("_")) + f"{dims}d"


def dims_of(kind: Kind) -> list[int]:
    """The numbers of axes that a kind is sampled with, which are those that it has."""
    return sorted({len(sample.shape) - 2 for sample in kind.samples})


def make_module(kind: Kind, dims: int, module: str) -> type[nn.Module]:
    """The module class of a kind over so many axes.

    Args:
        kind: of the registry.
        dims: number of axes.
        module: name of the Python module that the class belongs to.
    """
    base = ConvNd if "single" in kind.traits else ChainNd
    signature = signature_of(kind)
    name = class_name(kind, dims)

    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N807 - becomes the method
        given = signature.bind(*args, **kwargs)
        given.apply_defaults()
        arguments = dict(given.arguments)
        own = {key: arguments.pop(key) for key in OWN}
        spec = kind.constructor(**arguments, dims=dims)
        if isinstance(spec, Conv):
            ConvNd.__init__(self, spec, **own)
        else:
            ChainNd.__init__(self, spec, kind.name_convs(spec), **own)
        self._arguments = _changed(signature, {**arguments, "bias": own["bias"]})

    def extra_repr(self: Any) -> str:
        """Arguments that are not the default."""
        return str(self._arguments)

    methods: dict[str, Any] = {"__init__": __init__, "extra_repr": extra_repr}
    body = {
        **methods,
        "__doc__": document(kind, dims, signature),
        "__module__": module,
        "__qualname__": name,
        "kind": kind.name,
    }
    whole = [_plain("self", inspect.Parameter.empty, inspect.Parameter.POSITIONAL_OR_KEYWORD)]
    vars(__init__)["__signature__"] = signature.replace(parameters=[*whole, *signature.parameters.values()])
    for key, method in methods.items():
        method.__qualname__, method.__module__ = f"{name}.{key}", module
    return type(name, (base,), body)


def signature_of(kind: Kind) -> inspect.Signature:
    """The arguments of a kind's constructor in the order of PyTorch's layers, without ``dims``."""
    parameters = dict(inspect.signature(kind.constructor).parameters)
    del parameters["dims"]
    order = ORDER_TRANSPOSED if "output_padding" in parameters else ORDER
    first = [each for each in parameters.values() if each.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]
    by_place = [name for name in order if name in OWN or _has_default(parameters.get(name))]
    found = [_plain(each.name, each.default, each.POSITIONAL_OR_KEYWORD) for each in first]
    for name in by_place:
        default = OWN[name] if name in OWN else parameters[name].default
        found.append(_plain(name, default, inspect.Parameter.POSITIONAL_OR_KEYWORD))
    placed = {each.name for each in found}
    rest = [each for each in parameters.values() if each.name not in placed]
    found += [_plain(each.name, each.default, inspect.Parameter.KEYWORD_ONLY) for each in rest]
    return inspect.Signature(found)


def document(kind: Kind, dims: int, signature: inspect.Signature) -> str:
    """The documentation of a module: the kind's own text, the module's arguments, and its keys for one sample."""
    parts = sections(kind)
    lines = [parts["Summary"], ""]
    for title in ("Formula", "Use", "Legality", "Cost"):
        if title in parts:
            lines += [f"{title}:", *_indent(parts[title]), ""]
    sample = next(sample for sample in kind.samples if len(sample.shape) == dims + 2)
    shown = {key: value for key, value in sample.arguments.items() if key != "dims"}
    lines += ["Example:", *_indent(_example(kind, dims, shown)), ""]
    lines += ["Args:", *_arguments(parts["Args"], signature), *ENTRIES.splitlines(), ""]
    lines += [
        "Shapes:",
        "    ``x: (N, C, *spatial)`` or ``(C, *spatial)``; the result lies in memory as ``x`` does.",
        "",
    ]
    if "Sources" in parts:
        lines += ["Sources:", *_indent(parts["Sources"])]
    return "\n".join(lines)


def _example(kind: Kind, dims: int, arguments: Mapping[str, Any]) -> str:
    spec = kind.constructor(**arguments, dims=dims)
    name = class_name(kind, dims)
    called = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
    names = [""] if isinstance(spec, Conv) else [f"{each}." for each in kind.name_convs(spec)]
    shapes = {f"{name}weight": shape for name, shape in zip(names, spec.weight_shapes, strict=True)}
    return (
        f">>> layer = {name}({called}, bias=False)\n"
        f">>> {{name: tuple(value.shape) for name, value in layer.state_dict().items()}}\n{shapes}"
    )


def _arguments(text: str, signature: inspect.Signature) -> list[str]:
    """The entries of an Args section in the order of a signature."""
    entries: dict[str, list[str]] = {}
    for line in text.splitlines():
        if not line.startswith(" "):
            entries[line.partition(":")[0]] = current = []
        current.append(line)
    return _indent("\n".join(line for name in signature.parameters for line in entries.get(name, ())))


def _changed(signature: inspect.Signature, arguments: Mapping[str, Any]) -> str:
    """Arguments as they are printed: those without a default, and those that are not the default."""
    shown = []
    for name, parameter in signature.parameters.items():
        if name in arguments and arguments[name] is not parameter.default and arguments[name] != parameter.default:
            value = arguments[name]
            plain = parameter.default is parameter.empty and name.endswith("channels")
            shown.append(f"{value}" if plain else f"{name}={value!r}")
    return ", ".join(shown)


def _has_default(parameter: inspect.Parameter | None) -> bool:
    return parameter is not None and parameter.default is not inspect.Parameter.empty


def _plain(name: str, default: Any, how: Any) -> inspect.Parameter:
    return inspect.Parameter(name, how, default=default)


def _indent(text: str) -> list[str]:
    return [f"    {line}" if line else "" for line in text.splitlines()]


def make_modules(kinds: Mapping[str, Kind], module: str) -> dict[str, type[nn.Module]]:
    """The modules of all kinds by name.

    Raises:
        SpecError: two kinds whose modules would have the same name.
    """
    made: dict[str, type[nn.Module]] = {}
    for kind in kinds.values():
        for dims in dims_of(kind):
            name = class_name(kind, dims)
            if name in made:
                raise SpecError(f"two kinds would be the module {name}", need="another name for one of them")
            made[name] = make_module(kind, dims, module)
    return made
