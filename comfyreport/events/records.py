"""Frozen, slotted, keyword-only dataclasses that are cheap to define and cheap to instantiate.

`dataclass(frozen=True)` compiles six functions for each class when it is defined, which for all events is a
fifth of what importing comfyreport costs, and its `__init__` sets each field by name. Here the functions are shared,
and `__init__` is compiled when a class is used first; it calls the setters of the slots.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, FrozenInstanceError, dataclass, field, fields
from typing import TYPE_CHECKING, Any, TypeVar, cast

from comfyreport.events.readonly import read_only

T = TypeVar("T", bound=type)
R = TypeVar("R")

HOLDS_ANY = "holds_any"
"""Key of the metadata of a field that may hold dicts and lists: they are made read-only."""

if TYPE_CHECKING:
    from typing_extensions import dataclass_transform
else:

    def dataclass_transform(**_: Any) -> Callable[[T], T]:
        return lambda function: function


class Record:
    """What all records share: they can't be changed, and are equal if their fields are."""

    __slots__ = ()

    if not TYPE_CHECKING:

        def __init__(self, **values: Any) -> None:
            cls = type(self)
            cls.__init__ = _compile_init(cls)
            cls.__init__(self, **values)

    def __setattr__(self, name: str, value: object) -> None:
        raise FrozenInstanceError(f"cannot assign to field {name!r}")

    def __delattr__(self, name: str) -> None:
        raise FrozenInstanceError(f"cannot delete field {name!r}")

    def __repr__(self) -> str:
        values = ", ".join(f"{each.name}={getattr(self, each.name)!r}" for each in fields(self))  # type: ignore[arg-type]
        return f"{type(self).__qualname__}({values})"

    def __eq__(self, other: object) -> bool:
        return _values(self) == _values(other) if type(other) is type(self) else NotImplemented

    def __hash__(self) -> int:
        return hash(_values(self))

    def __getstate__(self) -> tuple[Any, ...]:
        return _values(self)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        for each, value in zip(fields(self), state):  # type: ignore[arg-type]  # noqa: B905  both are of this class
            object.__setattr__(self, each.name, value)


def _values(record: Any) -> tuple[Any, ...]:
    return tuple(getattr(record, each.name) for each in fields(record))


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(field,))
def record(cls: T) -> T:
    """Make *cls*, which has `Record` among its bases, a dataclass: frozen, slotted, keyword-only."""
    dataclass_type: Any = dataclass(init=False, repr=False, eq=False, slots=True, kw_only=True)(cls)
    # Each class needs its own: what is compiled for a base must not be inherited.
    dataclass_type.__init__ = Record.__init__
    return cast(T, dataclass_type)


def positional(cls: Callable[..., R]) -> Callable[..., R]:
    """What makes instances of the record *cls* from all values of its fields in order, in half the time.

    Left out are the fields that `__init__` doesn't take. For records that are made by the thousands.
    """
    scope, parameters, lines = _assignments(cls)  # type: ignore[arg-type]
    scope.update(cls=cls, new=object.__new__)
    names = ", ".join(parameter.partition("=")[0] for parameter in parameters)
    exec(f"def make({names}):\n self = new(cls)\n " + "\n ".join(lines) + "\n return self", scope)
    make: Callable[..., R] = scope["make"]
    return make


def _compile_init(cls: type[Any]) -> Callable[..., None]:
    scope, parameters, lines = _assignments(cls)
    exec(f"def __init__(self, *, {', '.join(parameters)}):\n " + "\n ".join(lines), scope)
    init: Callable[..., None] = scope["__init__"]
    init.__qualname__ = f"{cls.__qualname__}.__init__"
    return init


def _assignments(cls: type[Any]) -> tuple[dict[str, Any], list[str], list[str]]:
    """The names that the lines need, the parameters with their defaults, and a line of code for each field."""
    scope: dict[str, Any] = {}
    parameters, lines = [], []
    for each in fields(cls):
        name = each.name
        scope[f"set_{name}"] = getattr(cls, name).__set__
        value = name
        if each.default_factory is not MISSING:
            scope[f"make_{name}"], scope["MISSING"] = each.default_factory, MISSING
            parameters.append(f"{name}=MISSING")
            value = f"make_{name}() if {name} is MISSING else {name}"
        elif each.default is MISSING:
            parameters.append(name)
        else:
            scope[f"default_{name}"] = each.default
            if each.init:
                parameters.append(f"{name}=default_{name}")
            else:
                value = f"default_{name}"
        if HOLDS_ANY in each.metadata:
            scope["read_only"] = read_only
            value = f"read_only({value})"
        lines.append(f"set_{name}(self, {value})")
    return scope, parameters, lines
