"""`make_data`: what the page is given, as JSON: kinds with their words, parameters and samples, and WebAssembly.

::

    {
      "version": "0.1.0",
      "mode": "file" | "served",             whether POST compile is there (omniconv.explorer.server)
      "start": {"kind": name or null, "text": problem line, "shape": [n, c, ...], "spec": spec},
      "links": {"documentation", "source": address or null},
      "kinds": [kind, ...],                  in the order of the registry
      "activations": {name: {"formula": text, "parameters": {name: default}}},
      "taps": {"simd", "relaxed": base64, "heap": bytes, "words": [name, ...]},    see omniconv.web.taps
      "presets": [{"name": text, "module": module}, ...]                    see omniconv.web.module
    }

    kind = {
      "name", "title", "summary", "signature", "module", "code": texts,
      "doc": {"Formula", "Use", "Legality", "Cost", "Args", "Raises", "Sources", ...: texts},
      "traits": [name, ...],
      "parameters": [{"name", "required": bool, "default": value, "typical": value, "help": text}, ...],
      "samples": [sample, ...], "errors": [{"arguments", "shape" or null, "message"}, ...]
    }
    sample = {"arguments": {name: value}, "shape", "output": [n, c, ...], "text": problem line, "spec": spec,
              "parameters", "macs": numbers}

    spec = {"type": "chain", "steps": [step, ...]} or a step of type "conv"
    step = {"type": "conv", "in_channels", "out_channels", "kernel_size": [k, ...], "stride", "dilation",
            "padding": [[before, after], ...] or "same_upper" or "same_lower", "groups", "transposed", "output_padding",
            "flip", "padding_mode", "label", "weight_shape"}
         | {"type": "split", "branches": [conv, ...]}
         | {"type": "shuffle", "groups"} | {"type": "pixel_shuffle", "factor"}
         | {"type": "resize", "factor", "mode"} | {"type": "activation", "name", "parameters": {name: number or "inf"}}

Values of arguments are numbers, texts, lists or null. Numbers that JSON does not have are the texts ``"inf"``,
``"-inf"`` and ``"nan"``.
"""

from __future__ import annotations

import ast
import inspect
import math
import re
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, metadata
from typing import Any

import omniconv
from omniconv.bench.cost import count_macs, count_parameters
from omniconv.explorer.modules import make_presets, make_taps
from omniconv.kinds import Kind, Sample, kinds
from omniconv.kinds.docs import list_entries, list_messages, sections
from omniconv.kinds.typical import typical_arguments
from omniconv.spec import Activation, Chain, Conv, PixelShuffle, Resize, Shape, Shuffle, Spec, Split
from omniconv.spec.activation import FORMULAS


def make_data(
    spec: Spec, shape: Shape, *, kind: str | None = None, served: bool = False, documentation: str | None = None
) -> dict[str, Any]:
    """Everything that the page is given.

    Args:
        spec: what the page shows first.
        shape: of its input.
        kind: the kind that it is of, where that is known.
        served: whether a server answers ``compile``.
        documentation: address of the documentation, seen from the page; default: the one that the package declares.
    """
    declared = find_addresses()
    return {
        "version": omniconv.__version__,
        "mode": "served" if served else "file",
        "start": {"kind": kind, "text": spec.text(shape), "shape": shape, "spec": describe_spec(spec)},
        "links": {
            "documentation": documentation or declared.get("documentation"),
            "source": declared.get("source"),
        },
        "kinds": [describe_kind(each) for each in kinds().values()],
        "activations": {
            name: {"formula": formula, "parameters": {key: as_json(value) for key, value in parameters.items()}}
            for name, (formula, parameters) in FORMULAS.items()
        },
        "taps": make_taps(),
        "presets": make_presets(),
    }


def describe_kind(kind: Kind) -> dict[str, Any]:
    """One kind with its words, parameters and samples."""
    doc = sections(kind)
    help_of = dict(_split_entry(entry) for entry in list_entries(doc.get("Args", "")))
    typical = typical_arguments(kind)
    return {
        "name": kind.name,
        "title": kind.name.replace("_", " ").capitalize(),
        "summary": kind.summary,
        "signature": kind.signature,
        "module": kind.constructor.__module__,
        "code": read_code(kind.constructor),
        "doc": doc,
        "traits": sorted(kind.traits),
        "parameters": [
            {
                "name": parameter.name,
                "required": parameter.default is inspect.Parameter.empty,
                "default": None if parameter.default is inspect.Parameter.empty else as_json(parameter.default),
                "typical": as_json(typical.get(parameter.name)),
                "help": help_of.get(parameter.name, ""),
            }
            for parameter in inspect.signature(kind.constructor).parameters.values()
        ],
        "samples": [describe_sample(kind, sample) for sample in kind.samples],
        "errors": [
            {
                "arguments": {name: as_json(value) for name, value in sample.arguments.items()},
                "shape": sample.shape,
                "message": str(error),
            }
            for sample, error in list_messages(kind)
        ],
    }


def find_addresses() -> dict[str, str]:
    """Addresses that the installed package declares (``[project.urls]``), by their names in small letters."""
    try:
        declared = metadata("omniconv").get_all("Project-URL") or []
    except PackageNotFoundError:
        return {}
    pairs = (entry.partition(",") for entry in declared)
    return {name.strip().lower(): address.strip().rstrip("/") for name, _, address in pairs}


def read_code(function: Callable[..., Any]) -> str:
    """The code of a function without its docstring."""
    lines = inspect.getsource(function).splitlines()
    [definition] = ast.parse("\n".join(lines)).body
    assert isinstance(definition, ast.FunctionDef)
    if ast.get_docstring(definition) is not None:
        words = definition.body[0]
        del lines[words.lineno - 1 : words.end_lineno]
    return "\n".join(lines)


def describe_sample(kind: Kind, sample: Sample) -> dict[str, Any]:
    """One sample with what follows from it."""
    spec = kind.build(sample)
    return {
        "arguments": {name: as_json(value) for name, value in sample.arguments.items()},
        "shape": sample.shape,
        "output": spec.output_shape(sample.shape),
        "text": spec.text(sample.shape),
        "spec": describe_spec(spec),
        "parameters": count_parameters(spec),
        "macs": count_macs(spec, sample.shape),
    }


def describe_spec(spec: Spec) -> dict[str, Any]:
    """A spec as the page knows it."""
    if isinstance(spec, Chain):
        return {"type": "chain", "steps": [_describe_step(step) for step in spec.steps]}
    return _describe_step(spec)


def _describe_step(step: object) -> dict[str, Any]:
    match step:
        case Conv():
            names = "in_channels out_channels kernel_size stride dilation padding groups transposed output_padding"
            fields = {name: getattr(step, name) for name in (*names.split(), "flip", "padding_mode")}
            return {"type": "conv", **fields, "label": step.label, "weight_shape": step.weight_shape}
        case Split():
            return {"type": "split", "branches": [_describe_step(branch) for branch in step.branches]}
        case Shuffle():
            return {"type": "shuffle", "groups": step.groups}
        case PixelShuffle():
            return {"type": "pixel_shuffle", "factor": step.factor}
        case Resize():
            return {"type": "resize", "factor": step.factor, "mode": step.mode}
        case Activation():
            parameters = {name: as_json(value) for name, value in step.parameters}
            return {"type": "activation", "name": step.name, "parameters": parameters}
    raise AssertionError(step)


def as_json(value: Any) -> Any:
    """An argument of a constructor as JSON has it."""
    if isinstance(value, Activation):
        return " ".join([value.name, *(f"{name}={each!r}" for name, each in value.parameters)])
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {str(name): as_json(each) for name, each in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [as_json(each) for each in value]
    return value


def _split_entry(entry: str) -> tuple[str, str]:
    name, _, text = entry.partition(": ")
    return name, re.sub(r"\s+", " ", text)
