"""`describe_program`: a hash of what a program computes, whatever its values are called."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
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


def _feed(state: Any, value: object, known: Collection[int]) -> None:
    """Add something that a step holds to a hash."""
    if isinstance(value, np.ndarray):
        state.update(repr((value.shape, value.dtype.str)).encode())
        state.update(repr(id(value)).encode() if id(value) in known else np.ascontiguousarray(value).tobytes())
    elif is_dataclass(value) and not isinstance(value, type):
        state.update(type(value).__name__.encode())
        for each in fields(value):
            _feed(state, getattr(value, each.name), known)
    elif isinstance(value, tuple):
        state.update(f"({len(value)}".encode())
        for each in value:
            _feed(state, each, known)
    else:
        state.update(repr(value).encode() + b";")
