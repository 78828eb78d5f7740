"""Find, select, block and build reporters. What they implement is checked here; calling them is the delivery's part."""

from __future__ import annotations

import difflib
import importlib
import importlib.metadata
import inspect
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pluggy

from comfyreport import hookspecs
from comfyreport.errors import ComfyReportError, ReporterError
from comfyreport.factories import Signature, arguments, parse_request, signature_of, split_name
from comfyreport.hookspecs import PREFIX, PROJECT
from comfyreport.streams import Stream

GROUP = PROJECT
HOOKS = frozenset(name for name in vars(hookspecs) if name.startswith(PREFIX))
STREAM_HOOKS = (f"{PREFIX}event", f"{PREFIX}stream_finished")
_MARK = f"{PROJECT}_impl"


class Hook(NamedTuple):
    """One hook implementation: the function and the names of the arguments that it wants."""

    function: Callable[..., object]
    arguments: tuple[str, ...]


class Reporter:
    """A registered reporter. `failure` says why it was switched off; `left` that its reader went away."""

    def __init__(
        self, name: str, plugin: object, hooks: Mapping[str, Hook], package: str, stream: Stream | None
    ) -> None:
        self.name = name
        self.plugin = plugin
        self.hooks = hooks
        self.package = package
        self.stream = stream
        self.failure: str | None = None
        self.left = False
        self.closed = False

    @property
    def alive(self) -> bool:
        """Whether it still gets events."""
        return self.failure is None and not self.left and not self.closed

    @property
    def carries_stream(self) -> bool:
        """Whether it carries the event stream, and so is told its end before it is closed."""
        return any(hook in self.hooks for hook in STREAM_HOOKS)

    def __str__(self) -> str:
        return f"{self.name} ({self.package})" if self.package else self.name


class Streams(NamedTuple):
    """The standard streams as the command holds them."""

    stdout: Stream
    stderr: Stream


def entry_points() -> dict[str, importlib.metadata.EntryPoint]:
    """All installed reporters and plugins, by name, not loaded."""
    return {point.name: point for point in importlib.metadata.entry_points(group=GROUP)}


def package_of(point: importlib.metadata.EntryPoint) -> str:
    """The distribution of an entry point and its version, such as `comfyreport 0.1.0`."""
    return "" if point.dist is None else f"{point.dist.name} {point.dist.version}"


class Plugins:
    """The reporters and plugins of one command.

    :param streams: what `stdout` and `stderr` mean here.
    :param blocked: names that are never loaded.
    """

    def __init__(self, streams: Streams, blocked: Iterable[str] = ()) -> None:
        self.manager = pluggy.PluginManager(PROJECT)
        self.manager.add_hookspecs(hookspecs)
        self.reporters: list[Reporter] = []
        self.blocked = frozenset(blocked)
        self._streams = streams
        self._taken: dict[object, str] = {}

    # --- choosing

    def add_spec(self, spec: str) -> None:
        """Build and register what a `--reporter` value asks for, unless its name is blocked.

        Raises ReporterError (a usage error) where that can't be done.
        """
        name, rest = split_name(spec)
        if name in self.blocked:
            return
        point = self._find(name)
        value = load(point)
        if isinstance(value, ModuleType):
            if rest:
                raise ReporterError(f"reporter {name} takes no destination and no options", hint=f"--reporter {name}")
            self._register(name, value, package_of(point), None)
            return
        if not callable(value):
            raise ReporterError(f"reporter {name}: {point.value} is neither a module nor a factory")
        signature = signature_of(value, name)
        request = parse_request(spec, signature)
        options = arguments(request, signature)
        stream, destination = self._destination(spec, name, request.destination, signature)
        built = _build(value, name, destination, options)
        self._register(name, built, package_of(point), stream)

    def add_object(self, plugin: object, name: str = "") -> None:
        """Register a reporter given as an object (or module) from Python."""
        if inspect.isclass(plugin):
            raise ReporterError(f"{plugin.__name__} is a class", hint=f"give an object: {plugin.__name__}()")
        label = name or getattr(plugin, "__name__", None) or type(plugin).__name__
        self._register(str(label), plugin, "", None)

    def add_plugin(self, name: str) -> None:
        """Load a plugin that is no reporter, by its entry point's name or its module's."""
        if name in self.blocked:
            return
        point = entry_points().get(name)
        if point is not None:
            value = load(point)
            built = value if isinstance(value, ModuleType) or not callable(value) else _build(value, name, None, {})
            self._register(name, built, package_of(point), None)
            return
        try:
            module = importlib.import_module(name)
        except Exception as error:
            raise ReporterError(
                f"plugin {name} can't be loaded: {_one_line(error)}",
                hint="-p takes a plugin's name (comfyreport reporters) or a module's",
            ) from error
        self._register(name, module, "", None)

    def _find(self, name: str) -> importlib.metadata.EntryPoint:
        known = entry_points()
        point = known.get(name)
        if point is not None:
            return point
        near = difflib.get_close_matches(name, known, 3, 0.5)
        if not known:
            hint = (
                "no reporters are installed at all: install comfyreport (pip install .), don't run it from its folder"
            )
        elif near:
            hint = f"did you mean {' or '.join(near)}? 'comfyreport reporters' lists what is installed"
        else:
            hint = f"installed: {', '.join(sorted(known))}"
        raise ReporterError(f"there is no reporter {name!r}", hint=hint)

    # --- destinations

    def _destination(
        self, spec: str, name: str, asked: str | None, signature: Signature
    ) -> tuple[Stream | None, object]:
        """The stream to close at the end, and the factory's first argument (None: it has none, or its default)."""
        if signature.destination == "none":
            if asked is not None:
                raise ReporterError(f"reporter {name} takes no destination", hint=f"--reporter {name}")
            return None, None
        if asked == "":
            raise ReporterError(f"reporter {name}: the destination is empty", hint=f"--reporter {name}=PATH")
        if asked is None and signature.required:
            raise ReporterError(f"reporter {name} needs a destination", hint=f"--reporter {name}=PATH")
        if signature.destination == "stream":
            stream = self._stream(spec, name, asked, signature.default)
            return stream, stream
        if asked is None:
            return None, None
        if signature.destination == "url":
            return None, asked
        if asked in ("-", "stderr"):
            raise ReporterError(f"reporter {name} writes to a file, not to {asked}", hint=f"--reporter {name}=PATH")
        path = Path(asked)
        _make_parent(path, name)
        _check_writable(path, name)
        self._take(path, name)
        return None, path

    def _stream(self, spec: str, name: str, asked: str | None, default: object) -> Stream:
        standard = asked
        if asked is None and isinstance(default, Stream) and default.name in ("stdout", "stderr"):
            standard = "-" if default.name == "stdout" else "stderr"
        if standard in ("-", "stderr"):
            stream = self._streams.stdout if standard == "-" else self._streams.stderr
            self._claim(stream.name, stream.name, name)
            stream.owner = spec
            return stream
        if asked is None:
            assert isinstance(default, Stream)
            return default
        path = Path(asked)
        _make_parent(path, name)
        self._take(path, name)
        try:
            stream = Stream.to_path(path)
        except OSError as error:
            raise _unwritable(path, name, error) from error
        stream.owner = spec
        return stream

    def _take(self, path: Path, name: str) -> None:
        """Refuse a file that another reporter has, under this name or (a hard link) another."""
        self._claim(os.path.realpath(path), str(path), name)
        if path.exists():
            status = path.stat()
            self._claim((status.st_dev, status.st_ino), str(path), name)

    def _claim(self, key: object, shown: str, name: str) -> None:
        if key in self._taken and shown != os.devnull:
            raise ReporterError(
                f"reporters {self._taken[key]} and {name} both write to {shown}",
                hint=f"give one of them another destination: --reporter {name}=PATH",
            )
        self._taken[key] = name

    # --- checking

    def _register(self, name: str, plugin: object, package: str, stream: Stream | None) -> None:
        label = self._label(name)
        _check_names(plugin, label)
        try:
            self.manager.register(plugin, label)
        except (pluggy.PluginValidationError, ValueError) as error:
            self.manager.unregister(name=label)
            raise ReporterError(f"reporter {label} doesn't fit the hooks: {_one_line(error)}") from error
        hooks = dict(self._hooks_of(plugin, label))
        self.reporters.append(Reporter(label, plugin, hooks, package, stream))

    def _label(self, name: str) -> str:
        taken = {reporter.name for reporter in self.reporters}
        return (
            name if name not in taken else next(f"{name}-{n}" for n in range(2, 10_000) if f"{name}-{n}" not in taken)
        )

    def _hooks_of(self, plugin: object, name: str) -> Iterator[tuple[str, Hook]]:
        for caller in self.manager.get_hookcallers(plugin) or ():
            for implementation in caller.get_hookimpls():
                if implementation.plugin is not plugin:
                    continue
                if implementation.wrapper or implementation.hookwrapper:
                    self.manager.unregister(plugin)
                    raise ReporterError(
                        f"reporter {name}: {caller.name} is a wrapper",
                        hint="hooks are notifications: there is nothing to wrap; use a plain @hookimpl",
                    )
                if caller.name in HOOKS:
                    yield caller.name, Hook(implementation.function, tuple(implementation.argnames))


def load(point: importlib.metadata.EntryPoint) -> Any:
    """Import what an entry point names; ReporterError where that fails, whatever it raises."""
    try:
        return point.load()
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        package = package_of(point)
        raise ReporterError(
            f"reporter {point.name} of {package or point.value} can't be loaded: {_one_line(error)}",
            hint="repair or uninstall that package, or choose another reporter",
        ) from error


def _build(factory: Callable[..., object], name: str, destination: object, options: Mapping[str, Any]) -> object:
    try:
        return factory(**options) if destination is None else factory(destination, **options)
    except ComfyReportError:
        raise
    except OSError as error:
        raise ReporterError(
            f"reporter {name} can't open its destination: {_one_line(error)}", hint=f"--reporter {name}=PATH"
        ) from error
    except Exception as error:
        raise ReporterError(f"reporter {name} can't be made: {_one_line(error)}") from error


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _make_parent(path: Path, name: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(path, name, error) from error


def _check_writable(path: Path, name: str) -> None:
    """Refuse what can't be opened for writing, and leave behind nothing that wasn't there."""
    existed = path.exists()
    try:
        path.open("ab").close()
    except OSError as error:
        raise _unwritable(path, name, error) from error
    if not existed:
        path.unlink()


def _unwritable(path: Path, name: str, error: OSError) -> ReporterError:
    return ReporterError(
        f"reporter {name} can't write to {path}: {error.strerror or error}",
        hint=f"give it a file that can be written: --reporter {name}=PATH",
    )


def _check_names(plugin: object, name: str) -> None:
    """Refuse attributes that look like hooks and are none: they would never be called, and nobody would notice."""
    for attribute in dir(plugin):
        if not attribute.startswith(PREFIX):
            continue
        value = getattr(plugin, attribute, None)
        if not callable(value):
            continue
        mark = getattr(value, _MARK, None)
        if mark is not None and mark.get("specname"):
            continue
        if attribute in HOOKS:
            if mark is None:
                raise ReporterError(
                    f"reporter {name}: {attribute} is not marked as a hook, so it would never be called",
                    hint="put @hookimpl above it (from comfyreport import hookimpl)",
                )
        elif mark is None or not mark.get("optionalhook"):
            near = difflib.get_close_matches(attribute, HOOKS, 1, 0.5)
            raise ReporterError(
                f"reporter {name}: there is no hook {attribute}",
                hint=(f"did you mean {near[0]}? " if near else "")
                + "a hook of a newer version is marked @hookimpl(optionalhook=True)",
            )
