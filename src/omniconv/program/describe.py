"""Hashes of what programs, graphs, specs or arrays hold: whatever values are called, whatever objects hold them."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from omniconv.program.program import Program


def describe_program(program: Program, known: Collection[int] = ()) -> bytes:
    """A hash of shapes and steps, whatever the values are called.

    Args:
        program: to describe.
        known: arrays, by identity, that live as long as the hash is used: these are told apart as objects, all others
            by what they hold.
    """
    names = {name: f"input {n}" for n, name in enumerate(program.inputs)}
    for step in program.steps:
        names[step.y] = f"value {len(names)}"
    state = hashlib.blake2b(digest_size=16)
    state.update(repr((program.element.name, [program.shapes[name] for name in names])).encode())
    for step in program.steps:
        _feed(state, step.renamed(names), known)
    state.update(repr([names[name] for name in program.outputs]).encode())
    return state.digest()


def describe_value(value: object) -> str:
    """A hash of what a checked graph, a spec or the arrays of one hold, whatever objects hold it."""
    state = hashlib.blake2b(digest_size=16)
    state.update(describe_program(value)) if isinstance(value, Program) else _feed(state, value, ())
    return state.hexdigest()


def _feed(state: Any, value: object, known: Collection[int]) -> None:
    """Add something that a step holds to a hash."""
    if isinstance(value, np.ndarray):
        state.update(repr((value.shape, value.dtype.str)).encode())
        if id(value) in known:
            state.update(repr(id(value)).encode())
        elif value.dtype.hasobject:
            state.update(repr(value.tolist()).encode())
        else:
            state.update(np.ascontiguousarray(value).tobytes())
    elif is_dataclass(value) and not isinstance(value, type):
        state.update(type(value).__name__.encode())
        for each in fields(value):
            _feed(state, getattr(value, each.name), known)
    elif isinstance(value, tuple):
        state.update(f"({len(value)}".encode())
        for each in value:
            _feed(state, each, known)
    elif isinstance(value, Mapping):
        _feed(state, tuple(sorted(value.items())), known)
    else:
        state.update(repr(value).encode() + b";")
