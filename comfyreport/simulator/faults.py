"""What can go wrong with a server, played on purpose: a script of faults, each at its moment of a run.

    script = simulator.play(Fault("dropped", "sampling"), Fault("http_hangs", "decoding", seconds=30))

A fault begins the first time that its moment comes after `play`, and holds for its seconds at speed 1, for ever
without any. The script keeps what was played and which requests came, both with their times.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from aiohttp import web

from .sockets import PREVIEW, TEXT, Frame, message

if TYPE_CHECKING:
    from .engine import Engine
    from .server import Server

Moment = Literal["post", "pending", "loading", "sampling", "decoding", "ending"]
"""post: a prompt arrives, and isn't taken yet. pending: one has been taken behind others. loading, sampling, decoding:
a node whose class says so has begun, the sampler has told `step`. ending: between success and history."""
Kind = Literal[
    "slow_check",  # the prompt is taken only after so long a check of the workflow
    "early_frames",  # the answer to the POST comes so long after the prompt was taken
    "other_id",  # the server gives the prompt an id of its own
    "answer_lost",  # the prompt is taken, then the POST's connection is cut
    "dropped",  # all sockets are cut
    "unwelcome",  # all sockets are cut, and new ones refused with a 502
    "deaf",  # all sockets are cut; new ones are told of nothing, after `step` frames
    "silent",  # the sockets stay open, and nothing is sent on them
    "clogged",  # one reader is so slow that nobody is sent anything; all of it comes afterwards
    "junk",  # frames that nobody understands, between the others
    "doubled",  # each frame comes twice
    "foreign",  # between the others, broadcast frames of somebody else's prompt
    "busy",  # somebody else's prompts come and go: a status message each second
    "stalled",  # the worker stands still
    "frozen",  # everything stands still, connections stay open
    "http_hangs",  # no request is answered; the sockets live
    "history_late",  # success is told so long before history has the prompt
    "history_500",  # history can't be read
    "interrupted",  # somebody interrupts what runs
    "lost",  # the server forgets the prompt
    "killed",  # the server is gone
    "restarted",  # the server is gone, and comes again on the same port, empty
]
MOMENTS: tuple[Moment, ...] = get_args(Moment)
KINDS: tuple[Kind, ...] = get_args(Kind)

_DEAD: tuple[Kind, ...] = ("killed", "restarted")

PENDING_SECONDS = 0.5
"""From the answer to the POST until the moment `pending`."""
TICK_SECONDS = 0.004
"""Between two looks whether a fault is over, at any speed."""
_JUNK: tuple[Frame, ...] = (
    "{",
    "",
    "[]",
    "null",
    '{"type": "progress"}',
    '{"type": "progress", "data": {"node": 5, "value": "x", "max": NaN}}',
    '{"type": "executing", "data": []}',
    '{"type": ["progress"], "data": {"nodes": 7}}',
    '{"type": "crystools.monitor", "data": {"cpu": 1}}',
    "[" * 5000,
    b"",
    b"\0\0\0",
    b"\0\0\0\x01",
    b"\0\0\0\x04\xff\xff\xff\xff{}",
    b"\0\0\0\x63nobody knows this kind",
)
_NOBODY = "00000000-0000-0000-0000-000000000000"
_FOREIGN: tuple[Frame, ...] = (
    message("progress", {"value": 3, "max": 4, "prompt_id": _NOBODY, "node": "5"}),
    PREVIEW.to_bytes(4, "big") + b"\0\0\0\x01\xff\xd8\xff\xd9",
    TEXT.to_bytes(4, "big") + b"\0\0\0\x02zz" + b"somebody else's text",
    message("execution_interrupted", {"prompt_id": _NOBODY, "node_id": "5", "node_type": "KSampler", "executed": []}),
)


class Forgotten(Exception):  # noqa: N818 - no error: a fault that is played
    """The server has lost the running prompt."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong, from a moment on, for so many seconds at speed 1."""

    kind: Kind
    moment: Moment
    seconds: float = math.inf
    step: int = 2


@dataclass(slots=True)
class Played:
    """A fault that has begun, and when it is over; times are seconds since the epoch."""

    fault: Fault
    began: float
    until: float


@dataclass(slots=True)
class Asked:
    """A request that came, and when it had its answer or its connection broke."""

    method: str
    path: str
    came: float
    gone: float = math.inf


class Script:
    """The faults of one simulator. All but `play` happens in its event loop."""

    def __init__(self, speed: float) -> None:
        self.played: list[Played] = []
        self.asked: list[Asked] = []
        self.taken: set[str] = set()
        """The prompts that the server took while something was played."""
        self.ends: dict[str, str] = {}
        """To which end each of them came, also where history never got it."""
        self.last_end = 0.0
        """When history got a prompt last, in seconds since the epoch."""
        self.engine: Engine
        self.server: Server
        self.end: Callable[[float | None], None]
        """Ends the server; started again after so many seconds, if any."""
        self._speed = speed
        self._waiting: list[Fault] = []
        self._playing = False
        self._turn = 0
        self._tasks: set[asyncio.Task[None]] = set()

    def play(self, faults: tuple[Fault, ...]) -> None:
        """Lets these faults wait for their moments; requests are kept from here on."""
        self._waiting += faults
        self._playing = True

    def on(self, *kinds: Kind) -> bool:
        """Whether a fault of one of these kinds holds now."""
        now = time.time()
        return any(played.fault.kind in kinds and now < played.until for played in self.played)

    # Moments

    def reach(self, moment: Moment, step: float = 0) -> None:
        """Begins what has waited for this moment."""
        for fault in [fault for fault in self._waiting if fault.moment == moment]:
            if moment != "sampling" or step >= fault.step:
                self._waiting.remove(fault)
                self._begin(fault)

    async def reach_node(self, class_type: str, step: float) -> None:
        """A node of that class has begun (step 0) or told a step: the worker waits here while it has to."""
        if step and "Sampler" in class_type:
            self.reach("sampling", step)
        elif not step and "Loader" in class_type:
            self.reach("loading")
        elif not step and "Decode" in class_type:
            self.reach("decoding")
        await self.work()

    def came_to(self, prompt_id: str, end: str) -> None:
        """The work on a prompt is over: `success`, `error` or `interrupted`."""
        if self._playing:
            self.ends[prompt_id] = end

    def take(self, prompt_id: str, *, behind: bool) -> None:
        """A prompt was put into the queue; *behind* others."""
        if self._playing:
            self.taken.add(prompt_id)
        if behind and any(fault.moment == "pending" for fault in self._waiting):
            self._spawn(self._later("pending"))

    async def _later(self, moment: Moment) -> None:
        await asyncio.sleep(PENDING_SECONDS / self._speed)
        self.reach(moment)

    def _spawn(self, act: Awaitable[None]) -> None:
        task = asyncio.ensure_future(act)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _begin(self, fault: Fault) -> None:
        now = time.time()
        self.played.append(Played(fault, now, now + fault.seconds / self._speed))
        if fault.kind in ("dropped", "unwelcome", "deaf"):
            self.server.cut()
        elif fault.kind == "lost":
            self.engine.forget()
        elif fault.kind == "interrupted":
            self.engine.interrupt(None)
        elif fault.kind == "killed":
            self.end(None)
        elif fault.kind == "restarted":
            self.end(fault.seconds / self._speed)
        elif fault.kind == "busy":
            self._spawn(self._crowd())

    async def _crowd(self) -> None:
        while self.on("busy"):
            self.server.sockets.send("status", {"status": self.engine.status()}, None)
            await asyncio.sleep(1 / self._speed)

    # What the server asks at its places

    async def work(self) -> None:
        """The worker waits while it stands still or is dead."""
        while self.on("stalled", "frozen", *_DEAD):
            await asyncio.sleep(TICK_SECONDS)

    async def finish(self) -> None:
        """The worker is about to write into history."""
        await self._while_on("history_late")
        await self.work()
        self.last_end = time.time()

    async def outgoing(self, frame: Frame) -> list[Frame]:
        """What goes out on a socket instead of this frame."""
        await self._while_on("clogged", "frozen")
        if self.on("silent", *_DEAD):
            return []
        self._turn += 1
        frames = [frame, frame] if self.on("doubled") else [frame]
        if self.on("junk"):
            frames.insert(0, _JUNK[self._turn % len(_JUNK)])
        if self.on("foreign"):
            frames.insert(0, _FOREIGN[self._turn % len(_FOREIGN)])
        return frames

    def hears(self, sid: str) -> None:
        """A socket was opened: whether it stays in the table of those that are told something."""
        deaf = [played.fault for played in self.played if played.fault.kind == "deaf" and time.time() < played.until]
        if deaf:
            self._spawn(self._deafen(sid, deaf[0].step))

    async def _deafen(self, sid: str, frames: int) -> None:
        """The old socket's end takes the new one from the table, as on the real server: soon, or a little later."""
        await asyncio.sleep(frames * TICK_SECONDS)
        self.server.sockets.close(sid)

    async def answer(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """Answers one request, as well as the faults let it."""
        if not self._playing:
            return await handler(request)
        path = request.path.removeprefix("/api")
        if self.on(*_DEAD):
            return _broken(request)
        if path == "/ws":
            return await (_refuse() if self.on("unwelcome") else handler(request))
        asked = Asked(request.method, path, time.time())
        self.asked.append(asked)
        try:
            posted = (request.method, path) == ("POST", "/prompt")
            if posted:
                self.reach("post")
                await self._while_on("slow_check")
            if not await self._answers(request):
                return _broken(request)
            if path.startswith("/history") and self.on("history_500"):
                return web.Response(status=500, text="500 Internal Server Error")
            response = await handler(request)
            if posted:
                await self._while_on("early_frames")
            return _broken(request) if posted and self.on("answer_lost", *_DEAD) else response
        finally:
            asked.gone = time.time()

    async def _answers(self, request: web.Request) -> bool:
        """Waits while nothing is answered; False if there is nobody left to answer, or to be answered."""
        while self.on("http_hangs", "frozen") and not self.on(*_DEAD):
            if request.transport is None or request.transport.is_closing():
                return False
            await asyncio.sleep(TICK_SECONDS)
        return not self.on(*_DEAD)

    async def _while_on(self, *kinds: Kind) -> None:
        """Waits while one of these holds; the death of the server ends it."""
        while self.on(*kinds) and not self.on(*_DEAD):
            await asyncio.sleep(TICK_SECONDS)


def _broken(request: web.Request) -> web.StreamResponse:
    """The end of a request whose connection is cut instead of answered."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=503)


async def _refuse() -> web.StreamResponse:
    return web.Response(status=502, text="502 Bad Gateway")
