"""The hooks, and what a reporter may implement of them: what would never be called is refused when it is loaded."""

from __future__ import annotations

import functools
import inspect
from argparse import Namespace
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any, get_type_hints

import pluggy
import pytest

from comfyreport import events as ev
from comfyreport.errors import ReporterError
from comfyreport.events import RunView
from comfyreport.reporting import hookspecs
from comfyreport.reporting.hookspecs import PLUGIN_HOOKS, PREFIX, hookimpl
from comfyreport.reporting.validation import HOOKS, Manager, register

# --- the contract


def test_there_is_a_hook_for_each_event_type_and_five_more() -> None:
    assert {f"{PREFIX}{name}" for name in (*ev.EVENT_TYPES, "event", "tick", "close")} == HOOKS - PLUGIN_HOOKS
    assert {f"{PREFIX}{name}" for name in ("addoption", "prepare")} == PLUGIN_HOOKS


@pytest.mark.parametrize("name", sorted(HOOKS))
def test_each_hook_tells_its_arguments_and_its_version(name: str) -> None:
    hook = getattr(hookspecs, name)
    wanted = {
        "comfyreport_tick": ["elapsed", "run"],
        "comfyreport_close": [],
        "comfyreport_addoption": ["parser"],
        "comfyreport_prepare": ["workflow", "options"],
    }.get(name, ["event", "run"])
    assert list(inspect.signature(hook).parameters) == wanted
    doc = inspect.getdoc(hook)
    assert doc is not None
    assert ".. versionadded::" in doc
    names = {"ev": ev, "RunView": RunView, "Mapping": Mapping, "Namespace": Namespace}
    hints = get_type_hints(hook, {**vars(hookspecs), **names})
    assert hints["return"] == (Mapping[str, Any] | None if name == "comfyreport_prepare" else type(None))
    kind = ev.EVENT_TYPES.get(name.removeprefix(PREFIX))
    if kind is not None:
        assert hints["event"] is kind


# --- what may be implemented


def refused(plugin: object) -> ReporterError:
    """Why *plugin* isn't taken; nothing of it is left in the manager."""
    manager = Manager()
    with pytest.raises(ReporterError) as caught:
        register(manager, plugin, "odd")
    assert not manager.has_plugin("odd")
    assert all(not getattr(manager.hook, hook).get_hookimpls() for hook in HOOKS)
    assert "odd" in caught.value.message
    assert "\n" not in caught.value.message
    assert caught.value.hint
    return caught.value


def test_a_reporter_names_the_arguments_that_it_wants() -> None:
    class Fine:
        comfyreport_version = "not a hook, and not callable"

        @hookimpl
        def comfyreport_event(self, run: RunView, event: ev.AnyEvent) -> None: ...
        @hookimpl
        def comfyreport_tick(self, elapsed: float) -> None: ...
        @hookimpl
        def comfyreport_close(self) -> None: ...
        @hookimpl
        def comfyreport_warning(self, run: RunView, extra: int = 3) -> None: ...
        @staticmethod
        @hookimpl
        def comfyreport_run_started(event: ev.RunStarted) -> None: ...
        @hookimpl(specname="comfyreport_run_finished")
        def finished(self, event: ev.RunFinished) -> None: ...

    hooks = register(Manager(), Fine(), "fine")
    assert {name: hook.arguments for name, hook in hooks.items()} == {
        "comfyreport_event": ("run", "event"),
        "comfyreport_tick": ("elapsed",),
        "comfyreport_close": (),
        "comfyreport_warning": ("run",),
        "comfyreport_run_started": ("event",),
        "comfyreport_run_finished": ("event",),
    }


def test_a_reporter_without_hooks_is_one() -> None:
    assert register(Manager(), object(), "idle") == {}


def test_an_unmarked_hook() -> None:
    class Unmarked:
        def comfyreport_run_finished(self, event: ev.RunFinished) -> None: ...

    error = refused(Unmarked())
    assert "comfyreport_run_finished is not marked as a hook" in error.message
    assert "@hookimpl" in error.hint


@pytest.mark.parametrize("mark", [lambda function: function, hookimpl, pluggy.HookimplMarker("other")])
def test_a_misspelt_hook(mark: Any) -> None:
    class Misspelt:
        @mark  # type: ignore[untyped-decorator]
        def comfyreport_run_finnished(self, event: ev.RunFinished) -> None: ...

    error = refused(Misspelt())
    assert error.message == "reporter odd: there is no hook comfyreport_run_finnished"
    assert error.hint.startswith("did you mean comfyreport_run_finished? ")


def test_a_misspelt_specname() -> None:
    class Misspelt:
        @hookimpl(specname="comfyreport_closed")
        def end(self) -> None: ...

    assert refused(Misspelt()).hint.startswith("did you mean comfyreport_close? ")


def test_a_hook_marked_for_another_project() -> None:
    class Foreign:
        @pluggy.HookimplMarker("other")
        def comfyreport_close(self) -> None: ...

    assert "is not marked as a hook" in refused(Foreign()).message


def test_a_hook_of_a_newer_version_is_optional() -> None:
    class Newer:
        @hookimpl(optionalhook=True)
        def comfyreport_picture_framed(self, event: object, frame: object) -> None: ...
        @hookimpl(optionalhook=True, specname="comfyreport_picture_hung")
        def hung(self) -> None: ...
        @hookimpl
        def comfyreport_close(self) -> None: ...

    assert set(register(Manager(), Newer(), "newer")) == {"comfyreport_close"}


@pytest.mark.parametrize("option", ["wrapper", "hookwrapper"])
def test_wrappers(option: str) -> None:
    class Wrapper:
        @hookimpl(**{option: True})  # type: ignore[call-overload, untyped-decorator]
        def comfyreport_close(self) -> Iterator[None]:
            yield

    assert refused(Wrapper()).message == "reporter odd: comfyreport_close is a wrapper"


def test_wrong_arguments() -> None:
    class Wrong:
        @hookimpl
        def comfyreport_tick(self, seconds: float) -> None: ...

    error = refused(Wrong())
    assert "comfyreport_tick" in error.message
    assert "'seconds'" in error.message
    assert "comfyreport_tick takes elapsed and run" in error.hint


def test_arguments_that_cannot_be_given() -> None:
    class Wrong:
        @hookimpl
        def comfyreport_tick(self, *, elapsed: float) -> None: ...

    assert "comfyreport_tick can't be called with no arguments" in refused(Wrong()).message


def test_what_would_not_run() -> None:
    class Coroutine:
        @hookimpl
        async def comfyreport_close(self) -> None: ...

    class Generator:
        @hookimpl
        def comfyreport_close(self) -> Iterator[None]:
            yield

    class AsyncGenerator:
        @hookimpl
        async def comfyreport_close(self) -> AsyncIterator[None]:
            yield

    for plugin, what in ((Coroutine(), "a coroutine"), (Generator(), "a generator"), (AsyncGenerator(), "an async")):
        assert f"comfyreport_close is {what}" in refused(plugin).message


def test_a_class_or_nothing_instead_of_an_object() -> None:
    class Reporter:
        @hookimpl
        def comfyreport_close(self) -> None: ...

    assert refused(Reporter).message == "reporter odd is the class Reporter, not an object"
    assert refused(None).message == "reporter odd is nothing, not an object"


def test_registering_evaluates_no_property() -> None:
    class Careful:
        @property
        def comfyreport_secret(self) -> str:
            raise AssertionError("evaluated")

        @functools.cached_property
        def connection(self) -> str:
            raise AssertionError("evaluated")

        @hookimpl
        def comfyreport_close(self) -> None: ...

    assert set(register(Manager(), Careful(), "careful")) == {"comfyreport_close"}


def test_hooks_are_inherited() -> None:
    class Base:
        @hookimpl
        def comfyreport_close(self) -> None: ...

    class Derived(Base):
        @hookimpl
        def comfyreport_tick(self, elapsed: float) -> None: ...

    assert set(register(Manager(), Derived(), "derived")) == {"comfyreport_close", "comfyreport_tick"}


def test_a_hook_that_was_overridden_without_a_mark() -> None:
    class Base:
        @hookimpl
        def comfyreport_close(self) -> None: ...

    class Derived(Base):
        def comfyreport_close(self) -> None: ...

    assert "is not marked as a hook" in refused(Derived()).message
