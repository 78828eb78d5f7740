"""The delivery: one thread calls all hooks, one at a time, in order, and no reporter can hurt the run with it.

The main thread publishes events and watches that hooks return. A reporter whose hook raises or doesn't return is
switched off for the rest of the run; a thread that is stuck in a hook is abandoned, and a new one goes on after it.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from comfyreport import events as ev
from comfyreport.errors import MachineLimitError, describe_fault, is_closed_pipe, machine_limit, one_line
from comfyreport.events import RunViews
from comfyreport.reporting.event_queue import EventQueue
from comfyreport.reporting.hookspecs import PREFIX
from comfyreport.reporting.plugins import Reporter
from comfyreport.reporting.validation import Hook
from comfyreport.text import printable
from comfyreport.timing import Timing
from comfyreport.worker import Worker, call_within

EVENT_HOOK = f"{PREFIX}event"
TICK_HOOK = f"{PREFIX}tick"
CLOSE_HOOK = f"{PREFIX}close"

# The part of (event, run) that a hook wants, by the names of its arguments.
_PARTS = {
    (): slice(0),
    ("event",): slice(1),
    ("run",): slice(1, None),
    ("event", "run"): slice(None),
    ("run", "event"): slice(None, None, -1),
}


class _Close(NamedTuple):
    """A queue entry: close the reporters, all of them or those that don't carry the event stream."""

    everybody: bool
    done: threading.Event


class _Call(NamedTuple):
    """One call of a hook. The delivery pops *claim* when the call returns, the main thread when it takes too long: the
    one that got it decides how the call ended."""

    reporter: Reporter
    hook: str
    function: Callable[..., object]
    arguments: Sequence[object]
    started_at: float
    claim: list[None]


class Delivery:
    """Calls the hooks of reporters with events, on a thread of its own.

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
        self.views = RunViews()
        self._timing = timing
        self._complain = complain
        self._clock = clock
        self._trace = trace
        self._queue = EventQueue(timing.backpressure)
        self._batch: deque[Any] = deque()
        self._calls = self._all_calls()
        self._current: _Call | None = None
        self._now = time.monotonic()
        self._hooks: dict[type[ev.Event], list[tuple[Reporter, str, Hook]]] = {}
        self._warned: set[str] = set()
        self._seconds_by_reporter: dict[str, float] = {}
        self._closing = False
        self._current_limit = timing.close_limit
        self._failed_count = 0
        self._fault: str | None = None
        self._stderr_worker = Worker()
        self._generation = 0
        self._ticks = any(TICK_HOOK in reporter.hooks for reporter in reporters)
        self._last_tick = 0.0
        self._started = False
        self._spawn()

    # --- the main thread's side

    def publish(self, events: Sequence[ev.Event]) -> None:
        """Queue *events* for the reporters; returns at once, unless very many wait."""
        if events:
            self._queue.put(events)

    def wants(self, event_type: str) -> bool:
        """Whether a reporter that is still alive implements the hook of *event_type*."""
        return any(reporter.alive and PREFIX + event_type in reporter.hooks for reporter in self.reporters)

    def watch(self) -> list[str]:
        """Switch off a reporter whose hook doesn't return; to be called every `Timing.tick` or so.

        Returns warnings: of each reporter that is slow, once.
        """
        current = self._current
        if current is None:
            return []
        lasted = time.monotonic() - current.started_at
        limit = self._current_limit if self._closing else self._timing.hook_limit
        if lasted > limit:
            self._abandon(current, self._timeout_message(current, limit))
        elif lasted > self._timing.slow_hook_warn and current.reporter.name not in self._warned and not self._closing:
            self._warned.add(current.reporter.name)
            return [f"reporter {current.reporter.name} has been in {current.hook} for {lasted:.0f} s; the run goes on"]
        return []

    def close(self, *, everybody: bool, hurry: Callable[[], bool]) -> bool:
        """Deliver what waits, then close reporters; False if *hurry* said to leave before that was done.

        The events that are queued have `Timing.close_limit` seconds, and so has each reporter that closes in time. Then
        the reporter that used the most of them is switched off, behind which the rest share as much time again.
        Once all are closed, no thread of the delivery is left but those in hooks that never returned.
        """
        self._closing = True
        self._seconds_by_reporter.clear()
        done = threading.Event()
        self._queue.put([_Close(everybody, done)])
        started_at = time.monotonic()
        deadline, failed_count, closed_count = started_at + self._current_limit, self._failed_count, 0
        while not done.wait(min(0.02, self._timing.close_limit / 10)):
            if hurry():
                return done.is_set()
            self.watch()
            now = time.monotonic()
            if (closed := sum(reporter.closed for reporter in self.reporters)) > closed_count:
                deadline, closed_count = now + self._current_limit, closed
            if self._failed_count == failed_count and now > deadline:
                self._drop_slowest()
            if self._failed_count != failed_count:
                # One was switched off: the others get time for themselves.
                deadline, failed_count = now + self._current_limit, self._failed_count
            if not done.is_set() and (not self._thread.is_alive() or now - started_at > 5 * self._timing.close_limit):
                self._note_fault("the delivery came to no end")
                return False
        if everybody:
            self._thread.join(self._timing.close_limit)
        self._wait_for_terminals(hurry)
        if self._trace is not None:
            with contextlib.suppress(Exception):
                self._stderr_worker.run(lambda: None, self._timing.stderr_write)
        return True

    def _wait_for_terminals(self, hurry: Callable[[], bool]) -> None:
        """Wait until the terminals of closed reporters take text again; one that doesn't has failed its reporter."""
        deadline = time.monotonic() + self._timing.terminal_limit
        for reporter in self.reporters:
            stream = reporter.stream
            while stream is not None and reporter.closed and stream.stalled and not hurry():
                if time.monotonic() > deadline:
                    stream.give_up()
                    self._switch_off(reporter, f"its terminal took no text for {self._timing.terminal_limit:.3g} s")
                time.sleep(min(0.02, self._timing.terminal_limit / 10))

    def complain(self, line: str) -> None:
        """Write one line to stderr; waits only as long as stderr is read."""
        with contextlib.suppress(Exception):
            self._stderr_worker.run(lambda: self._complain(printable(line)), self._timing.stderr_write)

    def announce(self, line: str) -> None:
        """Write one line to stderr, in the background."""
        self._stderr_worker.submit(lambda: self._complain(printable(line)), self._timing.stderr_write)

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
        """Make all calls. An internal error costs the event that was being delivered, and is reported."""
        while True:
            try:
                self._make_calls()
            except BaseException as error:  # noqa: BLE001  otherwise no reporter would get anything any more
                self._note_fault(describe_fault(error), machine_limit(error))
                self._calls = self._all_calls()
            else:
                return

    def _make_calls(self) -> None:
        """Make the calls until none is left or this thread is abandoned. Short: it runs for each event and reporter."""
        for call in self._calls:
            self._current = call
            reason: str | None = None
            try:
                call.function(*call.arguments)
            except BaseException as error:  # noqa: BLE001  SystemExit too; the one place where plugins are called
                reason = self._failure_of(call, error)
            try:
                call.claim.pop()
            except IndexError:
                # The call took too long: this thread was abandoned, and another goes on.
                return
            self._current = None
            self._now = time.monotonic()
            if self._closing or self._trace is not None:
                self._note_time(call)
            if reason is not None:
                self._end_reporter(call, reason)

    def _note_time(self, call: _Call) -> None:
        name, lasted = call.reporter.name, self._now - call.started_at
        self._seconds_by_reporter[name] = self._seconds_by_reporter.get(name, 0.0) + lasted
        trace = self._trace
        if trace is not None:
            with contextlib.suppress(Exception):
                self._stderr_worker.submit(lambda: trace(name, call.hook, lasted), self._timing.stderr_write)

    def _failure_of(self, call: _Call, error: BaseException) -> str:
        """Why a hook failed; empty if its reader closed the pipe. Part of the call: an exception may hang too."""
        reporter = call.reporter
        if reporter.reader_left or (reporter.stream is not None and is_closed_pipe(error)):
            return ""
        return f"{call.hook} raised {one_line(error)}"

    def _end_reporter(self, call: _Call, reason: str) -> None:
        if reason:
            self._switch_off(call.reporter, reason)
            self._now = time.monotonic()
        else:
            call.reporter.reader_left = True

    def _switch_off(self, reporter: Reporter, reason: str) -> None:
        if reporter.failure is None:
            reporter.failure = reason
            if reporter.stream is not None:
                with contextlib.suppress(Exception):
                    call_within(self._timing.stderr_write, reporter.stream.release)
            self.complain(f"reporter {reporter} failed and was switched off: {reason}")

    def _note_fault(self, what: str, limit: MachineLimitError | None = None) -> None:
        if self._fault is None and limit is not None:
            self._fault = f"comfyreport: {limit.message}"
            self.complain(f"reporters weren't told everything: {limit.message} ({limit.hint})")
        elif self._fault is None:
            self._fault = f"comfyreport: internal error: {what}"
            self.complain(f"internal error: {what}; please report this as a fault of comfyreport")

    @staticmethod
    def _timeout_message(call: _Call, limit: float) -> str:
        return f"did not return from {call.hook} within {limit:.3g} s"

    def _abandon(self, call: _Call, reason: str) -> None:
        """Abandon the thread that is stuck in *call* and go on with a new one."""
        try:
            call.claim.pop()
        except IndexError:
            return
        self._current = None
        call.reporter.stuck = True
        self._switch_off(call.reporter, reason)
        self._count_failure()
        # The next call has its whole time.
        self._now = time.monotonic()
        self._spawn()

    def _count_failure(self) -> None:
        """Count a reporter that was switched off. While closing, the rest share the limit, to bound their sum."""
        self._failed_count += 1
        if self._closing and self._current_limit == self._timing.close_limit:
            self._current_limit /= max(1, sum(reporter.alive for reporter in self.reporters))

    def _drop_slowest(self) -> None:
        current = self._current
        seconds = dict(self._seconds_by_reporter)
        if current is not None:
            name = current.reporter.name
            seconds[name] = seconds.get(name, 0.0) + time.monotonic() - current.started_at
        # One that was switched off may still delay the others: its destination is closed too.
        candidates = [
            each for each in self.reporters if each.alive or (current is not None and each is current.reporter)
        ]
        if not candidates:
            return
        slowest = max(candidates, key=lambda reporter: seconds.get(reporter.name, 0.0))
        reason = f"was too slow: events still waited {self._current_limit:.3g} s after the end"
        if current is not None and current.reporter is slowest:
            if time.monotonic() - current.started_at > 0.9 * self._current_limit:
                # It was one single call, which began just after the closing did.
                reason = self._timeout_message(current, self._current_limit)
            self._abandon(current, reason)
        else:
            self._switch_off(slowest, reason)
            self._count_failure()
        self._seconds_by_reporter.clear()

    def _all_calls(self) -> Iterator[_Call]:
        """All calls up to the last close. A generator, so that a new thread can go on where another is stuck."""
        while True:
            if not self._batch:
                self._batch = self._queue.take(self._tick_timeout())
            self._now = time.monotonic()
            self._started = self._started or bool(self._batch)
            while self._batch:
                item = self._batch.popleft()
                if isinstance(item, _Close):
                    yield from self._close_calls(item)
                    if item.everybody:
                        return
                else:
                    yield from self._event_calls(item)
            yield from self._tick_calls()
            if not self._queue.more:
                # Waking this thread for each event would cost more than the event.
                time.sleep(self._timing.batch_pause)

    def _tick_timeout(self) -> float | None:
        open_run = self._ticks and self._started and self.views.newest_open is not None
        return self._timing.tick if open_run else None

    def _event_calls(self, event: ev.Event) -> Iterator[_Call]:
        view = self.views.last
        if event.run_index == view.run_index:
            # What `RunViews.apply` does, without the cost of one more call for each event of a single run.
            view.apply(event)
        else:
            view = self.views.apply(event)
        values = event, view
        hooks = self._hooks.get(type(event))
        for reporter, name, (function, wanted, _) in self._hooks_for(event) if hooks is None else hooks:
            if reporter.alive:
                # Not _Call(…), which takes three times as long.
                yield tuple.__new__(_Call, (reporter, name, function, values[_PARTS[wanted]], self._now, [None]))

    def _hooks_for(self, event: ev.Event) -> list[tuple[Reporter, str, Hook]]:
        """The hooks to call for events of this type, in order."""
        names = (EVENT_HOOK, PREFIX + event.type)  # type: ignore[attr-defined]
        hooks = [(each, name, each.hooks[name]) for name in names for each in self._in_order(name)]
        self._hooks[type(event)] = hooks
        return hooks

    def _in_order(self, hook: str) -> list[Reporter]:
        """The reporters that have *hook*, in the order in which it is called."""
        having = [reporter for reporter in self.reporters if hook in reporter.hooks]
        return sorted(having, key=lambda reporter: reporter.hooks[hook].rank)

    def _call(self, reporter: Reporter, name: str, function: Callable[..., object], *arguments: object) -> _Call:
        return _Call(reporter, name, function, arguments, self._now, [None])

    def _tick_calls(self) -> Iterator[_Call]:
        view = self.views.newest_open
        if view is None or self._tick_timeout() is None:
            return
        elapsed = self._clock()
        if elapsed - self._last_tick < self._timing.tick:
            return
        self._last_tick = elapsed
        values = {"elapsed": elapsed, "run": view}
        for reporter in self._in_order(TICK_HOOK):
            hook = reporter.hooks[TICK_HOOK]
            if reporter.alive:
                yield self._call(reporter, TICK_HOOK, hook.function, *(values[name] for name in hook.arguments))

    def _close_calls(self, order: _Close) -> Iterator[_Call]:
        first = self._in_order(CLOSE_HOOK)
        for reporter in [*first, *(each for each in self.reporters if each not in first)]:
            if reporter.closed or (reporter.carries_stream and not order.everybody):
                continue
            hook = reporter.hooks.get(CLOSE_HOOK)
            if hook is not None and reporter.alive:
                yield self._call(reporter, CLOSE_HOOK, hook.function)
            if reporter.stream is not None and not reporter.stuck:
                # Also if it was switched off: the core opened it.
                yield self._call(reporter, "close of its destination", reporter.stream.close)
            reporter.closed = True
        order.done.set()
