"""Files that are cut short, edited, or lie about themselves: refused by a typed error, or not believed."""

from __future__ import annotations

import copy
import json
import os
import struct
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from random import Random
from typing import Any

import numpy as np
import pytest
from tests.graph.small_models import input_shapes
from tests.hostile.seeds import REFUSED, SEEDS
from tests.program.steps_drawn import DRAWS, program_of
from tests.program_oracle import run_program
from tests.saved.nets import MAKERS, check_same, edit_json, feed, layer, rewrite

import omniconv as oc
from omniconv.errors import OmniconvError
from omniconv.graph import prepare, to_program
from omniconv.graph.write import write_graph
from omniconv.program.describe import describe_program
from omniconv.program.element import FLOAT32
from omniconv.program.levels import Levels
from omniconv.program.passes import run_passes
from omniconv.program.program import Program
from omniconv.program.steps import QuantisedMapStep
from omniconv.runtime import container
from omniconv.runtime import saved as saved_module
from omniconv.runtime.executable import Executable
from omniconv.runtime.json_values import ValueReader, ValueWriter, from_json, to_json
from omniconv.runtime.saved import from_bytes, to_bytes
from omniconv.runtime.saved_content import Asked, SavedProgram

pytestmark = pytest.mark.filterwarnings("ignore::omniconv.HostWarning", "ignore::omniconv.RebuildWarning")
EDITS = int(os.environ.get("OMNICONV_SAVED", "200"))
"""Random edits of each sort; OMNICONV_SAVED=10000 is the full run, which compiles what it can."""
FULL = EDITS > 200


@cache
def saved(name: str) -> bytes:
    return to_bytes(MAKERS[name](threads=1))


def outline(data: bytes) -> list[int]:
    """The ends of the parts of a file."""
    count = struct.unpack_from("<I", data, 12)[0]
    places = [0, 8, 12, 16, 24, 56, 88, 128]
    for number in range(count):
        offset, size = struct.unpack_from("<QQ", data, 128 + 48 * number)
        places += [128 + 48 * (number + 1), offset, offset + size]
    return sorted({*places, len(data)})


@pytest.mark.parametrize("name", ["layer", "open network"])
def test_cut_short_at_every_boundary(name: str) -> None:
    data = saved(name)
    for end in outline(data):
        for length in {max(end - 1, 0), end, end + 1}:
            if length < len(data):
                with pytest.raises(oc.ModelError, match="need a whole file"):
                    from_bytes(data[:length])
    for longer in (data + b"\0", data + data):
        with pytest.raises(oc.ModelError, match="need a whole file"):
            from_bytes(longer)


def test_every_byte_of_the_header_and_the_table_counts() -> None:
    """A flip is refused, or, in the seal, keeps the machine code from being believed."""
    data = saved("layer")
    end = 128 + 48 * struct.unpack_from("<I", data, 12)[0]
    for at in range(end):
        changed = bytearray(data)
        changed[at] ^= 1 << at % 8
        if 56 <= at < 88:
            with pytest.warns(oc.RebuildWarning, match="not made here by this user"):
                check_same(from_bytes(bytes(changed)), layer()) if at == 56 else from_bytes(bytes(changed))
        else:
            with pytest.raises(oc.ModelError):
                from_bytes(bytes(changed))


@pytest.mark.parametrize("name", ["network", "open network"])
def test_random_flips_are_refused(name: str) -> None:
    data, r = saved(name), Random(7)
    for _ in range(EDITS // 2):
        changed = bytearray(data)
        for _ in range(r.choice((1, 1, 2, 8))):
            at = r.randrange(len(data))
            changed[at] = (changed[at] + r.randrange(1, 256)) % 256
        if 56 <= next(at for at in range(len(data)) if changed[at] != data[at]) < 88:
            continue
        with pytest.raises(oc.ModelError):
            from_bytes(bytes(changed))


def test_another_version_says_so() -> None:
    data = bytearray(saved("layer"))
    data[8:12] = struct.pack("<I", 2)
    with pytest.raises(oc.ModelError, match=r"the file has version 2 of the format; need version 1, e\.g\. saving"):
        from_bytes(bytes(data))
    with pytest.raises(oc.ModelError, match="does not begin as a saved network does"):
        from_bytes(b"\x08\x07" + bytes(data))
    for empty in (b"", b"\x89oconv\r\n"):
        with pytest.raises(oc.ModelError, match="does not begin"):
            from_bytes(empty)


@pytest.mark.parametrize("name", ["layer", "network", "open network"])
def test_a_file_from_before_a_field_came(name: str) -> None:
    """What the field is by default is what was meant."""
    old = edit_json(saved(name), lambda found: (asked(found).pop("float32_layers"), None)[1])
    with pytest.warns(oc.RebuildWarning):
        check_same(from_bytes(old), MAKERS[name](threads=1))


def each_loss(data: bytes) -> Iterator[bytes]:
    """The description of a file without one of its fields, for each."""
    tree = json.loads(bytes(container.read_container(data, "").sections[0]))
    places: list[tuple[Any, Any]] = []
    each_value(tree, places)
    for where, key in places:
        if isinstance(where, dict):
            whole = dict(where)
            del where[key]
            yield to_json(tree)
            where.clear()
            where.update(whole)


@pytest.mark.parametrize("name", ["layer", "open network", "integers"])
def test_no_field_is_lost_unseen(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A field that a file from before may lack, an activation or ``exact``, does not go missing: the digest covers
    all. A file whose digests were made anew says what it says, and neither plan nor machine code is taken from it.
    """
    data, losses = saved(name), 0
    (offset, size) = struct.unpack_from("<QQ", data, 128)
    trusted: list[Any] = []
    for door in ("_open_program", "_open_graph"):
        monkeypatch.setattr(saved_module, door, lambda *given: trusted.append(given[3]))
    from_bytes(data)
    assert trusted.pop() is not None
    for text in each_loss(data):
        losses += 1
        with pytest.raises(oc.ModelError, match="section 0 is damaged"):
            from_bytes(data[:offset] + text.ljust(size) + data[offset + size :])
        if losses % 3 == 0:
            with warnings.catch_warnings(), suppress(OmniconvError):
                warnings.simplefilter("ignore", oc.RebuildWarning)
                from_bytes(rewrite(data, lambda sections, text=text: sections.__setitem__(0, text)))
    assert losses > 15
    assert set(trusted) == {None}


def test_steps_of_another_version_say_so() -> None:
    """A step that had another field is named, with what is read now and what helps."""

    def rename(found: Any) -> None:
        step = of_kind(found, "QuantisedMeanStep")
        step["factor"] = step.pop("ratio")

    words = (
        "the file has a QuantisedMeanStep without ratio and with 'factor', which Omniconv .* does not read; "
        r"need the fields x, y, ratio, levels, e\.g\. compiling the model anew, and saving that"
    )
    with pytest.raises(oc.ModelError, match=words):
        from_bytes(edit_json(saved("integers"), rename))


def lie(data: bytes, number: int, offset: int | None, size: int | None) -> bytes:
    """A file one of whose sections says that it is elsewhere, with the right digest of the table."""
    import hashlib

    changed = bytearray(data)
    old = struct.unpack_from("<QQ", data, 128 + 48 * number)
    row = (old[0] if offset is None else offset % 2**64, old[1] if size is None else size % 2**64)
    struct.pack_into("<QQ", changed, 128 + 48 * number, *row)
    count = struct.unpack_from("<I", data, 12)[0]
    changed[24:56] = hashlib.sha256(changed[128 : 128 + 48 * count]).digest()
    return bytes(changed)


@pytest.mark.parametrize("number", [0, 1, 2, -1])
def test_sections_that_lie_about_where_they_are(number: int) -> None:
    data = saved("layer")
    number %= struct.unpack_from("<I", data, 12)[0]
    offset, size = struct.unpack_from("<QQ", data, 128 + 48 * number)
    for change in (0, 1, -1, 64, 2**63, -64):
        with pytest.raises(oc.ModelError):
            from_bytes(lie(data, number, offset + change, size + 1 if change == 0 else None))
    for wrong in (0, size - 1, size + 1, size + 64, 2**63, 2**64 - 1, -1):
        if wrong != size:
            with pytest.raises(oc.ModelError):
                from_bytes(lie(data, number, None, wrong))


@pytest.mark.parametrize("count", [0, 1, 2, 2**16, 2**32 - 1])
def test_counts_that_lie(count: int) -> None:
    data = bytearray(saved("layer"))
    struct.pack_into("<I", data, 12, count)
    with pytest.raises(oc.ModelError):
        from_bytes(bytes(data))


def test_a_file_of_few_sections_is_none() -> None:
    for keep in (0, 1):
        with pytest.raises(oc.ModelError, match=f"the file has {keep} sections"):
            from_bytes(rewrite(saved("layer"), lambda sections, keep=keep: sections.__delitem__(slice(keep, None))))


def test_many_sections_are_counted_before_they_are_known() -> None:
    """Half a million empty sections in 56 MB would take five times that to know of."""
    import hashlib

    count = 20000
    first = -(-(128 + 48 * count + 64) // 64) * 64
    row = hashlib.sha256(b"").digest()
    table = b"".join(struct.pack("<QQ32s", first + 64 * number, 0, row) for number in range(count))
    size = first + 64 * count
    head = struct.pack("<8sIIQ32s32s40s", b"\x89oconv\r\n", 1, count, size, hashlib.sha256(table).digest(), b"", b"")
    data = (head + table).ljust(size, b"\0")
    with pytest.raises(oc.LimitError, match="a file of 20000 sections needs"):
        container.read_container(data, "", size + 1000)
    assert len(container.read_container(data, "", 16 * size).sections) == count


# -- descriptions that are edited, with digests made right


def deep(sections: list[Any]) -> None:
    sections[0] = b"[" * 10**6


def twice(sections: list[Any]) -> None:
    sections[0] = sections[0].replace(b'"threads":1', b'"threads":1,"threads":1')


JSON: dict[str, Callable[[list[Any]], Any]] = {
    "nesting": deep,
    "twice": twice,
    "none": lambda s: s.__setitem__(0, b""),
    "half": lambda s: s.__setitem__(0, s[0][:-5]),
    "not ASCII": lambda s: s.__setitem__(0, s[0].replace(b"layer", "l\u00e4yer".encode()) + b"\xff"),
    "NaN": lambda s: s.__setitem__(0, s[0].replace(b'"threads":1', b'"threads":NaN')),
    "Infinity": lambda s: s.__setitem__(0, s[0].replace(b'"threads":1', b'"threads":Infinity')),
    "digits": lambda s: s.__setitem__(0, s[0].replace(b'"threads":1', b'"threads":' + b"9" * 5000)),
    "a list": lambda s: s.__setitem__(0, b"[]"),
    "null": lambda s: s.__setitem__(0, b"null"),
    "surrogates": lambda s: s.__setitem__(0, s[0].replace(b'"NCHW"', b'"\\ud800"')),
}


@pytest.mark.parametrize("case", JSON)
def test_descriptions_that_are_none(case: str) -> None:
    with pytest.raises((oc.ModelError, oc.SpecError)):
        from_bytes(rewrite(saved("layer"), JSON[case]))


def asked(description: Any) -> Any:
    content = description["Description"]["content"]
    return next(iter(content.values()))["asked"]["Asked"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("threads", 0), ("threads", -1), ("threads", 2**31), ("threads", 1.0), ("threads", True), ("threads", "1"),
        ("layout", "NCWH"), ("layout", 3), ("element", "float16"), ("element", "f4"), ("target", "z80"), ("target", ""),
        ("accuracy", "none"), ("exact", 1), ("row_major", "x"), ("row_major", [1]), ("tuned", [["a"]]), ("at", 1),
        ("tuned", [["a", "b"], ["a", "c"]]),
    ],
)  # fmt: skip
def test_options_that_are_none(field: str, value: Any) -> None:
    with pytest.raises((oc.ModelError, oc.SpecError, oc.UnsupportedError)):
        from_bytes(edit_json(saved("layer"), lambda found: asked(found).__setitem__(field, value)))


def of_layer(description: Any) -> Any:
    return description["Description"]["content"]["SavedLayer"]


@pytest.mark.parametrize(
    "change",
    [
        lambda found: of_layer(found).__setitem__("shape", [1, 8, 2**31, 2**31]),
        lambda found: of_layer(found).__setitem__("shape", [1, 8, -9, 7]),
        lambda found: of_layer(found).__setitem__("shape", [1, 8, 0, 7]),
        lambda found: of_layer(found).__setitem__("shape", [1, 7, 9, 7]),
        lambda found: of_layer(found).__setitem__("spec", {"spec": "grouped ic8"}),
        lambda found: of_layer(found).__setitem__("spec", {"spec": "pointwise ic8 oc12 kh1 kw1"}),
        lambda found: of_layer(found).__setitem__("spec", {"SavedLayer": {}}),
        lambda found: of_layer(found).__setitem__("weights", []),
        lambda found: of_layer(found)["weights"][0].__setitem__(0, {"array": [0, "<f4", [12, 4, 3, 3]]}),
        lambda found: of_layer(found)["weights"][0].__setitem__(0, {"array": [99, "<f4", [12, 4, 3, 3]]}),
        lambda found: of_layer(found)["weights"][0].__setitem__(0, {"array": [-1, "<f4", [12, 4, 3, 3]]}),
        lambda found: of_layer(found)["weights"][0].__setitem__(0, {"array": [2, "<f4", [2**40, 2**40]]}),
        lambda found: of_layer(found)["weights"][0].__setitem__(0, {"array": [2, "<f4", [-12, 4, 3, -3]]}),
        lambda found: of_layer(found)["weights"][0].__setitem__(0, {"array": [2, "O", [12, 4, 3, 3]]}),
        lambda found: of_layer(found).__setitem__("more", 1),
        lambda found: of_layer(found).pop("shape"),
        lambda found: found["Description"].__setitem__("content", {"Executable": {}}),
        lambda found: found["Description"].__setitem__("content", None),
    ],
)
def test_layers_that_contradict_themselves(change: Callable[[Any], Any]) -> None:
    with pytest.raises(OmniconvError):
        from_bytes(edit_json(saved("layer"), lambda found: (change(found), None)[1]))


# -- programs


def through_json(program: Any) -> tuple[bytes, list[Any]]:
    """What a file says of a program, and its arrays."""
    sections: list[Any] = []
    content = SavedProgram.of(
        Asked("NCHW", frozenset(), 1, False, "float32", "usual", None, "native", "float32", ""),
        program,
        frozenset(),
        None,
    )
    return to_json(ValueWriter(sections).write(content)), sections


def read_program(text: bytes, sections: list[Any]) -> Any:
    reader = ValueReader([np.ascontiguousarray(each).reshape(-1).view(np.uint8) for each in sections], "test")
    content = reader.read(SavedProgram, from_json(np.frombuffer(text, np.uint8), "test", None))
    return content.program(2**30)


def draw_program(kind: type, seed: int) -> Program:
    """One step; around one of integers those that make them of floats and back: what is saved reads and makes these."""
    program = program_of(DRAWS[kind](Random(seed)))
    (step,) = program.steps
    names = {name: f"{name} quantised" for name in program.inputs if name in program.elements}
    shapes = {name: program.shapes[name] for name in program.inputs}
    found = Program(program.inputs, program.outputs, shapes)
    for name, made in names.items():
        levels = getattr(step, "x_levels", Levels(0.5, -9, 8))
        found.add(QuantisedMapStep(name, made, None, levels=levels), shapes[name], "quantised")
    found.add(step.renamed(names), program.shapes[step.y], "step")
    if step.y in found.elements:
        found.outputs = (found.add(QuantisedMapStep(step.y, "floats", 0.5), program.shapes[step.y], "floats"),)
    return found


@pytest.mark.parametrize("name", sorted(SEEDS.keys() - REFUSED))
def test_every_graph_and_its_program_come_back(name: str) -> None:
    model = SEEDS[name]()
    graph = prepare(model)
    again = prepare(write_graph(graph), constants=graph.constants)
    assert write_graph(again) == write_graph(graph)
    assert [node.outputs for node in again.nodes] == [node.outputs for node in graph.nodes]
    try:
        program = run_passes(to_program(model, shapes=input_shapes(model)))
    except oc.UnsupportedError:  # part of it runs on the host
        return
    assert describe_program(read_program(*through_json(program))) == describe_program(program)


@pytest.mark.parametrize("kind", DRAWS, ids=lambda kind: kind.__name__)
def test_every_step_comes_back(kind: type) -> None:
    for seed in range(6):
        program = draw_program(kind, seed)
        assert describe_program(read_program(*through_json(program))) == describe_program(program)


def of_kind(description: Any, kind: str) -> Any:
    """The first step of a kind."""
    steps = description["Description"]["content"]["SavedProgram"]["steps"]
    return next(step[kind] for step in steps if kind in step)


@pytest.mark.parametrize(
    ("kind", "change", "words"),
    [
        ("QuantisedConvStep", lambda step: step["x_levels"]["Levels"].update(low=-1, high=1), "integers -1 to 1 of"),
        ("QuantisedDenseStep", lambda step: step["x_levels"]["Levels"].update(low=0), "integers 0 to"),
        ("QuantisedConvStep", lambda step: step["levels"]["Levels"].update(high=256), "integers from"),
        ("QuantisedConvStep", lambda step: step["spec"].update(spec="pointwise ic4 oc6 kh1 kw1"), "weights of shape"),
        ("QuantisedMeanStep", lambda step: step.update(ratio={"float": "nan"}), "a ratio of nan"),
        ("QuantisedTableStep", lambda step: step["levels"]["Levels"].update(high=1), "a table of integers from"),
        (
            "QuantisedTableStep",
            lambda step: step["x_levels"]["Levels"].update(low=0, high=9),
            "integers 0 to 9 of",
        ),
    ],
)
def test_integers_that_are_not_those_of_the_values(kind: str, change: Callable[[Any], Any], words: str) -> None:
    with pytest.raises(OmniconvError, match=words):
        from_bytes(edit_json(saved("integers"), lambda found: (change(of_kind(found, kind)), None)[1]))


def test_outputs_of_integers_are_refused() -> None:
    program = draw_program(QuantisedMapStep, 1)
    program.add(
        QuantisedMapStep(program.outputs[0], "y quantised", None, levels=Levels(0.5, -9, 8)), program.shapes["y"]
    )
    program.outputs = ("y quantised",)
    with pytest.raises(oc.SpecError, match="output 'y quantised' of integers"):
        read_program(*through_json(program))


def each_value(tree: Any, places: list[tuple[Any, Any]]) -> None:
    """All places in a description: the list or dictionary, and where in it."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in items:
        places.append((tree, key))
        each_value(value, places)


OTHERS: list[Any] = [
    0,
    1,
    -1,
    2,
    3,
    7,
    100,
    2**31,
    -(2**40),
    2**63,
    10**30,
    0.5,
    -0.0,
    None,
    True,
    "",
    "x",
    "y",
    [],
    {},
]


def edit_value(tree: Any, r: Random) -> None:
    places: list[tuple[Any, Any]] = []
    each_value(tree, places)
    where, key = r.choice(places)
    value = where[key]
    match r.randrange(5):
        case 0 if type(value) is int:
            where[key] = value + r.choice((1, -1))
        case 1 if isinstance(where, list):
            where.insert(key, value)
        case 2:
            del where[key]
        case 3:
            other, at = r.choice(places)
            found = other.get(at) if isinstance(other, dict) else other[at] if at < len(other) else 0
            where[key] = copy.deepcopy(found)
        case _:
            where[key] = r.choice(OTHERS)


def test_programs_that_are_edited() -> None:
    """What is not refused is a program, which is computed as its formula says (in the full run)."""
    kept, r = 0, Random(11)
    for number in range(EDITS):
        kind = list(DRAWS)[number % len(DRAWS)]
        text, sections = through_json(draw_program(kind, number // len(DRAWS)))
        tree = json.loads(text)
        try:
            edit_value(tree["SavedProgram"], r)
            program = read_program(to_json(tree), sections)
        except (OmniconvError, *FAULTS):
            continue
        kept += 1
        if FULL:
            compare_with_oracle(program, number)
    assert 0 < kept < EDITS


FAULTS = (ArithmeticError, AssertionError, AttributeError, LookupError, TypeError, ValueError)
"""What `load` turns into a `ModelError`."""


def compare_with_oracle(program: Any, number: int) -> None:
    from omniconv.compiler.planning.options import Options
    from omniconv.target.select import select_target

    rng = np.random.default_rng(number)
    inputs = {name: rng.integers(-3, 4, program.shapes[name]).astype(np.float32) for name in program.inputs}
    try:
        net = Executable.of(program, select_target(None).of(FLOAT32), Options(memory_limit=2**28), "edited")
    except (OmniconvError, *FAULTS):
        return
    found = net.run(inputs)
    with np.errstate(all="ignore"):
        expected = run_program(program, inputs)
    for name in program.outputs:
        bound = 1e-3 * (1 + np.nan_to_num(np.abs(expected[name]), posinf=0)).max()
        close = np.isclose(found[name], expected[name].astype(np.float32), rtol=1e-3, atol=bound, equal_nan=True)
        assert close.all(), (number, program)


def test_a_network_that_is_edited_is_refused_or_runs() -> None:
    r, data = Random(3), saved("network")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(EDITS if FULL else 12):
            try:
                net = from_bytes(edit_json(data, lambda tree: edit_value(tree, r)))
            except OmniconvError:
                continue
            net.run(feed(net))


def test_models_that_are_edited() -> None:
    """The graph of an open network is ONNX's own bytes, read as those of a file are."""
    data, r = saved("open network"), Random(5)
    for _ in range(EDITS // 10):

        def flip(sections: list[Any]) -> None:
            at = next(number for number, each in enumerate(sections) if b"GlobalAveragePool" in each)
            changed = bytearray(sections[at])
            changed[r.randrange(len(changed))] ^= 1 << r.randrange(8)
            sections[at] = bytes(changed)

        try:
            net = from_bytes(rewrite(data, flip))
            signature = net.signature.items()
            shapes = {name: [size if isinstance(size, int) else 2 for size in dims or ()] for name, dims in signature}
            net.run({name: np.ones(shape, net.dtypes[name]) for name, shape in shapes.items()})
        except OmniconvError:
            continue


def test_weights_are_hashed() -> None:
    data = bytearray(saved("network"))
    offset, size = struct.unpack_from("<QQ", data, 128 + 48 * 2)
    data[offset + size // 2] ^= 1
    with pytest.raises(oc.ModelError, match="section 2 is damaged"):
        container.read_container(bytes(data), "")
