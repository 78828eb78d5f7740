"""What feeds the loop: one inbox, the reader that fills it with messages, calls over HTTP, and the user's requests.

Every blocking call is made on a thread of its own, which may be left behind; the loop waits for nothing but the inbox.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from enum import Enum
from typing import Any, NamedTuple

from comfyreport.engine.inbox import Inbox
from comfyreport.errors import UnreachableError
from comfyreport.net.client import Client
from comfyreport.net.failures import NETWORK_ERRORS, no_answer
from comfyreport.net.frames import Skipped
from comfyreport.net.websocket import Socket
from comfyreport.run.verdict import Cancel


class SocketOpened(NamedTuple):
    """The reader's connection stands and its feature flags are sent."""


class SocketClosed(NamedTuple):
    """The reader's connection ended, or never came to be; *fault* is what it should never raise."""

    error: UnreachableError | None
    fault: BaseException | None = None


class CallKind(Enum):
    """The blocking calls that are made in the background; at most one of each kind at a time."""

    PREPARE = "prepare"
    SUBMIT = "submit"
    LEARN = "learn"
    LOOK = "look"
    CANCEL = "cancel"
    QUEUE = "queue"
    PING = "ping"
    SAVE = "save"


class CallDone(NamedTuple):
    """A call in the background came back, with *value* or with *error*; *on_done* is to be called with this."""

    kind: CallKind
    value: Any
    error: BaseException | None
    on_done: Callable[[CallDone], None]


class StopRequested(NamedTuple):
    """The user wants to stop."""


class LeaveRequested(NamedTuple):
    """The program wants to follow no more."""


class CancelRequested(NamedTuple):
    """The program wants the prompt cancelled, for the reason that *cancel* tells; *waiting*: only where it waits."""

    cancel: Cancel
    waiting: bool


class Sources:
    """The inbox of one run and the threads that fill it."""

    def __init__(self, client: Client, client_id: str) -> None:
        self.client = client
        self.busy: set[CallKind] = set()
        self.client_id = client_id
        # Of a call that was given up, nothing more is heard: its key is gone.
        self._calls: dict[object, tuple[CallKind, threading.Thread, Callable[[CallDone], None]]] = {}
        self._inbox = Inbox(client.timing.backpressure, client.timing.batch_pause)
        self._socket: Socket | None = None
        self._open_until = math.inf

    def put(self, item: StopRequested | LeaveRequested | CancelRequested) -> None:
        """Tell the loop what the user or the program asks for. Safe in a signal handler and from any thread."""
        self._inbox.put(item)

    def receive(self, timeout: float) -> list[Any]:
        """All that waits, as soon as there is something; nothing after *timeout* seconds.

        What is late is given up: it is told as a failure, and whatever becomes of it later isn't told.
        """
        self._give_up_late()
        return self._inbox.receive(timeout)

    # --- the socket

    def connect(self) -> None:
        """Open the socket on a new reader thread. The one before has ended: it told so with `SocketClosed`."""
        timing = self.client.timing
        self._socket = connection = Socket(self.client, self.client_id)
        self._open_until = time.monotonic() + timing.connect_timeout + timing.read_timeout
        threading.Thread(target=self._read, args=(connection,), name="comfyreport-reader", daemon=True).start()

    def _read(self, connection: Socket) -> None:
        """The reader: on its own thread, it only receives."""
        error: UnreachableError | None = None
        fault: BaseException | None = None
        try:
            connection.open()
            if self._socket is connection:
                self._open_until = math.inf
                self._inbox.put(SocketOpened())
                for messages in connection.frames():
                    if isinstance(messages, Skipped):
                        self._inbox.put(messages)
                    else:
                        self._inbox.put_messages(messages)
                    # A large one must not be held until the next is there.
                    del messages
        except UnreachableError as raised:
            error = raised
        except NETWORK_ERRORS as raised:
            error = UnreachableError(f"the connection broke ({type(raised).__name__})", retryable=True)
        except BaseException as raised:  # noqa: BLE001  a fault of ours, which must not be told as the server's
            fault = raised
        finally:
            connection.close()
            if self._socket is connection:
                self._open_until = math.inf
                self._inbox.put(SocketClosed(error, fault))

    def shut(self) -> None:
        """End the connection; returns at once."""
        if self._socket is not None:
            self._socket.shut()

    # --- calls in the background

    def ping(self, on_done: Callable[[CallDone], None]) -> None:
        """Send a ping over the socket: in the background, for a full connection would block."""
        socket = self._socket
        if socket is not None and CallKind.PING not in self.busy:
            self.call(CallKind.PING, socket.ping, on_done)

    def call(self, kind: CallKind, function: Callable[[], Any], on_done: Callable[[CallDone], None]) -> None:
        """Make a blocking call on a thread of its own; what came of it comes through the inbox as `CallDone`."""
        self.busy.add(kind)
        key = object()

        def work() -> None:
            try:
                done = CallDone(kind, function(), None, on_done)
            except BaseException as error:  # noqa: BLE001  whatever it is, the loop must hear of it
                done = CallDone(kind, None, error, on_done)
            if self._calls.pop(key, None) is not None:
                self._inbox.put(done)

        thread = threading.Thread(target=work, name=f"comfyreport-{kind.value}", daemon=True)
        self._calls[key] = kind, thread, on_done
        thread.start()

    def _give_up_late(self) -> None:
        for key, (kind, thread, on_done) in list(self._calls.items()):
            # One that is cut mostly ends by itself, and cleans up behind it.
            overdue = self.client.cut_late(thread.ident)
            if overdue > self.client.timing.connect_timeout / 10 and self._calls.pop(key, None) is not None:
                self._inbox.put(CallDone(kind, None, no_answer(self.client.address.base), on_done))
        connection = self._socket
        if connection is not None and time.monotonic() > self._open_until:
            # In this order: what it says in the end isn't told any more.
            self._socket, self._open_until = None, math.inf
            connection.shut()
            self._inbox.put(SocketClosed(no_answer(self.client.address.base)))

    def finish(self, done: CallDone) -> None:
        """Take what came of a call: another of its kind may be made now, and its own function is called with it."""
        self.busy.discard(done.kind)
        done.on_done(done)
