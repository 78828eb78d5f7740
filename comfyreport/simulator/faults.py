"""What a test does to a server on purpose: faults, each at its moment of a run, and breakpoints for the worker.

    script = simulator.play(Fault("dropped", "sampling"), Fault("http_hangs", "decoding", seconds=30))

A fault begins the first time that its moment comes after `play`, and holds for its seconds at speed 1, for ever
without any. The script keeps which faults have begun and which requests came, both with their times.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, get_args

from .sockets import PREVIEW, TEXT, Frame, message

Moment = Literal["post", "pending", "loading", "sampling", "decoding", "ending"]
"""post: a prompt arrives, and isn't accepted yet. pending: one has been accepted behind others. loading, sampling,
decoding: a node whose class says so has begun, the sampler has reported `step`. ending: between success and history."""
Kind = Literal[
    "slow_validation",  # the prompt is accepted only after it was validated for so long
    "early_frames",  # the answer to the POST comes so long after the prompt was accepted
    "other_id",  # the server gives the prompt an id of its own
    "answer_lost",  # the prompt is accepted, then the POST's connection is cut
    "dropped",  # all sockets are cut
    "reconnect_refused",  # all sockets are cut, and new ones refused with a 502
    "deaf_socket",  # all sockets are cut; new ones are sent nothing, after `step` frames
    "silent",  # the sockets stay open, and nothing is sent on them
    "slow_reader",  # one reader is so slow that nobody is sent anything; all of it comes afterwards
    "malformed_frames",  # frames that nobody understands, between the others
    "duplicate_frames",  # each frame comes twice
    "foreign_frames",  # between the others, broadcast frames of somebody else's prompt
    "foreign_prompts",  # somebody else's prompts come and go: a status message each second
    "worker_stalled",  # the worker stands still
    "frozen",  # everything stands still, connections stay open
    "http_hangs",  # no request is answered; the sockets live
    "history_late",  # success is sent so long before history has the prompt
    "history_500",  # history can't be read
    "interrupted",  # somebody interrupts what runs
    "prompt_lost",  # the server forgets the prompt
    "killed",  # the server is gone
    "restarted",  # the server is gone, and comes again on the same port, empty
]
MOMENTS: tuple[Moment, ...] = get_args(Moment)
KINDS: tuple[Kind, ...] = get_args(Kind)

_DEAD: tuple[Kind, ...] = ("killed", "restarted")

BEFORE_HISTORY = "before history"
"""The breakpoint between a prompt's execution_success and its entry in history."""
BETWEEN_PROMPTS = "between prompts"
"""The breakpoint between a prompt's very last message and the start of the next: none runs then (recording g)."""
PENDING_SECONDS = 0.5
"""From the answer to the POST until the moment `pending`."""
TICK_SECONDS = 0.004
"""Between two looks whether a fault or a breakpoint is over, at any speed."""
_MALFORMED: tuple[Frame, ...] = (
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
_FOREIGN_ID = "00000000-0000-0000-0000-000000000000"
_FOREIGN: tuple[Frame, ...] = (
    message("progress", {"value": 3, "max": 4, "prompt_id": _FOREIGN_ID, "node": "5"}),
    PREVIEW.to_bytes(4, "big") + b"\0\0\0\x01\xff\xd8\xff\xd9",
    TEXT.to_bytes(4, "big") + b"\0\0\0\x02zz" + b"somebody else's text",
    message(
        "execution_interrupted", {"prompt_id": _FOREIGN_ID, "node_id": "5", "node_type": "KSampler", "executed": []}
    ),
)


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong, from a moment on, for so many seconds at speed 1."""

    kind: Kind
    moment: Moment
    seconds: float = math.inf
    step: int = 2


@dataclass(slots=True)
class BegunFault:
    """A fault that has begun, and when it is over; times are seconds since the epoch."""

    fault: Fault
    began: float
    until: float


@dataclass(slots=True)
class RequestRecord:
    """A request that came, and when it had its answer or its connection broke; times are seconds since the epoch."""

    method: str
    path: str
    began: float
    ended: float = math.inf


@dataclass(slots=True)
class Breakpoint:
    """A point where the worker stops, once, until `release`. See `Simulator.pause_at`."""

    point: str
    step: float
    reached: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)

    def release(self) -> None:
        self.released.set()


class Script:
    """The faults and breakpoints of one simulator, and what came of them. All but `play` happens in its event loop.

    `on_begin` is called for each fault that begins; it does to the server what is done once. What lasts, the server
    asks for.
    """

    def __init__(self, speed: float, on_begin: Callable[[Fault], None]) -> None:
        self.begun: list[BegunFault] = []
        self.requests: list[RequestRecord] = []
        self.accepted: set[str] = set()
        """The prompts that the server accepted while something was played."""
        self.outcomes: dict[str, str] = {}
        """How the execution of each ended (`success`, `error`, `interrupted`), also where history never got it."""
        self.last_finished = 0.0
        """When history got a prompt last, in seconds since the epoch."""
        self.playing = False
        self.breakpoints: list[Breakpoint] = []
        self._speed = speed
        self._on_begin = on_begin
        self._waiting: list[Fault] = []
        self._frames_sent = 0

    def play(self, faults: tuple[Fault, ...]) -> None:
        """Lets these faults wait for their moments; requests are recorded from here on."""
        self._waiting += faults
        self.playing = True

    def active(self, *kinds: Kind) -> Fault | None:
        """The first fault of one of these kinds that holds now."""
        now = time.time()
        return next((each.fault for each in self.begun if each.fault.kind in kinds and now < each.until), None)

    @property
    def server_dead(self) -> bool:
        return self.active(*_DEAD) is not None

    # Moments

    def reach(self, moment: Moment, step: float = 0) -> None:
        """Begins what has waited for this moment."""
        for fault in [fault for fault in self._waiting if fault.moment == moment]:
            if moment != "sampling" or step >= fault.step:
                self._waiting.remove(fault)
                now = time.time()
                self.begun.append(BegunFault(fault, now, now + fault.seconds / self._speed))
                self._on_begin(fault)

    async def node_reached(self, class_type: str, step: float) -> None:
        """A node of that class has started (step 0) or reported a step: the worker waits here while it has to."""
        if step and "Sampler" in class_type:
            self.reach("sampling", step)
        elif not step and "Loader" in class_type:
            self.reach("loading")
        elif not step and "Decode" in class_type:
            self.reach("decoding")
        await self.wait_while_stalled()

    def prompt_accepted(self, prompt_id: str, *, behind: bool) -> None:
        """A prompt was put into the queue; *behind* others."""
        if self.playing:
            self.accepted.add(prompt_id)
        if behind and any(fault.moment == "pending" for fault in self._waiting):
            asyncio.get_running_loop().call_later(PENDING_SECONDS / self._speed, self.reach, "pending")

    def prompt_executed(self, prompt_id: str, outcome: str) -> None:
        if self.playing:
            self.outcomes[prompt_id] = outcome
        self.reach("ending")

    # What the worker and the server ask

    async def wait(self, seconds: float) -> None:
        """The worker's wait of so many seconds at speed 1, longer where a fault stops it."""
        await asyncio.sleep(seconds / self._speed)
        await self.wait_while_stalled()

    async def pause(self, point: str, step: float = 0) -> None:
        """The worker waits here if there is a breakpoint."""
        found = next((each for each in self.breakpoints if (each.point, each.step) == (point, step)), None)
        if found is None:
            return
        self.breakpoints.remove(found)
        found.reached.set()
        while not found.released.is_set():
            await asyncio.sleep(TICK_SECONDS)

    async def wait_while_stalled(self) -> None:
        """The worker waits while a fault makes it stand still, or the server is dead."""
        while self.active("worker_stalled", "frozen", *_DEAD):
            await asyncio.sleep(TICK_SECONDS)

    async def wait_for_history(self) -> None:
        """The worker is about to write into history."""
        await self.wait_while("history_late")
        await self.wait_while_stalled()
        self.last_finished = time.time()

    async def outgoing(self, frame: Frame) -> list[Frame]:
        """What goes out on a socket instead of this frame."""
        await self.wait_while("slow_reader", "frozen")
        if self.active("silent", *_DEAD):
            return []
        self._frames_sent += 1
        frames = [frame, frame] if self.active("duplicate_frames") else [frame]
        if self.active("malformed_frames"):
            frames.insert(0, _MALFORMED[self._frames_sent % len(_MALFORMED)])
        if self.active("foreign_frames"):
            frames.insert(0, _FOREIGN[self._frames_sent % len(_FOREIGN)])
        return frames

    async def wait_while(self, *kinds: Kind) -> None:
        """Waits while a fault of one of these kinds holds; the death of the server ends it."""
        while self.active(*kinds) and not self.server_dead:
            await asyncio.sleep(TICK_SECONDS)
