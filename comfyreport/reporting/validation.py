"""Checks a reporter's hooks when it is registered, and refuses whatever would never be called.

pluggy registers the attributes that bear its mark and ignores all others. So a hook that is misspelt, unmarked, or a
coroutine would silently do nothing; here each of them is a ReporterError that says what to write.
"""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import pluggy

from comfyreport.errors import ReporterError
from comfyreport.reporting import hookspecs
from comfyreport.reporting.hookspecs import PREFIX, PROJECT

HOOKS = frozenset(name for name in vars(hookspecs) if name.startswith(PREFIX))
_MARK = f"{PROJECT}_impl"


class Hook(NamedTuple):
    """One hook implementation: the function, the names of its arguments, and its place among those of others.

    `rank` is -1 for `tryfirst`, 1 for `trylast`; among hooks of one rank the order of the reporters holds.
    """

    function: Callable[..., object]
    arguments: tuple[str, ...]
    rank: int = 0


class Manager(pluggy.PluginManager):
    """pluggy's manager with the hooks of this version; registering evaluates no property of a plugin."""

    def __init__(self) -> None:
        super().__init__(PROJECT)
        self.add_hookspecs(hookspecs)

    def parse_hookimpl_opts(self, plugin: object, name: str) -> Any:
        """The mark of one attribute of *plugin*, if it has one."""
        return None if _is_property(plugin, name) else super().parse_hookimpl_opts(plugin, name)


def register(manager: Manager, plugin: object, name: str) -> Mapping[str, Hook]:
    """Register *plugin* and return its hooks. Raises ReporterError where one would never be called."""
    if plugin is None or inspect.isclass(plugin):
        what = "nothing" if plugin is None else f"the class {plugin.__name__}"
        raise ReporterError(f"reporter {name} is {what}, not an object", hint="its factory has to return the object")
    _check_names(plugin, name)
    try:
        manager.register(plugin, name)
    except pluggy.PluginValidationError as error:
        if manager.has_plugin(name):
            manager.unregister(name=name)
        raise ReporterError(
            f"reporter {name} doesn't fit the hooks: {_reason(error)}", hint=_arguments_hint()
        ) from error
    except ValueError as error:
        raise ReporterError(f"reporter {name} is given twice", hint="give it once") from error
    try:
        return dict(_hooks_of(manager, plugin, name))
    except ReporterError:
        manager.unregister(name=name)
        raise


def _is_property(plugin: object, name: str) -> bool:
    return isinstance(inspect.getattr_static(plugin, name, None), (property, functools.cached_property))


def _check_names(plugin: object, name: str) -> None:
    """Refuse attributes that look like hooks and aren't: they would never be called, and nobody would notice."""
    for attribute in dir(plugin):
        if not attribute.startswith(PREFIX) or _is_property(plugin, attribute):
            continue
        value = getattr(plugin, attribute, None)
        mark = getattr(value, _MARK, None)
        if not callable(value) or (mark is not None and mark.get("specname")):
            continue
        if attribute not in HOOKS and (mark is None or not mark.get("optionalhook")):
            raise _no_such_hook(attribute, name)
        if attribute in HOOKS and mark is None:
            raise ReporterError(
                f"reporter {name}: {attribute} is not marked as a hook, so it would never be called",
                hint="put @hookimpl above it (from comfyreport import hookimpl)",
            )


def _no_such_hook(hook: str, name: str) -> ReporterError:
    near = difflib.get_close_matches(hook, HOOKS, 1, 0.5)
    return ReporterError(
        f"reporter {name}: there is no hook {hook}",
        hint=(f"did you mean {near[0]}? " if near else "")
        + "a hook of a newer version is marked @hookimpl(optionalhook=True)",
    )


def _hooks_of(manager: Manager, plugin: object, name: str) -> Iterator[tuple[str, Hook]]:
    for hook, implementation in _implementations(manager, plugin):
        if implementation.wrapper or implementation.hookwrapper:
            raise ReporterError(
                f"reporter {name}: {hook} is a wrapper",
                hint="hooks are notifications: there is nothing to wrap; use a plain @hookimpl",
            )
        if hook not in HOOKS:
            if not implementation.optionalhook:
                raise _no_such_hook(hook, name)
            continue
        _check_callable(implementation, hook, name)
        rank = bool(implementation.trylast) - bool(implementation.tryfirst)
        yield hook, Hook(implementation.function, tuple(implementation.argnames), rank)


def _implementations(manager: Manager, plugin: object) -> Iterator[tuple[str, pluggy.HookImpl]]:
    for caller in manager.get_hookcallers(plugin) or ():
        for implementation in caller.get_hookimpls():
            if implementation.plugin is plugin:
                yield caller.name, implementation


def _check_callable(implementation: pluggy.HookImpl, hook: str, name: str) -> None:
    """Refuse a function that would do nothing, or fail, however it is called."""
    function = implementation.function
    for kind, what in (
        (inspect.iscoroutinefunction, "a coroutine"),
        (inspect.isasyncgenfunction, "an asynchronous generator"),
        (inspect.isgeneratorfunction, "a generator"),
    ):
        if kind(function):
            raise ReporterError(
                f"reporter {name}: {hook} is {what}, so nothing in it would run", hint="make it a plain function"
            )
    try:
        inspect.signature(function).bind(*implementation.argnames)
    except TypeError as error:
        raise ReporterError(
            f"reporter {name}: {hook} can't be called with {', '.join(implementation.argnames) or 'no arguments'}: "
            f"{error}",
            hint="give its arguments no other form than (self, event, run)",
        ) from error
    except ValueError:
        # A function without a signature, such as one written in C: it is taken as it is.
        return


def _reason(error: pluggy.PluginValidationError) -> str:
    """pluggy's message on one line, without the definition that it quotes."""
    return " ".join(line for line in str(error).splitlines() if not line.startswith("hookimpl definition:"))


def _arguments_hint() -> str:
    return (
        "event hooks take event and run, comfyreport_tick takes elapsed and run, comfyreport_close takes nothing, "
        "comfyreport_addoption takes parser, comfyreport_prepare takes workflow and options"
    )
