"""The delivery: one thread calls all hooks, one at a time, in order, and no reporter can hurt the run with it.

The main thread publishes events and watches. A hook that raises costs its reporter the rest of the run; one that
doesn't return does too: its thread is left behind, and a new one goes on where it stood.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from comfyreport import events as ev
from comfyreport.errors import describe_fault, one_line
from comfyreport.events import RunView
from comfyreport.reporting.event_queue import EventQueue
from comfyreport.reporting.hookspecs import PREFIX
from comfyreport.reporting.plugins import Reporter
from comfyreport.reporting.validation import Hook
from comfyreport.reporting.worker import Worker, call_within
from comfyreport.text import printable
from comfyreport.timing import Timing

EVENT_HOOK = f"{PREFIX}event"
TICK_HOOK = f"{PREFIX}tick"
CLOSE_HOOK = f"{PREFIX}close"


class _Close(NamedTuple):
    """Asks the delivery to close reporters: all of them, or those that don't carry the event stream."""

    everybody: bool
    done: threading.Event


class _Call(NamedTuple):
    """One call of a hook. The delivery, when it comes back, and the main thread, when it gives it up, both pop the
    *claim*: whoever gets it decides how the call ended."""

    reporter: Reporter
    hook: str
    function: Callable[..., object]
    arguments: Sequence[object]
    began: float
    claim: list[None]


class Delivery:
    """Tells events to reporters, on a thread of its own.

    :param complain: writes one line to stderr; called when a reporter is switched off. It may block.
    :param clock: monotonic seconds since the stream started: the `elapsed` of ticks.
    """

    def __init__(
        self,
        reporters: Sequence[Reporter],
        *,
        timing: Timing,
        complain: Callable[[str], None],
        clock: Callable[[], float],
        trace: Callable[[str, str, float], None] | None = None,
    ) -> None:
        self.reporters = reporters
        self.view = RunView()
        self._timing = timing
        self._complain = complain
        self._clock = clock
        self._trace = trace
        self._queue = EventQueue(timing.backpressure)
        self._taken: deque[Any] = deque()
        self._calls = self._work()
        self._busy: _Call | None = None
        self._now = time.monotonic()
        self._hooks: dict[type[ev.Event], list[tuple[Reporter, str, Hook]]] = {}
        self._warned: set[str] = set()
        self._spent: dict[str, float] = {}
        self._closing = False
        self._share = timing.close_limit
        self._lost = 0
        self._fault: str | None = None
        self._stderr_worker = Worker()
        self._generation = 0
        self._ticks = any(TICK_HOOK in reporter.hooks for reporter in reporters)
        self._last_tick = 0.0
        self._begun = False
        self._spawn()

    # --- the main thread's side

    def publish(self, events: Sequence[ev.Event]) -> None:
        """Hand *events* over; returns at once."""
        if events:
            self._queue.put(events)

    def wants(self, event_type: str) -> bool:
        """Whether a reporter that is still there implements the hook of *event_type*."""
        return any(reporter.alive and PREFIX + event_type in reporter.hooks for reporter in self.reporters)

    def watch(self) -> list[str]:
        """To be called now and then: switches off a reporter whose hook doesn't return.

        Returns what to warn of: reporters that are slow for the first time.
        """
        busy = self._busy
        if busy is None:
            return []
        lasted = time.monotonic() - busy.began
        limit = self._share if self._closing else self._timing.hook_limit
        if lasted > limit:
            self._abandon(busy, self._no_return(busy, limit))
        elif lasted > self._timing.slow_hook_warn and busy.reporter.name not in self._warned and not self._closing:
            self._warned.add(busy.reporter.name)
            return [f"reporter {busy.reporter.name} has been in {busy.hook} for {lasted:.0f} s; the run goes on"]
        return []

    def close(self, *, everybody: bool, hurry: Callable[[], bool]) -> bool:
        """Deliver what waits, then close reporters; False if *hurry* said to leave before that was done.

        A backlog has `Timing.close_limit`; then the reporter that took the most time of it is switched off. Once one
        was given up, in whatever way, the others share that time once more, however many they are.
        Once everybody is closed, no thread of the delivery is left but those in hooks that never returned.
        """
        self._closing = True
        self._spent.clear()
        done = threading.Event()
        self._queue.put([_Close(everybody, done)])
        began = time.monotonic()
        window, lost = began + self._share, self._lost
        while not done.wait(min(0.02, self._timing.close_limit / 10)):
            if hurry():
                return done.is_set()
            self.watch()
            now = time.monotonic()
            if self._lost == lost and now > window:
                self._drop_slowest()
            if self._lost != lost:
                # Whoever it was that kept the others waiting is gone.
                window, lost = now + self._share, self._lost
            if not done.is_set() and (not self._thread.is_alive() or now - began > 5 * self._timing.close_limit):
                self._note_fault("the delivery came to no end")
                return False
        if everybody:
            self._thread.join(self._timing.close_limit)
        if self._trace is not None:
            with contextlib.suppress(Exception):
                self._stderr_worker.run(lambda: None, self._timing.stderr_write)
        return True

    def complain(self, line: str) -> None:
        """Write one line to stderr; it is waited for only as long as somebody reads there."""
        with contextlib.suppress(Exception):
            self._stderr_worker.run(lambda: self._complain(printable(line)), self._timing.stderr_write)

    def failures(self) -> tuple[str, ...]:
        """The reporters that were switched off, and why; a fault of the delivery itself too."""
        failed = tuple(f"{r}: {r.failure}" for r in self.reporters if r.failure is not None)
        return failed if self._fault is None else (*failed, self._fault)

    # --- the thread's side

    def _spawn(self) -> None:
        self._generation += 1
        name = f"comfyreport-delivery-{self._generation}"
        self._thread = threading.Thread(target=self._deliver, name=name, daemon=True)
        self._thread.start()

    def _deliver(self) -> None:
        """Make calls to the last one. A fault of ours costs what was being told, and is told itself."""
        while True:
            try:
                self._make_calls()
            except BaseException as error:  # noqa: BLE001  no reporter would be told anything any more
                self._note_fault(describe_fault(error))
                self._calls = self._work()
            else:
                return

    def _make_calls(self) -> None:
        """Make the calls. What is done here is done for each event and reporter: it is kept short."""
        for call in self._calls:
            self._busy = call
            why: str | None = None
            try:
                call.function(*call.arguments)
            except BaseException as error:  # noqa: BLE001  SystemExit too; the one place where plugins are called
                why = self._judge(call, error)
            try:
                call.claim.pop()
            except IndexError:
                # Given up on while it was away: another thread has gone on.
                return
            self._busy = None
            self._now = time.monotonic()
            if self._closing or self._trace is not None:
                self._note_time(call)
            if why is not None:
                self._failed(call, why)

    def _note_time(self, call: _Call) -> None:
        name, lasted = call.reporter.name, self._now - call.began
        self._spent[name] = self._spent.get(name, 0.0) + lasted
        trace = self._trace
        if trace is not None:
            with contextlib.suppress(Exception):
                self._stderr_worker.submit(lambda: trace(name, call.hook, lasted), self._timing.stderr_write)

    def _judge(self, call: _Call, error: BaseException) -> str:
        """Why a hook failed; empty if its reader went away. What exceptions of others do here is a part of the call."""
        reporter = call.reporter
        if reporter.reader_left or (isinstance(error, BrokenPipeError) and reporter.stream is not None):
            return ""
        return f"{call.hook} raised {one_line(error)}"

    def _failed(self, call: _Call, why: str) -> None:
        if why:
            self._switch_off(call.reporter, why)
            self._now = time.monotonic()
        else:
            call.reporter.reader_left = True

    def _switch_off(self, reporter: Reporter, why: str) -> None:
        if reporter.failure is None:
            reporter.failure = why
            if reporter.stream is not None:
                with contextlib.suppress(Exception):
                    call_within(self._timing.stderr_write, reporter.stream.release)
            self.complain(f"reporter {reporter} failed and was switched off: {why}")

    def _note_fault(self, what: str) -> None:
        if self._fault is None:
            self._fault = f"comfyreport: internal error: {what}"
            self.complain(f"internal error: {what}; please report this as a fault of comfyreport")

    @staticmethod
    def _no_return(call: _Call, limit: float) -> str:
        return f"did not return from {call.hook} within {limit:.3g} s"

    def _abandon(self, call: _Call, why: str) -> None:
        """Leave the thread that is stuck in *call* behind and go on with a new one."""
        try:
            call.claim.pop()
        except IndexError:
            return
        self._busy = None
        call.reporter.stuck = True
        self._switch_off(call.reporter, why)
        self._lose()
        # The next call has its whole time.
        self._now = time.monotonic()
        self._spawn()

    def _lose(self) -> None:
        """Note that one is given up. While closing, the others have a share of the time: it must not grow with them."""
        self._lost += 1
        if self._closing and self._share == self._timing.close_limit:
            self._share /= max(1, sum(reporter.alive for reporter in self.reporters))

    def _drop_slowest(self) -> None:
        busy = self._busy
        spent = dict(self._spent)
        if busy is not None:
            name = busy.reporter.name
            spent[name] = spent.get(name, 0.0) + time.monotonic() - busy.began
        # One that was switched off may keep the others waiting all the same: its destination is still to be closed.
        there = [each for each in self.reporters if each.alive or (busy is not None and each is busy.reporter)]
        if not there:
            return
        slowest = max(there, key=lambda reporter: spent.get(reporter.name, 0.0))
        why = f"was too slow: events still waited {self._share:.3g} s after the end"
        if busy is not None and busy.reporter is slowest:
            if time.monotonic() - busy.began > 0.9 * self._share:
                # It was one call, that began a moment after the time did.
                why = self._no_return(busy, self._share)
            self._abandon(busy, why)
        else:
            self._switch_off(slowest, why)
            self._lose()
        self._spent.clear()

    def _work(self) -> Iterator[_Call]:
        """All calls there are to make until the last close. Its state outlives the threads that run through it."""
        while True:
            if not self._taken:
                self._taken = self._queue.take(self._wait())
            self._now = time.monotonic()
            self._begun = self._begun or bool(self._taken)
            while self._taken:
                item = self._taken.popleft()
                if isinstance(item, _Close):
                    yield from self._closes(item)
                    if item.everybody:
                        return
                else:
                    yield from self._tell(item)
            yield from self._tick()
            # Waking this thread for each event would cost more than the event.
            time.sleep(self._timing.batch_pause)

    def _wait(self) -> float | None:
        open_run = self._begun and self.view.result is None
        return self._timing.tick if self._ticks and open_run else None

    def _tell(self, event: ev.Event) -> Iterator[_Call]:
        view = self.view
        view.apply(event)
        arguments: dict[tuple[str, ...], Sequence[object]] = {
            (): (),
            ("event",): (event,),
            ("run",): (view,),
            ("event", "run"): (event, view),
            ("run", "event"): (view, event),
        }
        hooks = self._hooks.get(type(event))
        for reporter, name, (function, wanted) in self._hooks_of(event) if hooks is None else hooks:
            if reporter.alive:
                # Not _Call(…), which takes three times as long.
                yield tuple.__new__(_Call, (reporter, name, function, arguments[wanted], self._now, [None]))

    def _hooks_of(self, event: ev.Event) -> list[tuple[Reporter, str, Hook]]:
        """The hooks to call for events of this type, in order."""
        names = (EVENT_HOOK, PREFIX + event.type)  # type: ignore[attr-defined]
        found = [(each, name, each.hooks[name]) for each in self.reporters for name in names if name in each.hooks]
        self._hooks[type(event)] = found
        return found

    def _call(self, reporter: Reporter, name: str, function: Callable[..., object], *arguments: object) -> _Call:
        return _Call(reporter, name, function, arguments, self._now, [None])

    def _tick(self) -> Iterator[_Call]:
        if self._wait() is None:
            return
        elapsed = self._clock()
        if elapsed - self._last_tick < self._timing.tick:
            return
        self._last_tick = elapsed
        known = {"elapsed": elapsed, "run": self.view}
        for reporter in self.reporters:
            hook = reporter.hooks.get(TICK_HOOK)
            if hook is not None and reporter.alive:
                yield self._call(reporter, TICK_HOOK, hook.function, *(known[name] for name in hook.arguments))

    def _closes(self, order: _Close) -> Iterator[_Call]:
        for reporter in self.reporters:
            if reporter.closed or (reporter.carries_stream and not order.everybody):
                continue
            hook = reporter.hooks.get(CLOSE_HOOK)
            if hook is not None and reporter.alive:
                yield self._call(reporter, CLOSE_HOOK, hook.function)
            if reporter.stream is not None and not reporter.stuck:
                # That of one that was switched off too: the core has opened it.
                yield self._call(reporter, "close of its destination", reporter.stream.close)
            reporter.closed = True
        order.done.set()
