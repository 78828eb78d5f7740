"""A server, a network and a user in a time of their own: one Loop runs in it, without threads and without waiting.

What happens is said beforehand with `at`; the server answers HTTP from its state. All of it takes place at the usual
full-scale times of `Timing`, and nothing of it depends on the machine.
"""

from __future__ import annotations

import heapq
import itertools
import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from comfyreport import events as ev
from comfyreport.engine import loop as loop_module
from comfyreport.engine.inbox import Batch
from comfyreport.engine.loop import Loop
from comfyreport.engine.options import RunOptions
from comfyreport.engine.sources import CallDone, CallKind, SocketClosed, SocketOpened, Sources, StopRequested
from comfyreport.errors import UnreachableError, UsageError
from comfyreport.events import Instant
from comfyreport.net.client import Client
from comfyreport.protocol.responses import manifest_of
from comfyreport.protocol.statuses import Response
from comfyreport.run import Run
from comfyreport.timing import Timing

PROMPT = "mine"
GRAPH = {
    "4": {"class_type": "CheckpointLoaderSimple", "inputs": {}},
    "3": {"class_type": "KSampler", "inputs": {"model": ["4", 0]}},
    "9": {"class_type": "SaveImage", "inputs": {"images": ["3", 0]}},
}
REFUSED = UnreachableError("nothing listens there", retryable=True, sent=False)
BROKEN = UnreachableError("the connection broke", retryable=True)
AUTH = Response(401, None, "no")
ERROR = Response(500, None, "500 Internal Server Error")
HANGS = "hangs"
LATENCY = 0.01
LONGEST = 900.0


class World:
    """One run from its start to its verdict.

    `running`, `pending` and `history` are what the server has: prompt ids, and history's entries; with `has_jobs` it
    has the routes of ComfyUI 0.33. `answers` replaces the answer to a path: a Response, an error, `HANGS`, or a
    function of the request's body. `accept` says what happens to each attempt to open the socket: None where it
    succeeds. `latency` gives the seconds that a call takes, by its kind; what the server answers is always what it knew
    when the call began.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, attach: bool = False, remote: bool = False, **options: Any):
        self.now = 0.0
        self.running: list[str] = []
        self.pending: list[str] = []
        self.history: dict[str, Any] = {}
        self.clients: dict[str, str] = {}
        self.answers: dict[str, Any] = {}
        self.accept: Callable[[], UnreachableError | None] = lambda: None
        self.latency: Callable[[CallKind], float] = lambda kind: LATENCY
        self.requests: list[tuple[float, str, str]] = []
        self.attempts: list[float] = []
        self.pings: list[float] = []
        self.events: list[ev.Event] = []
        self.timing = Timing()
        self._timeline: list[tuple[float, int, Callable[[], Any]]] = []
        self._numbers = itertools.count()
        self.open = False
        self.prepare: Callable[[], Any] | None = None
        self.has_jobs = self.cut = False
        self._attach = attach
        address = SimpleNamespace(loopback=not remote, base="http://server")
        self.client = _Client(address=address, timing=self.timing, get=self._get, post=self._post, cut=self._cut)
        monkeypatch.setattr(loop_module, "Sources", self._sources)
        monkeypatch.setattr("random.uniform", lambda low, high: high)
        refs = () if attach else manifest_of(GRAPH)
        self.run = Run(PROMPT, refs, base_url="http://server", client_id=None if attach else "me")
        self.loop = Loop(
            self.run,
            cast(Client, self.client),
            client_id="me",
            publish=self.events.extend,
            watch=lambda: (),
            clock=lambda: Instant(1000.0 + self.now, self.now),
            options=RunOptions(**options),
        )

    # --- what is said beforehand

    def at(self, seconds: float, act: Callable[[], Any]) -> None:
        """Let *act* happen then; what it returns, if anything, goes into the loop's inbox."""
        heapq.heappush(self._timeline, (seconds, next(self._numbers), act))

    def say(self, seconds: float, kind: str, **data: Any) -> None:
        """Let the server send a message about the run then, if the socket is open."""
        self.say_of(seconds, kind, prompt_id=PROMPT, **data)

    def say_of(self, seconds: float, kind: str, **data: Any) -> None:
        """Let the server send any message then, if the socket is open."""
        text = json.dumps({"type": kind, "data": data}).encode()
        self.at(seconds, lambda: Batch([(True, text)], len(text)) if self.open else None)

    def states(self, seconds: float, **states: str) -> None:
        """Let the server tell the states of nodes then: `n3="running"`."""
        nodes = {
            name[1:]: {"value": int(state == "finished"), "max": 1, "state": state, "display_node_id": name[1:]}
            for name, state in states.items()
        }
        self.say(seconds, "progress_state", nodes=nodes)

    def interrupt(self, seconds: float) -> None:
        """Let the user press Ctrl-C then."""
        self.at(seconds, StopRequested)

    def drop(self, seconds: float, error: UnreachableError | None = None) -> None:
        """Let the socket break then."""

        def act() -> SocketClosed | None:
            was, self.open = self.open, False
            return SocketClosed(error) if was else None

        self.at(seconds, act)

    def begin(self, seconds: float = 0.1, *, cached: list[str] | None = None) -> None:
        """Let the server begin with the prompt."""

        def act() -> None:
            self.pending = [each for each in self.pending if each != PROMPT]
            self.running = [PROMPT]

        self.at(seconds, act)
        self.say(seconds, "execution_start", timestamp=1)
        self.say(seconds, "execution_cached", nodes=cached or [], timestamp=1)

    def end(self, seconds: float, kind: str = "execution_success", **data: Any) -> None:
        """Let the prompt end then: history has it, and the socket says so."""
        self.at(seconds, lambda: self.finish(kind, **data))
        self.say(seconds, kind, **data)
        self.say(seconds, "executing", node=None)

    def finish(self, kind: str = "execution_success", *, cached: tuple[str, ...] = (), **data: Any) -> None:
        """The prompt ends now, as history tells it."""
        self.running = [each for each in self.running if each != PROMPT]
        self.history[PROMPT] = entry(kind, cached=cached, **data)

    # --- what comes of it

    def play(self) -> ev.RunFinished:
        """Run to the verdict; the end."""
        body = None if self._attach else {"prompt": GRAPH, "client_id": "me", "prompt_id": PROMPT}
        self.loop.execute(self.prepare or body)
        self.events += self.run.finish(Instant(1000.0 + self.now, self.now))
        end = self.events[-1]
        assert isinstance(end, ev.RunFinished)
        return end

    def of(self, kind: type[ev.Event]) -> list[Any]:
        """The events of one type."""
        return [event for event in self.events if isinstance(event, kind)]

    def codes(self) -> list[str]:
        """The codes of the warnings."""
        return [event.code for event in self.of(ev.Warning)]

    def asked(self, method: str, path: str) -> list[float]:
        """When something was asked for; *path* is the beginning of it."""
        return [at for at, each, where in self.requests if each == method and where.startswith(path)]

    def most_in_a_minute(self) -> int:
        """The most requests in any minute."""
        times = [at for at, _, _ in self.requests]
        return max((sum(1 for each in times if at <= each < at + 60) for at in times), default=0)

    # --- HTTP

    def _cut(self) -> None:
        self.cut = True

    def _get(self, path: str) -> Response:
        return self._answer("GET", path, None)

    def _post(self, path: str, body: Any, *, timeout: float | None = None) -> Response:
        return self._answer("POST", path, body)

    def _answer(self, method: str, path: str, body: Any) -> Response:
        self.requests.append((self.now, method, path))
        given = next((self.answers[key] for key in (f"{method} {path}", path) if key in self.answers), None)
        if callable(given):
            given = given(body)
        if given is None:
            given = self._honest(method, path, body)
        if isinstance(given, BaseException):
            raise given
        return cast(Response, given)

    def _honest(self, method: str, path: str, body: Any) -> Response:
        if (method, path) == ("POST", "/prompt"):
            if PROMPT not in self.running:
                self.pending.append(PROMPT)
            return Response(200, {"prompt_id": PROMPT, "number": 1, "node_errors": {}}, "")
        if (method, path) == ("POST", "/queue"):
            self.pending = [each for each in self.pending if each not in body["delete"]]
            return Response(200, None, "")
        if (method, path) == ("POST", "/interrupt"):
            if body["prompt_id"] in self.running:
                self.finish("execution_interrupted", node_id="3", executed=[])
            return Response(200, None, "")
        if path.startswith("/api/"):
            return self._jobs(method, path) if self.has_jobs else Response(404, None, "404: Not Found")
        if path == "/queue":
            running, pending = ([self._job(each) for each in jobs] for jobs in (self.running, self.pending))
            return Response(200, {"queue_running": running, "queue_pending": pending}, "")
        prompt_id = path.rpartition("/")[2]
        return Response(200, {prompt_id: self.history[prompt_id]} if prompt_id in self.history else {}, "")

    def _jobs(self, method: str, path: str) -> Response:
        """As ComfyUI 0.33 answers."""
        if method == "POST":
            prompt_id = path.split("/")[3]
            known = prompt_id in self.running or prompt_id in self.pending
            self.pending = [each for each in self.pending if each != prompt_id]
            if prompt_id in self.running:
                self.finish("execution_interrupted", node_id="3", executed=[])
            return Response(200, {"cancelled": known}, "")
        jobs = [{"id": each, "status": "pending", "priority": n} for n, each in enumerate(self.pending)]
        jobs += [{"id": each, "status": "in_progress", "priority": -1} for each in self.running]
        # Sorted by when they came, not by their turn.
        return Response(200, {"jobs": jobs[::-1], "pagination": {}}, "")

    def _job(self, prompt_id: str) -> list[Any]:
        return [1, prompt_id, GRAPH, {"client_id": self.clients.get(prompt_id, "me")}, ["9"]]

    # --- in the place of comfyreport.engine.sources

    def _sources(self, client: Client, client_id: str) -> Any:
        sources = SimpleNamespace(
            client=client, busy=set(), client_id=client_id, put=lambda item: None, shut=lambda: None
        )
        sources.finish = lambda done: Sources.finish(cast(Sources, sources), done)

        def connect() -> None:
            self.attempts.append(self.now)
            self.at(self.now + LATENCY, self._connected)

        def call(kind: CallKind, function: Callable[[], Any], on_done: Callable[[CallDone], None]) -> None:
            sources.busy.add(kind)
            done = self._done(kind, function, on_done)
            if done is not None:
                self.at(self.now + self.latency(kind), lambda: done)

        sources.connect, sources.call, sources.receive = connect, call, self._receive
        sources.ping = lambda on_done: self.pings.append(self.now)
        return sources

    def _done(
        self, kind: CallKind, function: Callable[[], Any], on_done: Callable[[CallDone], None]
    ) -> CallDone | None:
        try:
            return CallDone(kind, function(), None, on_done)
        except (UnreachableError, UsageError) as error:
            return CallDone(kind, None, error, on_done)
        except _HangingError:
            return None

    def _connected(self) -> SocketOpened | SocketClosed:
        error = self.accept()
        self.open = error is None
        return SocketOpened() if error is None else SocketClosed(error)

    def _receive(self, timeout: float) -> list[Any]:
        assert self.now < LONGEST, "it doesn't end"
        until = self.now + timeout
        while self._timeline and self._timeline[0][0] <= until:
            seconds, _, act = heapq.heappop(self._timeline)
            self.now = max(self.now, seconds)
            item = act()
            if item is not None:
                return [item]
        # What happened may have taken time.
        self.now = max(self.now, until)
        return []


class _Client(SimpleNamespace):
    """In the place of a client; `upload` as it has it."""

    upload: tuple[int, int] | None = None


class _HangingError(Exception):
    """A call that never comes back."""


def hangs(body: Any) -> Any:
    """An answer that never comes."""
    raise _HangingError


def entry(
    kind: str = "execution_success",
    *,
    cached: tuple[str, ...] = (),
    graph: Any = None,
    started: int = 1_000_000,
    ended: int = 1_023_456,
    created: int | None = None,
    client: str = "me",
    **data: Any,
) -> dict[str, Any]:
    """What history has of a prompt that ended so; times are ComfyUI's, in milliseconds."""
    success = kind == "execution_success"
    extra: dict[str, Any] = {"client_id": client} | ({} if created is None else {"create_time": created})
    return {
        "prompt": [1, PROMPT, graph or GRAPH, extra, ["9"]],
        "outputs": {"9": {"images": [{"filename": "a.png", "subfolder": "", "type": "output"}]}} if success else {},
        "status": {
            "status_str": "success" if success else "error",
            "completed": success,
            "messages": [
                ["execution_start", {"prompt_id": PROMPT, "timestamp": started}],
                ["execution_cached", {"nodes": list(cached), "prompt_id": PROMPT, "timestamp": started}],
                [kind, {"prompt_id": PROMPT, "timestamp": ended, **data}],
            ],
        },
        "meta": {},
    }


def outcome(end: ev.RunFinished) -> tuple[str, str, str]:
    """How a run ended: its status, where the prompt is, whether it was submitted."""
    return end.status, end.prompt_state, end.submitted


def code(end: ev.RunFinished) -> str:
    """The error's code; empty where there is none."""
    return end.error.code if end.error is not None else ""


def words(end: ev.RunFinished) -> str:
    """The error's message and hint; empty where there is none."""
    return "" if end.error is None else f"{end.error.message} | {end.error.hint}"
