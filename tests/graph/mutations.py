"""Deterministic damage to ONNX models: bytes of a file, and fields of a parsed model."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import onnx
from google.protobuf.descriptor import FieldDescriptor

INTEGERS = (0, 1, -1, 2, 3, 7, -7, 16, 255, 65536, 2**31 - 1, -(2**31), 2**31, 2**40, 2**63 - 1, -(2**63))
FLOATS = (0.0, 1.0, -1.0, 1e-30, 1e38, float("inf"), float("-inf"), float("nan"), 0.3, 1e9)
OPERATORS = tuple(sorted({schema.name for schema in onnx.defs.get_all_schemas() if not schema.domain}))


def mutate_bytes(data: bytes, seed: int) -> bytes:
    """One to four random edits of a file."""
    rng = random.Random(seed)
    raw = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(raw)) if raw else 0
        length = rng.choice((1, 1, 2, 8, 64, 512))
        match rng.randrange(6):
            case 0 if raw:
                raw[at] ^= 1 << rng.randrange(8)
            case 1 if raw:
                raw[at] = rng.randrange(256)
            case 2:
                del raw[at:]
            case 3:
                del raw[at : at + length]
            case 4:
                raw[at:at] = rng.randbytes(length)
            case _:
                raw[at:at] = raw[at : at + length]
    return bytes(raw)


def _messages(message: Any) -> Iterator[Any]:
    yield message
    for field, value in message.ListFields():
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            for item in value if field.is_repeated else [value]:
                yield from _messages(item)


def _scalar(field: Any, old: Any, names: list[str], rng: random.Random) -> Any:
    if field.type == FieldDescriptor.TYPE_STRING:
        return rng.choice([*names, *OPERATORS, "", "x" * 5000, "ü\0/../..", str(rng.choice(INTEGERS))])
    if field.type == FieldDescriptor.TYPE_BYTES:
        return rng.choice([b"", old[: len(old) // 2], old + b"\0", b"SAME_UPPER", b"\xff\xfe", b"reflect", b"linear"])
    if field.type in (FieldDescriptor.TYPE_FLOAT, FieldDescriptor.TYPE_DOUBLE):
        return rng.choice(FLOATS)
    if field.type == FieldDescriptor.TYPE_ENUM:
        return rng.choice([value.number for value in field.enum_type.values])
    number = rng.choice((*INTEGERS, old + 1, old - 1, old * 2))
    if field.type == FieldDescriptor.TYPE_INT32:
        return max(-(2**31), min(number, 2**31 - 1))
    if field.type in (FieldDescriptor.TYPE_UINT64, FieldDescriptor.TYPE_FIXED64):
        return abs(number) % 2**64
    return max(-(2**63), min(number, 2**63 - 1))


def _edit(message: Any, field: Any, names: list[str], rng: random.Random) -> None:
    value = getattr(message, field.name)
    if field.is_repeated:
        kind = rng.randrange(5)
        index = rng.randrange(len(value))
        if kind == 0:
            del value[index]
        elif kind == 1:
            if field.type == FieldDescriptor.TYPE_MESSAGE:
                value.add().CopyFrom(value[index])
            else:
                value.append(value[index])
        elif kind == 2:
            items = [type(item)() if field.type == FieldDescriptor.TYPE_MESSAGE else item for item in value]
            if field.type == FieldDescriptor.TYPE_MESSAGE:
                for new, item in zip(items, value, strict=True):
                    new.CopyFrom(item)
            rng.shuffle(items)
            del value[:]
            value.extend(items)
        elif field.type != FieldDescriptor.TYPE_MESSAGE:
            value[index] = _scalar(field, value[index], names, rng)
    elif rng.randrange(6) == 0:
        message.ClearField(field.name)
    elif field.type != FieldDescriptor.TYPE_MESSAGE:
        setattr(message, field.name, _scalar(field, value, names, rng))


def mutate_fields(model: onnx.ModelProto, seed: int) -> onnx.ModelProto:
    """One to three random edits of fields, anywhere in a model."""
    rng = random.Random(seed)
    damaged = onnx.ModelProto()
    damaged.CopyFrom(model)
    names = [name for node in model.graph.node for name in (*node.input, *node.output)]
    for _ in range(rng.randint(1, 3)):
        messages = list(_messages(damaged))
        message = rng.choice(messages)
        fields = [field for field, _ in message.ListFields()]
        if fields:
            _edit(message, rng.choice(fields), names, rng)
    return damaged


def mutate_values(model: onnx.ModelProto, seed: int) -> onnx.ModelProto:
    """One or two edits that keep the graph connected: attributes, operators, opset, values of integer constants."""
    rng = random.Random(seed)
    damaged = onnx.ModelProto()
    damaged.CopyFrom(model)
    tensors = [t for t in damaged.graph.initializer if t.data_type == onnx.TensorProto.INT64 and t.raw_data]
    for _ in range(rng.randint(1, 2)):
        kind = rng.randrange(8)
        node = rng.choice(damaged.graph.node)
        if kind <= 2 and tensors:
            tensor = rng.choice(tensors)
            raw = bytearray(tensor.raw_data)
            at = 8 * rng.randrange(len(raw) // 8)
            raw[at : at + 8] = rng.choice(INTEGERS).to_bytes(8, "little", signed=True)
            tensor.raw_data = bytes(raw)
        elif kind == 3:
            node.op_type = rng.choice(OPERATORS)
        elif kind == 4:
            damaged.opset_import[0].version = rng.choice((5, 6, 7, 8, 9, 10, 11, 12, 13, 15, 18, 19, 20, 21, 24, 99))
        elif kind == 5 and damaged.graph.initializer:
            tensor = rng.choice(damaged.graph.initializer)
            old = list(tensor.dims)
            tensor.dims[:] = rng.choice((old[::-1], [*old, 1], [1, *old], old[1:], [0, *old[1:]]))
        elif node.attribute:
            attribute = rng.choice(node.attribute)
            fields = [field for field, _ in attribute.ListFields() if field.name not in ("name", "type")]
            if fields:
                _edit(attribute, rng.choice(fields), [], rng)
    return damaged
