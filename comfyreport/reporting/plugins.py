"""Finds, selects, blocks and builds reporters; `delivery` calls them."""

from __future__ import annotations

import contextlib
import difflib
import importlib
import importlib.metadata
import inspect
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from comfyreport.errors import ComfyReportError, ReporterError, one_line
from comfyreport.files import is_fifo
from comfyreport.reporting.hookspecs import PREFIX, PROJECT
from comfyreport.reporting.signature import Signature, arguments, parse_spec, signature_of, split_name
from comfyreport.reporting.streams import Stream
from comfyreport.reporting.validation import Hook, Manager, register

GROUP = PROJECT
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


class StandardStreams(NamedTuple):
    """The standard streams as the command holds them."""

    stdout: Stream
    stderr: Stream


def entry_points() -> dict[str, importlib.metadata.EntryPoint]:
    """All installed reporters and plugins, by name, not loaded. Of two of one name, the first one on the path."""
    by_name: dict[str, importlib.metadata.EntryPoint] = {}
    for point in _all_entry_points():
        by_name.setdefault(point.name, point)
    return by_name


def _all_entry_points() -> Iterator[importlib.metadata.EntryPoint]:
    try:
        yield from importlib.metadata.entry_points(group=GROUP)
    except Exception:  # noqa: BLE001  any metadata of any installed package
        # One package's metadata can't be read: skip that one.
        for distribution in importlib.metadata.distributions():
            with contextlib.suppress(Exception):
                yield from distribution.entry_points.select(group=GROUP)


def package_of(point: importlib.metadata.EntryPoint) -> str:
    """The distribution of an entry point and its version, such as `comfyreport 0.1.0`."""
    try:
        return "" if point.dist is None else f"{point.dist.name} {point.dist.version}"
    except Exception:  # noqa: BLE001  metadata that can't be read, in whatever way
        return ""


class Plugins:
    """The reporters and plugins of one command.

    :param streams: what `stdout` and `stderr` mean here.
    :param blocked: names that are never loaded.
    """

    def __init__(self, streams: StandardStreams, blocked: Iterable[str] = ()) -> None:
        self.manager = Manager()
        self.reporters: list[Reporter] = []
        self.blocked = frozenset(blocked)
        self._streams = streams
        self._claimed: dict[object, str] = {}

    # --- selecting

    def add_spec(self, spec: str) -> None:
        """Build and register the reporter of a `--reporter` value, unless its name is blocked.

        Raises ReporterError (a usage error).
        """
        name, rest = split_name(spec)
        if name in self.blocked:
            return
        self._add(self._find(name), name, spec, rest)

    def _add(self, point: importlib.metadata.EntryPoint, name: str, spec: str, rest: str) -> None:
        value = load(point)
        if isinstance(value, ModuleType):
            if rest:
                raise ReporterError(f"reporter {name} takes no destination and no options", hint=f"--reporter {name}")
            self._register(name, value, package_of(point), None)
            return
        if not callable(value):
            raise ReporterError(
                f"reporter {name}: {point.value} is neither a module nor a factory",
                hint=f"its package has to name one of these: {package_of(point) or point.value}",
            )
        signature = signature_of(value, name)
        parsed = parse_spec(spec, signature)
        options = arguments(parsed, signature)
        stream, destination = self._destination(spec, name, parsed.destination, signature)
        try:
            self._register(name, _build(value, name, destination, options), package_of(point), stream)
        except BaseException:
            if stream is not None:
                with contextlib.suppress(OSError, ValueError):
                    stream.close()
            raise

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
            self._add(point, name, name, "")
            return
        try:
            module = importlib.import_module(name)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            raise ReporterError(
                f"plugin {name} can't be loaded: {one_line(error)}",
                hint="-p takes a plugin's name (comfyreport reporters) or a module's",
            ) from error
        self._register(name, module, "", None)

    def _find(self, name: str) -> importlib.metadata.EntryPoint:
        installed = entry_points()
        point = installed.get(name)
        if point is not None:
            return point
        near = difflib.get_close_matches(name, installed, 3, 0.5)
        if not installed:
            hint = (
                "no reporters are installed at all: install comfyreport (pip install .), don't run it from its folder"
            )
        elif near:
            hint = f"did you mean {' or '.join(near)}? 'comfyreport reporters' lists what is installed"
        else:
            hint = f"installed: {', '.join(sorted(installed))}"
        raise ReporterError(f"there is no reporter {name!r}", hint=hint)

    # --- destinations

    def _destination(
        self, spec: str, name: str, dest: str | None, signature: Signature
    ) -> tuple[Stream | None, object]:
        """The stream to close at the end, and the factory's first argument (None: it has none, or its default)."""
        if signature.destination == "none":
            if dest is not None:
                raise ReporterError(f"reporter {name} takes no destination", hint=f"--reporter {name}")
            return None, None
        if dest == "":
            raise ReporterError(f"reporter {name}: the destination is empty", hint=f"--reporter {name}=PATH")
        if dest is None and signature.required:
            raise ReporterError(f"reporter {name} needs a destination", hint=f"--reporter {name}=PATH")
        if signature.destination == "stream":
            stream = self._stream(spec, name, dest, signature.default)
            return stream, stream
        if signature.destination == "url":
            return None, dest
        if dest is None:
            dest = os.fspath(signature.default)
        if dest in ("-", "stderr"):
            raise ReporterError(f"reporter {name} writes to a file, not to {dest}", hint=f"--reporter {name}=PATH")
        path = Path(dest)
        _make_parent(path, name)
        self._claim_path(path, name)
        if is_fifo(path):
            # Kept open until the reporter is closed: after a mere check, the FIFO's reader would see its end.
            return self._open(path, name), path
        _check_writable(path, name)
        return None, path

    def _stream(self, spec: str, name: str, dest: str | None, default: object) -> Stream:
        standard = dest
        if dest is None and isinstance(default, Stream) and default.name in ("stdout", "stderr"):
            standard = "-" if default.name == "stdout" else "stderr"
        if standard in ("-", "stderr"):
            stream = self._streams.stdout if standard == "-" else self._streams.stderr
            self._claim(stream.name, stream.name, name)
            stream.owner = spec
            return stream
        if dest is None:
            assert isinstance(default, Stream)
            return default
        path = Path(dest)
        _make_parent(path, name)
        self._claim_path(path, name)
        stream = self._open(path, name)
        stream.owner = spec
        status = os.fstat(stream.file.fileno())
        self._claimed.setdefault((status.st_dev, status.st_ino), name)
        return stream

    def _open(self, path: Path, name: str) -> Stream:
        try:
            return Stream.to_path(path, like=self._streams.stderr)
        except (OSError, ValueError) as error:
            raise _unwritable(path, name, error) from error

    def _claim_path(self, path: Path, name: str) -> None:
        """Claim a file for one reporter, under every name that it has (hard links)."""
        try:
            real = os.path.realpath(path)
        except (OSError, ValueError) as error:
            raise _unwritable(path, name, error) from error
        if real == os.devnull:
            return
        self._claim(real, str(path), name)
        # Where it doesn't exist yet, or can't be read, opening it will show that.
        with contextlib.suppress(OSError):
            status = os.stat(real)
            self._claim((status.st_dev, status.st_ino), str(path), name)

    def _claim(self, key: object, label: str, name: str) -> None:
        if key in self._claimed:
            raise ReporterError(
                f"reporters {self._claimed[key]} and {name} both write to {label}",
                hint=f"give one of them another destination: --reporter {name}=PATH",
            )
        self._claimed[key] = name

    def _register(self, name: str, plugin: object, package: str, stream: Stream | None) -> None:
        label = self._label(name)
        hooks = register(self.manager, plugin, label)
        self.reporters.append(Reporter(label, plugin, hooks, package, stream))

    def _label(self, name: str) -> str:
        taken = {reporter.name for reporter in self.reporters}
        return (
            name if name not in taken else next(f"{name}-{n}" for n in range(2, 10_000) if f"{name}-{n}" not in taken)
        )


def load(point: importlib.metadata.EntryPoint) -> Any:
    """Import what an entry point names; ReporterError where that fails, whatever it raises."""
    try:
        return point.load()
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        package = package_of(point)
        raise ReporterError(
            f"reporter {point.name} of {package or point.value} can't be loaded: {one_line(error)}",
            hint="repair or uninstall that package, or choose another reporter",
        ) from error


def _build(factory: Callable[..., object], name: str, destination: object, options: Mapping[str, Any]) -> object:
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
            f"reporter {name} can't open its destination: {one_line(error)}", hint=f"--reporter {name}=PATH"
        ) from error
    except BaseException as error:
        raise ReporterError(
            f"reporter {name} can't be made: {one_line(error)}",
            hint=f"'comfyreport reporters {name}' tells its options",
        ) from error


def _make_parent(path: Path, name: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        raise _unwritable(path, name, error) from error


def _check_writable(path: Path, name: str) -> None:
    """Refuse what can't be opened for writing, and leave no new file behind."""
    try:
        existed = path.exists()
        path.open("ab").close()
        if not existed:
            path.unlink()
    except (OSError, ValueError) as error:
        raise _unwritable(path, name, error) from error


def _unwritable(path: Path, name: str, error: OSError | ValueError) -> ReporterError:
    return ReporterError(
        f"reporter {name} can't write to {path}: {getattr(error, 'strerror', None) or error}",
        hint=("start its reader first, or " if is_fifo(path) else "")
        + f"give it a file that can be written: --reporter {name}=PATH",
    )
