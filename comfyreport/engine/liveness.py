"""Whether the connection lives: when the socket and HTTP brought something last, and what silence means."""

from __future__ import annotations

from typing import Any

from comfyreport import events as ev
from comfyreport.errors import UnreachableError
from comfyreport.events import Instant
from comfyreport.run import Run
from comfyreport.timing import Timing


class Liveness:
    """When the socket and HTTP brought something last, and the events that follow. Times are seconds of `elapsed`.

    `spectator`: the prompt is another client's, whose socket alone is told of it: quiet says nothing.
    """

    def __init__(self, run: Run, timing: Timing, now: float, *, loopback: bool) -> None:
        self.open = False
        self.ever_open = False
        self.was_down = False
        self.dropped = False
        self._run = run
        self._timing = timing
        self._loopback = loopback
        # Bytes that are sent, and all of them, while something is being sent.
        self._upload: tuple[int, int] | None = None
        self._last_message_at = now
        self._last_run_message_at = now
        self._last_answer_at = now
        self._opened_at = now
        self._run_message_seen = False
        self._refused = False
        self._polling = False
        self._stalled = False
        self._deaf = False
        self._in_queue: bool | None = None
        self.spectator = False

    # --- what happens

    def start(self, now: float) -> None:
        """The submission leaves: silence counts from here."""
        self._last_message_at = self._last_run_message_at = self._last_answer_at = now

    def opened(self, at: Instant) -> list[ev.Event]:
        """The socket stands."""
        state = "restored" if self.ever_open else "connected"
        self.open = self.ever_open = True
        self._refused = self._run_message_seen = self._deaf = self._polling = False
        self._last_message_at = self._opened_at = at.elapsed
        return self._emit(ev.ConnectionChanged, at, state=state)

    def closed(self, error: UnreachableError | None, at: Instant) -> list[ev.Event]:
        """The socket is gone, or could not be opened again."""
        self._note_refusal(error)
        if not self.open:
            return []
        self.open = self._polling = False
        self.dropped = True
        self._run.miss_messages()
        detail = error.message if error is not None else "the server closed the connection"
        return self._emit(ev.ConnectionChanged, at, state="lost", detail=detail)

    def messages_received(self, at: Instant, *, of_run: bool) -> list[ev.Event]:
        """Messages came; *of_run*: some of them are about this run.

        Once it runs, those of others, whose prompts come and go, break no silence.
        """
        if of_run or not self._run.started:
            self._last_message_at = at.elapsed
            self._stalled = False
        if not of_run:
            return []
        if not self._run.outcome.finished:
            # What comes behind the end of a run says nothing of it.
            self._last_run_message_at = at.elapsed
        self._run_message_seen = True
        was_polling, self._polling, self._deaf = self._polling, False, False
        return self._emit(ev.ConnectionChanged, at, state="restored") if was_polling else []

    def answered(self, at: Instant, *, in_queue: bool | None) -> list[ev.Event]:
        """The server answered over HTTP; *in_queue*: whether its queue has the prompt, None if that isn't known."""
        self._last_answer_at = at.elapsed
        self._refused = False
        self._in_queue = in_queue
        if in_queue:
            # Whatever happened to it, it hasn't forgotten the prompt.
            self.was_down = self.dropped = False
        events: list[ev.Event] = []
        if self.open and in_queue and not self._deaf and self._expects_messages(at.elapsed):
            self._deaf = True
            message = "the socket is open but tells nothing of this run; HTTP tells how it goes"
            events += self._emit(ev.Warning, at, code="deaf_socket", message=message)
        if (self._deaf or not self.open) and self.ever_open and not self._polling:
            self._polling = True
            events += self._emit(ev.ConnectionChanged, at, state="polling", detail="asking over HTTP how the run goes")
        return events

    def note_upload(self, upload: tuple[int, int] | None, now: float) -> None:
        """How far the upload is, as `Client` tells it. It may take minutes: as long as it goes on, nobody is silent."""
        before, self._upload = self._upload, upload
        if before is not None and upload is None:
            self.start(now)
        elif upload != before:
            self._last_answer_at = now

    def slept(self, seconds: float) -> None:
        """This process did nothing for so long: it was stopped, or the machine slept. Nobody was silent then."""
        self._run.nodes.lose_track()
        self._last_message_at += seconds
        self._last_run_message_at += seconds
        self._last_answer_at += seconds
        self._opened_at += seconds

    def call_failed(self, error: BaseException) -> None:
        """A call over HTTP failed."""
        self._note_refusal(error)
        if isinstance(error, UnreachableError) and error.code == "not_comfyui" and error.retryable:
            # A proxy's 502 or the like: there is no server behind it.
            self.was_down = True

    def _note_refusal(self, error: BaseException | None) -> None:
        known = error if isinstance(error, UnreachableError) else UnreachableError("")
        self._refused = known.code == "refused" and not known.sent
        self.was_down = self.was_down or self._refused

    def _expects_messages(self, now: float) -> bool:
        """Whether the socket was opened anew a while ago: only then is silence of a running prompt like deafness.

        The server drops the newer socket of a client when the older one closes (ComfyUI #16010).
        """
        if self.spectator:
            return False
        fresh = now - self._opened_at < self._timing.silence
        return self._run.missed_messages and self._run.started and not self._run_message_seen and not fresh

    # --- what follows

    def alive(self, now: float) -> bool:
        """Whether the socket tells of the run, so that there is no need to ask."""
        return self.open and self._run_message_seen and now - self._last_run_message_at < self._timing.silence

    def answers(self, now: float) -> bool:
        """Whether the server answers over HTTP."""
        return now - self._last_answer_at < 2 * self._timing.poll_max

    def silent(self, now: float) -> bool:
        """Whether it is time for a heartbeat and a look over HTTP."""
        return now - self._last_message_at >= self._timing.silence

    def unanswered_too_long(self, now: float) -> float | None:
        """For how many seconds no message was about this run, and no answer came; None while that is not too long."""
        unanswered = now - max(self._last_run_message_at, self._last_answer_at)
        refused = self._refused and self._loopback
        limit = self._timing.lost_after_refused if refused else self._timing.lost_after
        return unanswered if unanswered > limit else None

    def heartbeat(self, at: Instant) -> list[ev.Event]:
        """The heartbeat, behind the warning of a stall when silence has lasted long."""
        silent = at.elapsed - self._last_message_at
        events: list[ev.Event] = []
        expected = self.spectator or not self._run.started
        waits = self._run.queued and expected and self._answered_since and self._in_queue
        # An average: a step may well take twice as long.
        limit = max(self._timing.stall_warn, 2 * self._run.expected_silence)
        quiet = self._run.sent and self._upload is None and silent >= limit
        if quiet and not self._stalled and not waits:
            self._stalled = True
            events += self._emit(ev.Warning, at, code="stalled", message=self._stall_message(at.elapsed, silent))
        return events + self._run.heartbeat(at, silent, self._upload)

    @property
    def _answered_since(self) -> bool:
        """Whether the server has answered since it was heard last."""
        return self._last_answer_at > self._last_message_at

    def _stall_message(self, now: float, silent: float) -> str:
        message = f"nothing heard for {silent:.0f} s"
        if not self._answered_since or not self.answers(now):
            return f"{message}; the server does not answer over HTTP either"
        if self._in_queue is None:
            return f"{message}; the server still answers"
        there = "its queue still shows the prompt" if self._in_queue else "its queue shows the prompt no more"
        return f"{message}; the server still answers, and {there}"

    def _emit(self, cls: Any, at: Instant, **fields: Any) -> list[ev.Event]:
        return self._run.emit(cls, at, **fields)
