"""Records: what the data classes of the standard library do, written later."""

import copy
import dataclasses
import inspect
import pickle
from concurrent.futures import ThreadPoolExecutor
from dataclasses import FrozenInstanceError, InitVar, field, fields, replace
from functools import cached_property
from threading import Barrier
from typing import get_type_hints

import pytest

from omniconv.records import dataclass


def define(decorate):
    """A class with every kind of field, and one that derives from it."""

    @decorate(frozen=True, slots=True)
    class Base:
        first: int
        hidden: str = field(default="h", repr=False, compare=False)
        many: list[int] = field(default_factory=list)

    @decorate(frozen=True, slots=True, kw_only=True)
    class Derived(Base):
        last: float
        double: float = field(init=False, default=0.0)

        def __post_init__(self):
            object.__setattr__(self, "double", 2 * self.last)

    return Base, Derived


OURS, THEIRS = define(dataclass), define(dataclasses.dataclass)


@pytest.mark.parametrize(("ours", "theirs"), [*zip(OURS, THEIRS, strict=True)])
def test_signatures_fields_and_slots_are_those_of_the_standard_library(ours, theirs):
    assert str(inspect.signature(ours)) == str(inspect.signature(theirs))
    assert [str(item) for item in fields(ours)] == [str(item) for item in fields(theirs)]
    assert ours.__slots__ == theirs.__slots__
    assert ours.__match_args__ == theirs.__match_args__
    assert get_type_hints(ours.__init__) == get_type_hints(theirs.__init__)
    assert ours.__init__.__qualname__.endswith(f"{ours.__name__}.__init__")


def test_values():
    for base, derived in (OURS, THEIRS):
        one, other = base(1), derived(1, "x", last=2.0)
        assert (one.hidden, one.many, other.double, other.hidden) == ("h", [], 4.0, "x")
        assert one.many is not base(1).many
        assert one == base(1, "another") != base(2)
        assert one != other
        assert repr(other).endswith("Derived(first=1, many=[], last=2.0, double=4.0)")
        assert replace(other, last=3.0).double == 6.0
        with pytest.raises(FrozenInstanceError, match="cannot assign to field 'first'"):
            one.first = 2
        with pytest.raises(FrozenInstanceError, match="cannot delete field 'first'"):
            del one.first
        for wrong in (lambda base=base: base(), lambda base=base: base(1, nothing=2)):
            with pytest.raises(TypeError):
                wrong()
        with pytest.raises(TypeError, match="positional"):
            derived(1, "x", [], 2.0)


def test_hashes_follow_what_is_compared():
    @dataclass(frozen=True)
    class Point:
        x: int
        name: str = field(default="", compare=False)

        @cached_property
        def twice(self):
            return 2 * self.x

    @dataclass(slots=True)
    class Open:
        x: int

    @dataclass(frozen=True, eq=False)
    class Thing:
        x: int

    assert hash(Point(1, "a")) == hash(Point(1, "b")) == hash((1,))
    assert Point(3).twice == 6
    with pytest.raises(TypeError, match="unhashable"):
        hash(Open(1))
    opened = Open(1)
    opened.x = 5
    assert opened == Open(5)
    assert Thing(1) != Thing(1)
    assert len({Thing(1), Thing(1)}) == 2


def test_what_a_class_defines_itself_stays():
    @dataclass(frozen=True, slots=True)
    class Own:  # noqa: PLW1641 - a record gets one
        x: int

        def __repr__(self):
            return "own"

        def __eq__(self, other):
            return True

    assert repr(Own(1)) == "own"
    assert Own(1) == Own(2)
    assert hash(Own(1)) != hash(Own(2))


@dataclass(frozen=True, slots=True)
class Kept:
    """At the top of a module, where pickles find it."""

    x: int
    inner: tuple[int, ...] = ()


def test_pickles_and_cycles():
    assert pickle.loads(pickle.dumps(Kept(1, (2, 3)))) == Kept(1, (2, 3))
    cyclic = Kept([])
    cyclic.x.append(cyclic)
    assert repr(cyclic) == "Kept(x=[...], inner=())"


def test_methods_are_written_when_they_are_needed():
    @dataclass(frozen=True)
    class Late:
        x: int

    assert not inspect.isfunction(vars(Late)["__init__"])
    Late(1)
    assert inspect.isfunction(vars(Late)["__init__"])
    assert not inspect.isfunction(vars(Late)["__eq__"])


@pytest.mark.parametrize("how", [copy.copy, copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
def test_copies(how):
    one = Kept(1, ([2],))
    found = how(one)
    assert found == one
    assert found is not one
    assert (found.inner[0] is one.inner[0]) == (how is copy.copy)


@pytest.mark.parametrize("decorate", [dataclass, dataclasses.dataclass])
def test_what_is_refused(decorate):
    @decorate(frozen=True)
    class Frozen:
        x: int

    @decorate
    class Open:
        x: int

    for base, frozen in ((Frozen, False), (Open, True)):
        with pytest.raises(TypeError, match="frozen"):
            decorate(frozen=frozen)(type("Derived", (base,), {}))
    with pytest.raises(TypeError):
        decorate(frozen=True)(type("Own", (), {"__setattr__": lambda *_: None}))


def test_arguments_that_are_no_fields_are_refused():
    for kind in (InitVar[int], "InitVar[int]", "dataclasses.InitVar[int]"):
        with pytest.raises(TypeError, match=r"Given\.x is an InitVar"):
            dataclass(type("Given", (), {"__annotations__": {"x": kind}}))


def test_words_of_a_class_are_its_own():
    @dataclass
    class Silent:
        x: int

    assert Silent.__doc__ is None
    assert Kept.__doc__ == "At the top of a module, where pickles find it."


def test_threads_that_ask_for_a_method_at_once():
    @dataclass(frozen=True)
    class Asked:
        x: int
        many: list[int] = field(default_factory=list)

    ready = Barrier(8)

    def ask(number):
        ready.wait()
        one = Asked(number)
        return one == Asked(number), repr(one).endswith(f"Asked(x={number}, many=[])"), one.many

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(ask, range(8)))
    assert all(same and words for same, words, _ in found)
    assert len({id(many) for *_, many in found}) == 8
