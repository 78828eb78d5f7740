"""Deliveries to look into: reporters that note their hook calls, a run with one event of each type, and no waiting."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, ClassVar, NamedTuple

from comfyreport import events as ev
from comfyreport.reporting.delivery import Delivery
from comfyreport.reporting.hookspecs import PLUGIN_HOOKS, hookimpl
from comfyreport.reporting.plugins import Plugins, Reporter
from comfyreport.reporting.validation import HOOKS
from comfyreport.timing import Timing
from tests.packages import make_plugins
from tests.plugins.events import LATENT, LOADER, SAMPLER, EventBuilder, image, progress

# Far more than anything here takes, and short enough to wait for.
TIMEOUT = 20.0
EVENT, CLOSE = "comfyreport_event", "comfyreport_close"
QUICK = Timing(tick=0.005, hook_limit=20.0, close_limit=20.0, slow_hook_warn=20.0, terminal_limit=20.0)
# For reporters that are stuck: with HeldTime alone, for a busy machine holds a good reporter up as long at times.
STUCK = replace(QUICK, hook_limit=0.4, close_limit=0.6, slow_hook_warn=0.1)


class HookCall(NamedTuple):
    """One call of a hook: who was called, which hook, the event or the elapsed seconds, and the run's status then."""

    name: str
    hook: str
    about: Any
    status: str


class Spy:
    """A reporter that notes its hook calls; `act`, if given, is called with each hook's name and event first."""

    def __init__(self, name: str, hook_calls: list[HookCall], act: Callable[[str, Any], object] | None = None) -> None:
        self._name = name
        self._hook_calls = hook_calls
        self._act = act

    def note_call(self, hook: str, about: Any, run: Any) -> None:
        """Called by each hook."""
        self._hook_calls.append(HookCall(self._name, hook, about, "" if run is None else run.status))
        if self._act is not None:
            self._act(hook, about)


def _method(hook: str) -> Callable[..., None]:
    def tick(self: Spy, elapsed: float, run: Any) -> None:
        self.note_call(hook, elapsed, run)

    def close(self: Spy) -> None:
        self.note_call(hook, None, None)

    def event(self: Spy, event: ev.Event, run: Any) -> None:
        self.note_call(hook, event, run)

    own: dict[str, Callable[..., None]] = {"comfyreport_tick": tick, "comfyreport_close": close}
    return hookimpl(own.get(hook, event))


DELIVERED = HOOKS - PLUGIN_HOOKS
"""The hooks that the delivery calls."""


def spy(
    name: str,
    hook_calls: list[HookCall],
    hooks: Iterable[str] = DELIVERED,
    act: Callable[[str, Any], object] | None = None,
) -> Spy:
    """A reporter that implements *hooks* and notes their calls."""
    kind = type("Spy", (Spy,), {hook: _method(hook) for hook in hooks})
    reporter: Spy = kind(name, hook_calls, act)
    return reporter


def events_of(hook_calls: list[HookCall], name: str) -> list[object]:
    """The events that the reporter of this name got."""
    return [call.about for call in hook_calls if call.name == name and call.hook == EVENT]


def one_of_each() -> list[ev.Event]:
    """A run with an event of each type, in an order that can be."""
    builder = EventBuilder().begin()
    builder.add(ev.QueueChanged, position=1, remaining=2)
    builder.at(1.0).add(ev.RunStarted)
    builder.add(ev.NodeCached, node=LATENT, **progress(0, 2))
    builder.add(ev.NodeStarted, node=SAMPLER, **progress(0, 2))
    builder.at(2.0).step(SAMPLER, 1, 2, 1.0, **progress(0.5, 2))
    builder.add(ev.NodeText, node=SAMPLER, text="half way")
    builder.add(ev.NodePreview, node=SAMPLER, media_type="image/png", image=b"png")
    builder.add(ev.Heartbeat, "client", node=SAMPLER, state="running", **progress(0.5, 2))
    builder.add(ev.Warning, "client", code="stalled", message="quiet here")
    builder.at(3.0).add(ev.NodeFinished, node=SAMPLER, seconds=2.0, **progress(1, 2))
    builder.add(ev.OutputReady, output=image())
    builder.add(ev.OutputSaved, output=image(path="/tmp/x.png", bytes=3))
    events = builder.end()
    assert {type(event) for event in events} == set(ev.EVENT_CLASSES)
    return events


def many_steps(count: int) -> EventBuilder:
    """A run up to its sampler's last of *count* steps, far apart."""
    builder = EventBuilder().begin()
    builder.add(ev.RunStarted)
    builder.node(LOADER, 1.0, 1)
    builder.add(ev.NodeStarted, node=SAMPLER, **progress(1, 2))
    for step in range(1, count + 1):
        builder.at(builder.now + 1.0).step(SAMPLER, step, count, float(step), **progress(1 + step / count / 2, 2))
    return builder


class HeldTime:
    """The delivery's `time`: it passes only while a reporter that isn't one of `PROMPT` is called, a little each time
    that the main thread looks. However busy the machine is, no time passes in the others' calls."""

    PROMPT = ("good", "before", "after", "late")
    delivery: ClassVar[Delivery | None] = None
    sleep = staticmethod(time.sleep)

    def __init__(self) -> None:
        self._now = 0.0

    def monotonic(self) -> float:
        """Seconds that hooks were held."""
        current = None if self.delivery is None else self.delivery._current
        if threading.current_thread() is threading.main_thread() and current is not None:
            self._now += 0.0 if current.reporter.name in self.PROMPT else 0.01
        return self._now


class Session:
    """A delivery with its reporters and its complaints, and the main thread's part as far as it is needed here."""

    def __init__(self, plugins: Plugins, timing: Timing = QUICK) -> None:
        self.complaints: list[str] = []
        self.warnings: list[str] = []
        self.traced: list[tuple[str, str, float]] = []
        self.plugins = plugins
        began = time.monotonic()
        self.delivery = Delivery(
            plugins.reporters,
            timing=timing,
            complain=self.complaints.append,
            clock=lambda: time.monotonic() - began,
            trace=lambda name, hook, seconds: self.traced.append((name, hook, seconds)),
        )
        HeldTime.delivery = self.delivery

    @property
    def reporters(self) -> Sequence[Reporter]:
        return self.plugins.reporters

    def until(self, condition: Callable[[], object]) -> None:
        """Watch, as the main thread does, until *condition* holds."""
        pause = threading.Event()
        deadline = time.monotonic() + TIMEOUT
        while not condition():
            assert time.monotonic() < deadline, "that never happened"
            self.warnings += self.delivery.watch()
            pause.wait(0.002)

    def finish(self, *, everybody: bool = True) -> None:
        """Deliver all and close."""
        assert self.delivery.close(everybody=everybody, hurry=lambda: False)


def session_of(*reporters: object, timing: Timing = QUICK) -> Session:
    """A session of reporters given as objects."""
    plugins = make_plugins()
    for reporter in reporters:
        plugins.add_object(reporter, getattr(reporter, "_name", ""))
    return Session(plugins, timing)


def play(*reporters: object, events: Sequence[ev.Event]) -> Session:
    """Tell *events* to *reporters* and close them."""
    session = session_of(*reporters)
    session.delivery.publish(events)
    session.finish()
    return session


def delivery_threads() -> list[threading.Thread]:
    """The deliveries' threads that are there now."""
    return [thread for thread in threading.enumerate() if thread.name.startswith("comfyreport-delivery")]


@contextmanager
def gate() -> Iterator[threading.Event]:
    """An event that hooks can be stuck at; it opens at the end whatever happens, and the threads behind it end."""
    opened = threading.Event()
    before = set(delivery_threads())
    try:
        yield opened
    finally:
        opened.set()
        for thread in set(delivery_threads()) - before:
            thread.join(TIMEOUT)
