"""Dicts and lists that can't be changed, so that no reporter changes what the next one is told. Pure.

They are equal to ordinary ones, and JSON, pickle and copies take them as such; `copy()` gives an ordinary one.
"""

from __future__ import annotations

from typing import Any, NoReturn

_MAX_DEPTH = 64
"""Lists and objects in one another; what a server sends is never nested deeper here."""


def _refuse(self: object, *args: object, **kwargs: object) -> NoReturn:
    raise TypeError("what an event or a view holds is read-only; change a copy of it")


class ReadOnlyDict(dict[Any, Any]):
    """A dict that can't be changed."""

    __slots__ = ()

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (dict(self),)

    __setitem__ = __delitem__ = __ior__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse


class ReadOnlyList(list[Any]):
    """A list that can't be changed."""

    __slots__ = ()

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (list(self),)

    __setitem__ = __delitem__ = __iadd__ = __imul__ = _refuse
    append = clear = extend = insert = pop = remove = reverse = sort = _refuse


def read_only(value: Any, depth: int = 0) -> Any:
    """*value*, with dicts and lists that can't be changed in place of its own, all the way down."""
    if type(value) in (ReadOnlyDict, ReadOnlyList) or depth > _MAX_DEPTH:
        return value
    if isinstance(value, dict):
        return ReadOnlyDict({key: read_only(each, depth + 1) for key, each in value.items()})
    if isinstance(value, list):
        return ReadOnlyList([read_only(each, depth + 1) for each in value])
    if type(value) is tuple:
        return tuple([read_only(each, depth + 1) for each in value])
    return value
