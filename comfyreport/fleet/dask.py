"""Dask as an engine: `dask://HOST:PORT` is a scheduler, whose workers have a ComfyUI server each.

What workers tell goes through a topic of the scheduler, notes are metadata of the run's task, which the scheduler
drops together with the task, and a wish to stop is an event. `distributed` is loaded here alone, where it is needed.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import pickle
import queue
import warnings
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from typing import Any

from comfyreport._version import __version__
from comfyreport.errors import UnreachableError, UsageError, one_line
from comfyreport.fleet.assignment import Assignment, Message, Note, Outcome
from comfyreport.fleet.channel import Stop
from comfyreport.fleet.engine import WINDOW
from comfyreport.fleet.worker import perform
from comfyreport.net.listening import check_listening
from comfyreport.text import printable
from comfyreport.worker import Worker, call_within

TOPIC = "comfyreport"
"""One for all commands: the scheduler keeps the last thousand messages of each topic as long as it lives."""

_SCHEMES = {"dask://": "tcp://", "dask+tls://": "tls://"}
_CONNECT_SECONDS = 5.0
_LOGGERS = ("distributed", "distributed.client", "distributed.scheduler", "distributed.worker", "tornado.application")
_KEY = "comfyreport-note"


def is_dask(url: str) -> bool:
    """Whether *url* names a Dask scheduler."""
    return url.startswith(tuple(_SCHEMES))


def connect(url: str, command: str) -> DaskEngine:
    """The engine at *url*, `dask://HOST:PORT`, for the runs of *command*. Blocks for ten seconds at most.

    Raises UsageError where that is no such address, or the extra `dask` isn't installed; UnreachableError where no
    scheduler answers there, or its workers have another comfyreport.
    """
    scheme = next((each for each in _SCHEMES if url.startswith(each)), "")
    host, colon, port = url.removeprefix(scheme).rstrip("/").rpartition(":")
    if not (scheme and host and colon and port.isdecimal() and 0 < int(port) < 65536):
        raise UsageError(f"--engine {printable(url, 200)} is no address of an engine", hint="--engine dask://HOST:PORT")
    distributed = _distributed()
    place = f"{printable(host, 200)}:{port}"
    hint = "start it (dask scheduler), or check the address; its dashboard has another port"
    with contextlib.ExitStack() as stack:
        stack.enter_context(_quiet())
        try:
            # Dask itself would try again and again, for as long as it may.
            check_listening(host, int(port), _CONNECT_SECONDS)
        except OSError as error:
            message = f"no engine answers at {place}: {error.strerror or error}"
            raise UnreachableError(message, hint=hint, code="engine", retryable=True) from error
        address = f"{_SCHEMES[scheme]}{host}:{port}"
        try:
            client = _client(distributed, address)
        except Exception as error:  # noqa: BLE001  told as what it is; a cause would be told instead
            # It raises whatever its reading of foreign bytes does: that memory is missing, for one.
            message = f"what answers at {place} is no Dask scheduler: {one_line(error)[:200]}"
            raise UnreachableError(message, hint=hint, code="engine") from None
        stack.callback(client.close, timeout=_CONNECT_SECONDS)
        _check_versions(client, f"{scheme}{place}")
        return DaskEngine(client, f"{scheme}{place}", command, stack.pop_all())


class DaskEngine:
    """The workers of a Dask scheduler; `connect` makes one.

    :param stack: is closed with it.
    """

    def __init__(self, client: Any, shown: str, command: str, stack: contextlib.ExitStack) -> None:
        self.shown = shown
        self.window = WINDOW
        self._client = client
        self._command = command
        self._stack = stack
        self.trouble = ""
        self._looking = False
        # A scheduler that is stopped answers never: nothing waits for it but this.
        self._asking = Worker()
        self._messages: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._executor = client.get_executor(pure=False)
        client.subscribe_topic(TOPIC, self._take)
        stack.callback(client.unsubscribe_topic, TOPIC)

    def submit(self, assignment: Assignment) -> Future[Outcome]:
        """Hand it out as soon as a worker is free."""
        with warnings.catch_warnings():
            # That what is sent is large.
            warnings.simplefilter("ignore")
            future: Future[Outcome] = self._executor.submit(perform_on_dask, assignment)
        return future

    def receive(self) -> list[Message]:
        """What workers have told since the last time."""
        messages: list[Message] = []
        with contextlib.suppress(queue.Empty):
            while True:
                messages.append(pickle.loads(self._messages.get_nowait()))
        return messages

    def confirm(self, prompt_id: str) -> None:
        """Let a worker submit its prompt."""
        self._asking.submit(self._event(prompt_id).set, 0.0)

    def withdraw(self, prompt_id: str) -> None:
        """Keep nothing more of what was confirmed, for a worker that died before it heard of it."""
        self._stack.callback(self._event(prompt_id).clear)

    def stop(self, stop: Stop) -> None:
        """Tell all workers what is to be cancelled."""
        if stop:
            event = self._event(stop)
            self._asking.submit(event.set, 0.0)
            self._stack.callback(event.clear)

    def died(self, error: BaseException) -> str:
        """Who died, where *error* says that workers died."""
        if not isinstance(error, _distributed().KilledWorker):
            return ""
        last = getattr(error, "last_worker", None)
        name = getattr(last, "name", None) or getattr(last, "address", "")
        return f"worker {name}" if name else "the worker"

    def look(self) -> None:
        """Ask the scheduler whether anything goes on."""
        if not self._looking:
            self._looking = True
            self._asking.submit(self._ask, 0.0)

    def _event(self, what: str) -> Any:
        return _distributed().Event(_event_name(self._command, what), client=self._client)

    def _ask(self) -> None:
        try:
            threads = sum(self._client.nthreads().values())
        except Exception as error:  # noqa: BLE001  it raises whatever its connection does
            self.trouble = f"{self.shown} doesn't answer: {one_line(error)[:200]}"
        else:
            self.window = max(WINDOW, 3 * threads)
            self.trouble = "" if threads else f"{self.shown} has no workers yet; the runs wait for one"
        self._looking = False

    def close(self) -> None:
        """Close the connection; what is still handed out is dropped with it."""
        with contextlib.suppress(Exception):
            call_within(_CONNECT_SECONDS, self._stack.close)

    def _take(self, event: tuple[float, Mapping[str, Any]]) -> None:
        """On Dask's own thread: what came by the topic, of this command."""
        command, content = event[1].get("command"), event[1].get("message")
        if command == self._command and isinstance(content, bytes):
            self._messages.put(content)


class DaskChannel:
    """What a task on a Dask worker has of its command."""

    # Each look asks the scheduler, which may have hundreds of workers.
    pause = 2.0

    def __init__(self, command: str) -> None:
        distributed = _distributed()
        self._worker = distributed.get_worker()
        self._client = distributed.get_client()
        self._key = self._worker.get_current_task()
        self._command = command
        self._events: dict[Stop, Any] = {stop: self._event(stop) for stop in _STOPS}
        self.name = str(self._worker.name)

    def send(self, message: Message) -> None:
        """Tell *message* to the command."""
        with _as_os_error():
            self._worker.log_event(TOPIC, {"command": self._command, "message": pickle.dumps(message)})

    def note(self) -> Note | None:
        """The note of an earlier attempt at this run: of the same task, which the scheduler gives to another worker."""
        with _as_os_error():
            kept = self._client.get_metadata([self._key, _KEY], default=None)
        return None if kept is None else Note(*kept)

    def keep(self, note: Note | None) -> None:
        """Keep *note* for the next attempt; None: there is nothing to be looked for."""
        kept = None if note is None else [note.server, note.prompt_id, note.client_id, note.worker, note.host]
        with _as_os_error():
            self._client.set_metadata([self._key, _KEY], kept)

    def may_submit(self, prompt_id: str, seconds: float) -> bool:
        """Whether the command has kept where that prompt will be."""
        event = self._event(prompt_id)
        with _as_os_error():
            kept: bool = event.wait(timeout=seconds)
            if kept:
                event.clear()
        return kept

    def _event(self, what: str) -> Any:
        return _distributed().Event(_event_name(self._command, what), client=self._client)

    def stop(self) -> Stop:
        """What the command wants cancelled."""
        with _as_os_error():
            return next((stop for stop, event in self._events.items() if event.is_set()), "")


_STOPS: tuple[Stop, ...] = ("all", "waiting")


def perform_on_dask(assignment: Assignment) -> Outcome:
    """Make the run, as a task of a Dask worker."""
    channel = DaskChannel(assignment.command)
    return perform(assignment, channel, channel.name)


def _distributed() -> Any:
    """Dask's package, most of which has no types; UsageError where it isn't installed."""
    try:
        return importlib.import_module("distributed")
    except ImportError as error:
        raise UsageError(
            f"an engine needs a package that isn't installed ({error.name})", hint='pip install "comfyreport[dask]"'
        ) from error


def _client(distributed: Any, address: str) -> Any:
    """A client of the scheduler there. TimeoutError where what answers says nothing that a scheduler would.

    What it is given for that isn't always kept to: it waits for foreign bytes without a limit.
    """
    found: list[Any] = []

    def connect_to() -> None:
        found.append(distributed.Client(address, timeout=_CONNECT_SECONDS, set_as_default=False, name="comfyreport"))

    if not call_within(2 * _CONNECT_SECONDS, connect_to):
        raise TimeoutError(f"no answer of one within {2 * _CONNECT_SECONDS:g} s")
    return found[0]


def _event_name(command: str, what: str) -> str:
    return f"comfyreport-{command}-{what}"


def _check_versions(client: Any, shown: str) -> None:
    """UnreachableError where a worker, or the scheduler, has another comfyreport, or none."""
    ask = _version_asker()
    found: dict[str, Any] = {}

    def look() -> None:
        found["the scheduler"] = client.run_on_scheduler(ask)
        found.update(client.run(ask, on_error="return"))

    try:
        if not call_within(_CONNECT_SECONDS, look):
            raise TimeoutError(f"no answer within {_CONNECT_SECONDS:g} s")
    except Exception as error:
        message = f"{shown} can't be asked for its version: {one_line(error)[:200]}"
        hint = "look into the scheduler's log; it and the workers need comfyreport, and one version of dask"
        raise UnreachableError(message, hint=hint, code="engine") from error
    for place, version in found.items():
        if version != __version__:
            theirs = f"comfyreport {version}" if isinstance(version, str) and version else "no comfyreport"
            raise UnreachableError(
                f"{printable(place, 200)} has {printable(theirs, 200)}, and this is {__version__}",
                hint=f'install it there, too: pip install "comfyreport[dask]=={__version__}"',
                code="engine",
            )


def _version_asker() -> Callable[[], str]:
    """What asks a worker for its version of comfyreport; made here, so that it travels whole where there is none."""

    def ask() -> str:
        try:
            from comfyreport._version import __version__
        except ImportError:
            return ""
        return __version__

    return ask


@contextlib.contextmanager
def _as_os_error() -> Iterator[None]:
    """Make whatever Dask raises where the scheduler doesn't answer an OSError."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        raise OSError(one_line(error)) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep what Dask logs off stderr, which has readers of its own."""
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    before = [(logger, logger.handlers[:]) for logger in loggers]
    try:
        for logger in loggers:
            logger.handlers[:] = [logging.NullHandler()]
        yield
    finally:
        for logger, handlers in before:
            logger.handlers[:] = handlers
