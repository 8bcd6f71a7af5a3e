"""`dataclass`: that of the standard library, whose methods are written when they are first needed.

The standard one writes source text for every method of every class while the class is defined, and has it compiled:
about a millisecond for each, and a fifth of a second for those that a compilation imports and mostly leaves alone. Here
a method is written when somebody asks for it. All else is the standard one's: fields, ``replace``, ``slots``. A class
that derives from one of these has to be one of them, and as frozen as it; ``InitVar`` is not known.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass  # noqa: PLC0414, TID251 - type checkers know that one
else:
    import dataclasses
    import sys
    from dataclasses import MISSING, Field, FrozenInstanceError, InitVar, fields
    from reprlib import recursive_repr

    def dataclass(
        cls: type | None = None,
        /,
        *,
        eq: bool = True,
        frozen: bool = False,
        kw_only: bool = False,
        slots: bool = False,
        weakref_slot: bool = False,
    ) -> Any:
        """As `dataclasses.dataclass`, of which it takes these arguments.

        Raises:
            TypeError: a class that forbids to assign and says itself how that is done, that derives from one which does
                not forbid it or the other way round, or that has an ``InitVar``.
        """

        def decorate(cls: type) -> type:
            own = dict(vars(cls))
            if own.get("__hash__") is None:  # Python says so of every class with an equality of its own
                own.pop("__hash__", None)
            _check(cls, own, frozen)
            wanted = ["__init__", "__repr__", *(["__eq__"] if eq else []), *(["__hash__"] if eq and frozen else [])]
            plain = dataclasses.dataclass(  # noqa: TID251
                init=False, repr=False, eq=False, kw_only=kw_only, slots=slots, weakref_slot=weakref_slot
            )
            made = plain(cls)
            made.__doc__ = own[
                "__doc__"
            ]  # the standard one describes a class without words by the arguments of `object`
            if eq and not frozen and "__hash__" not in own:
                made.__hash__ = None
            if frozen:
                made.__setattr__, made.__delattr__ = _refuse_to_assign, _refuse_to_delete
                if slots and "__getstate__" not in own:
                    made.__getstate__, made.__setstate__ = _get_state, _set_state
            for name in wanted:
                if name not in own:
                    setattr(made, name, _Later(made, name, frozen=frozen))
            return made

        return decorate if cls is None else decorate(cls)

    def _check(cls: type, own: dict[str, Any], frozen: bool) -> None:
        """Refuse what the standard one refuses where it knows a class to be frozen, and what would be left out here."""
        if frozen and ("__setattr__" in own or "__delattr__" in own):
            raise TypeError(f"{cls.__qualname__} is frozen, and says itself how to assign")
        for base in cls.__mro__[1:]:
            if "__dataclass_fields__" in vars(base) and frozen != (base.__setattr__ is _refuse_to_assign):
                raise TypeError(f"{cls.__qualname__} and {base.__qualname__}: one of them is frozen")
        for name, kind in own.get("__annotations__", {}).items():
            if isinstance(kind, InitVar) or kind is InitVar or str(kind).startswith(("InitVar", "dataclasses.InitVar")):
                raise TypeError(f"{cls.__qualname__}.{name} is an InitVar, which no method here takes")

    class _Later:
        """Stands in the place of a method until somebody asks for it.

        Args:
            owner: the class.
            name: of the method.
            frozen: whether the class forbids to assign.
        """

        def __init__(self, owner: type, name: str, *, frozen: bool) -> None:
            self._owner, self._name, self._frozen = owner, name, frozen

        def __get__(self, instance: object, kind: type | None = None) -> Any:
            method = vars(self._owner)[self._name]
            if method is self:
                method = _WRITERS[self._name](self._owner, self._frozen)
                method.__qualname__ = f"{self._owner.__qualname__}.{self._name}"
                setattr(self._owner, self._name, method)
            return method.__get__(instance, kind)

    def _write_init(owner: type, frozen: bool) -> Any:
        """Sets all fields, and calls ``__post_init__`` where there is one."""
        known: dict[str, Any] = {"_put": object.__setattr__}
        given, named, lines = [], [], []
        for item in fields(owner):
            value = item.name
            if item.default_factory is not MISSING:
                known[f"_make_{item.name}"] = item.default_factory
                value = f"_make_{item.name}()"
                if item.init:
                    known["_made"] = _MADE
                    value += f" if {item.name} is _made else {item.name}"
            elif item.default is not MISSING:
                known[f"_default_{item.name}"] = item.default
            if item.init:
                (named if item.kw_only else given).append(_describe_argument(item))
            elif item.default_factory is MISSING:
                if item.default is MISSING:
                    continue
                value = f"_default_{item.name}"
            lines.append(f"_put(self, {item.name!r}, {value})" if frozen else f"self.{item.name} = {value}")
        if hasattr(owner, "__post_init__"):
            lines.append("self.__post_init__()")
        arguments = ", ".join(["self", *given, *(["*", *named] if named else [])])
        method = _write(owner, "__init__", arguments, lines or ["pass"], known)
        types = {item.name: item.type for item in fields(owner) if item.init}
        method.__annotations__ = {**types, "return": None}
        return method

    def _describe_argument(item: Field[Any]) -> str:
        if item.default_factory is not MISSING:
            return f"{item.name}=_made"
        return item.name if item.default is MISSING else f"{item.name}=_default_{item.name}"

    def _write_repr(owner: type, _frozen: bool) -> Any:
        """``Name(field=value, ...)``."""
        parts = ", ".join(f"{item.name}={{self.{item.name}!r}}" for item in fields(owner) if item.repr)
        return recursive_repr()(
            _write(owner, "__repr__", "self", [f'return f"{{self.__class__.__qualname__}}({parts})"'])
        )

    def _write_eq(owner: type, _frozen: bool) -> Any:
        """Whether the other is of the same class and has equal fields."""
        lines = [
            "if other.__class__ is not self.__class__:",
            " return NotImplemented",
            f"return {_list_compared(owner, 'self')} == {_list_compared(owner, 'other')}",
        ]
        return _write(owner, "__eq__", "self, other", lines)

    def _write_hash(owner: type, _frozen: bool) -> Any:
        """That of all fields that are compared."""
        return _write(owner, "__hash__", "self", [f"return hash({_list_compared(owner, 'self')})"])

    def _list_compared(owner: type, word: str) -> str:
        return "(" + "".join(f"{word}.{item.name}, " for item in fields(owner) if item.compare) + ")"

    def _write(owner: type, name: str, arguments: str, lines: list[str], known: dict[str, Any] | None = None) -> Any:
        """A function of a class from its text, and what some names in it are; it belongs to the module of the class."""
        known, body = known or {}, "\n  ".join(lines)
        text = f"def _make({', '.join(known)}):\n def {name}({arguments}):\n  {body}\n return {name}"
        found: dict[str, Any] = {}
        exec(text, vars(sys.modules[owner.__module__]), found)  # noqa: S102 - of names of fields alone
        return found["_make"](**known)

    def _refuse_to_assign(_self: object, name: str, _value: object) -> None:
        raise FrozenInstanceError(f"cannot assign to field {name!r}")

    def _refuse_to_delete(_self: object, name: str) -> None:
        raise FrozenInstanceError(f"cannot delete field {name!r}")

    def _get_state(self: object) -> list[Any]:
        return [getattr(self, item.name) for item in fields(self)]

    def _set_state(self: object, state: list[Any]) -> None:
        for item, value in zip(fields(self), state, strict=True):
            object.__setattr__(self, item.name, value)

    class _Made:
        """Stands in signatures for what a function makes."""

        def __repr__(self) -> str:
            return "<factory>"

    _MADE: Final = _Made()
    _WRITERS: Final = {"__init__": _write_init, "__repr__": _write_repr, "__eq__": _write_eq, "__hash__": _write_hash}
