"""Finds, selects, blocks and builds reporters; `delivery` calls them."""

from __future__ import annotations

import contextlib
import difflib
import importlib
import inspect
from collections.abc import Callable, Iterable, Mapping
from types import ModuleType
from typing import Any

from comfyreport.errors import ComfyReportError, ReporterError, one_line
from comfyreport.files import Claims
from comfyreport.reporting.destinations import Destinations, StandardStreams as StandardStreams, kind_of
from comfyreport.reporting.hookspecs import PLUGIN_HOOKS, PREFIX
from comfyreport.reporting.installed import Installed, entry_points, load
from comfyreport.reporting.signature import arguments, parse_spec, signature_of, split_name
from comfyreport.reporting.streams import Stream
from comfyreport.reporting.validation import Hook, Manager, register

STREAM_HOOKS = (f"{PREFIX}event", f"{PREFIX}stream_finished")


class Reporter:
    """A registered reporter.

    `failure` says why it was switched off, `stuck` that an abandoned thread is in one of its hooks, `reader_left` that
    the reader of its pipe closed it.
    """

    def __init__(
        self, name: str, plugin: object, hooks: Mapping[str, Hook], package: str, stream: Stream | None
    ) -> None:
        self.name = name
        self.plugin = plugin
        self.hooks = hooks
        self.package = package
        self.stream = stream
        self.failure: str | None = None
        self.stuck = False
        self.reader_left = False
        self.closed = False

    @property
    def alive(self) -> bool:
        """Whether it still gets events."""
        return self.failure is None and not self.reader_left and not self.closed

    @property
    def carries_stream(self) -> bool:
        """Whether it carries the event stream, and so is closed only after `stream_finished`."""
        return any(hook in self.hooks for hook in STREAM_HOOKS)

    def __str__(self) -> str:
        return f"{self.name} ({self.package})" if self.package else self.name


def selected(specs: Iterable[str], default: Iterable[str]) -> list[str]:
    """The reporters to build: those of *specs*; a `+NAME` adds to the *default* ones, unless others are named."""
    specs = list(specs)
    named = [spec for spec in specs if not spec.startswith("+")]
    return [spec.removeprefix("+") for spec in (specs if named else [*default, *specs])]


class Plugins:
    """The reporters and plugins of one command.

    :param streams: what `stdout` and `stderr` mean here.
    :param blocked: names that are never loaded.
    :param claims: the files of this command; None: there are no others than those of reporters.
    """

    def __init__(self, streams: StandardStreams, blocked: Iterable[str] = (), claims: Claims | None = None) -> None:
        self.manager = Manager()
        self.reporters: list[Reporter] = []
        self.blocked = frozenset(blocked)
        self.streams = streams
        self.destinations = Destinations(streams, claims or Claims())

    # --- selecting

    def add_spec(self, spec: str) -> None:
        """Build and register the reporter of a `--reporter` value, unless its name is blocked.

        Raises ReporterError (a usage error).
        """
        self.plan_spec(spec)()

    def plan_spec(self, spec: str) -> Callable[[], None]:
        """Load the reporter of a `--reporter` value and claim its file; what builds it opens that. ReporterError."""
        name, rest = split_name(spec)
        if name in self.blocked:
            return _nothing
        return self._plan(self._find(name), name, spec, rest, self._register_reporter)

    def _plan(
        self,
        installed: Installed,
        name: str,
        spec: str,
        rest: str,
        register_it: Callable[[str, object, str, Stream | None], None],
    ) -> Callable[[], None]:
        value = load(installed)
        if isinstance(value, ModuleType):
            if rest:
                raise ReporterError(f"reporter {name} takes no destination and no options", hint=f"--reporter {name}")
            return lambda: register_it(name, value, installed.package, None)
        if not callable(value):
            raise ReporterError(
                f"reporter {name}: {installed.point.value} is neither a module nor a factory",
                hint=f"its package has to name one of these: {installed.origin}",
            )
        signature = signature_of(value, name)
        parsed = parse_spec(spec, signature)
        options = arguments(parsed, signature)
        open_destination = self.destinations.plan(spec, name, parsed.destination, signature)

        def build() -> None:
            opened = open_destination()
            if opened is None:
                return
            stream, destination = opened
            try:
                streams = self.destinations.beside(spec, signature)
                built = _build(value, name, destination, {**options, **streams}, kind_of(signature))
                register_it(name, built, installed.package, stream)
            except BaseException:
                if stream is not None:
                    with contextlib.suppress(OSError, ValueError):
                        stream.close()
                raise

        return build

    def add_object(self, plugin: object, name: str = "") -> None:
        """Register a reporter given as an object (or module) from Python."""
        if inspect.isclass(plugin):
            raise ReporterError(f"{plugin.__name__} is a class", hint=f"give an object: {plugin.__name__}()")
        label = name or getattr(plugin, "__name__", None) or type(plugin).__name__
        self._register_reporter(str(label), plugin, "", None)

    def add_plugin(self, name: str) -> None:
        """Load a plugin that is no reporter, by its entry point's name or its module's."""
        self.plan_plugin(name)()

    def plan_plugin(self, name: str) -> Callable[[], None]:
        """Load a plugin; what is returned registers it. ReporterError."""
        if name in self.blocked:
            return _nothing
        installed = entry_points().get(name)
        if installed is not None:
            return self._plan(installed, name, name, "", self._register)
        try:
            module = importlib.import_module(name)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            raise ReporterError(
                f"plugin {name} can't be loaded: {one_line(error)}",
                hint="-p takes a plugin's name (comfyreport reporters) or a module's",
            ) from error
        return lambda: self._register(name, module, "", None)

    def _find(self, name: str) -> Installed:
        installed = entry_points()
        if name in installed:
            return installed[name]
        near = difflib.get_close_matches(name, installed, 3, 0.5)
        if not installed:
            hint = (
                "no reporters are installed at all: install comfyreport (pip install .), don't run it from its folder"
            )
        elif near:
            hint = f"did you mean {' or '.join(near)}? 'comfyreport reporters' lists what is installed"
        else:
            hint = f"installed: {', '.join(sorted(installed))}"
        # A colon may stand for the equals sign before a URL, which may hold what is secret.
        raise ReporterError(f"there is no reporter {name.partition('://')[0]!r}", hint=hint)

    def _register(self, name: str, plugin: object, package: str, stream: Stream | None) -> None:
        label = self._label(name)
        hooks = register(self.manager, plugin, label)
        self.reporters.append(Reporter(label, plugin, hooks, package, stream))

    def _register_reporter(self, name: str, plugin: object, package: str, stream: Stream | None) -> None:
        self._register(name, plugin, package, stream)
        hook = min(PLUGIN_HOOKS & self.reporters[-1].hooks.keys(), default="")
        if hook:
            self.manager.unregister(self.reporters.pop().plugin)
            raise ReporterError(
                f"reporter {name}: {hook} is a hook of plugins, so it would never be called",
                hint=f"load it with -p {name}, or leave that hook out",
            )

    def _label(self, name: str) -> str:
        # Of one whose registering was interrupted too.
        taken = {taken for taken, _ in self.manager.list_name_plugin()}
        return (
            name if name not in taken else next(f"{name}-{n}" for n in range(2, 10_000) if f"{name}-{n}" not in taken)
        )


def _build(
    factory: Callable[..., object], name: str, destination: object, options: Mapping[str, Any], dest: str
) -> object:
    try:
        return factory(**options) if destination is None else factory(destination, **options)
    except KeyboardInterrupt:
        raise
    except ComfyReportError as error:
        if name in error.message:
            raise
        raise ReporterError(f"reporter {name}: {error.message}", hint=error.hint) from error
    except OSError as error:
        raise ReporterError(
            f"reporter {name} can't open its {'URL' if dest == 'URL' else 'destination'}: {one_line(error)}",
            hint=f"--reporter {name}={dest}",
        ) from error
    except BaseException as error:
        raise ReporterError(
            f"reporter {name} can't be made: {one_line(error)}",
            hint=f"'comfyreport reporters {name}' tells its options",
        ) from error


def _nothing() -> None:
    """Build nothing: the name is blocked."""
