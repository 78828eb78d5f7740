"""The `webhook` reporter: POSTs chosen events to a URL, each as the JSON object of `jsonl`.

A thread of its own sends them, one after the other, so that a slow receiver holds up nothing. What couldn't be sent is
told once, at the end. A URL may hold credentials in any part of it (those of chat services do, in the path): only its
host is ever told.
"""

from __future__ import annotations

import hashlib
import hmac
import math
import os
import random
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from email.utils import parsedate_to_datetime
from queue import SimpleQueue
from typing import Any, NamedTuple, get_args
from urllib.parse import SplitResult, unquote

from comfyreport import Access, AnyEvent, Event, ReporterError, Thinner, __version__, hookimpl, to_line, web_address

URL_VARIABLE = "COMFYREPORT_WEBHOOK_URL"
SECRET_VARIABLE = "COMFYREPORT_WEBHOOK_SECRET"
SIGNATURE_HEADER = "X-Hub-Signature-256"
"""As GitHub has it, so that what checks theirs checks ours."""
MOST_WAITING = 64_000_000  # bytes that wait to be sent; beyond that only the end of a run is taken
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
"""Seconds before an event is sent again; the pause doubles, and half of it is left to chance."""
LONGEST_RETRY_AFTER = 600.0

_TYPES = frozenset(str(field.default) for each in get_args(AnyEvent) for field in fields(each) if field.name == "type")
# Of node_progress, so many a second for each node, beside the first and the last of each pass.
_RATE = 1.0


class Outcome(NamedTuple):
    """What came of a POST: why it failed, if it did; whether, and in how many seconds, it is worth another."""

    problem: str = ""
    retryable: bool = False
    retry_after: float = 0.0


class Sender:
    """Sends one body after the other, beside the events.

    :param post: sends one; gets the event's type and the body.
    :param retries: how often one is sent again.
    :param deadline: seconds at the end for what isn't sent yet.
    """

    def __init__(self, post: Callable[[str, bytes], Outcome], retries: int, deadline: float) -> None:
        self._post = post
        self._retries = retries
        self._deadline = deadline
        self._waiting: SimpleQueue[tuple[str, bytes] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._closing, self._over = threading.Event(), threading.Event()
        self._asked = self._sent = 0
        self._put_bytes = self._taken_bytes = 0  # each written by one thread alone
        self._problem = "it was too slow"

    def put(self, kind: str, body: bytes) -> None:
        """Send *body* as soon as those before it are sent."""
        self._asked += 1
        if self._put_bytes - self._taken_bytes < MOST_WAITING or kind in ("run_finished", "stream_finished"):
            self._put_bytes += len(body)
            self._waiting.put((kind, body))
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="comfyreport-webhook", daemon=True)
            self._thread.start()

    def close(self) -> str:
        """Wait until all is sent or the deadline is over; how many were lost and why, empty if none."""
        self._closing.set()
        self._waiting.put(None)
        if self._thread is not None:
            self._thread.join(self._deadline)
        self._over.set()
        lost = self._asked - self._sent
        return f"{lost} of {self._asked} events couldn't be sent: {self._problem}" if lost else ""

    def _work(self) -> None:
        while (item := self._waiting.get()) is not None:
            self._taken_bytes += len(item[1])
            self._send(*item)

    def _send(self, kind: str, body: bytes) -> None:
        for attempt in range(self._retries + 1):
            if self._over.is_set():
                return
            outcome = self._post(kind, body)
            if not outcome.problem:
                self._sent += 1
                return
            self._problem = outcome.problem
            wait = min(LONGEST_PAUSE, FIRST_PAUSE * 2**attempt) * random.uniform(0.5, 1)
            wait = max(wait, min(outcome.retry_after, LONGEST_RETRY_AFTER))
            if not outcome.retryable or attempt == self._retries or not self._pause(wait):
                return

    def _pause(self, seconds: float) -> bool:
        """Wait before another try, which is made at once when the end comes; False if there is no time for it."""
        if self._closing.is_set():
            return seconds < self._deadline and not self._over.wait(seconds)
        self._closing.wait(seconds)
        return True


class Receiver:
    """Where events go: one URL, over HTTP.

    :param secret: signs the bodies; None: they aren't signed.
    :param timeout: seconds for a connection, and for an answer.
    """

    def __init__(self, url: SplitResult, secret: bytes | None, timeout: float) -> None:
        self.name = f"{url.scheme}://{url.netloc.rpartition('@')[2]}"
        self._url = url._replace(netloc=url.netloc.rpartition("@")[2], fragment="").geturl()
        self._secret = secret
        self._options: Any = {"timeout": timeout, "allow_redirects": False, "stream": True}
        import requests  # whoever lists the reporters needn't wait for it

        self._session = requests.Session()
        if url.scheme == "https":
            self._session.mount("https://", _system_trust())
        # Of the environment the proxies alone, which are for other machines: no login of a .netrc file.
        self._session.trust_env = False
        if url.hostname not in ("localhost", "127.0.0.1", "::1"):
            self._session.proxies = requests.utils.get_environ_proxies(self._url)
        login = (unquote(url.username or ""), unquote(url.password or ""))
        self._session.auth = login if any(login) else None

    def post(self, kind: str, body: bytes) -> Outcome:
        """Send *body*."""
        try:
            with self._session.post(self._url, body, headers=self._headers(kind, body), **self._options) as answer:
                return outcome_of(answer.status_code, answer.headers)
        except Exception as error:  # noqa: BLE001  whatever the libraries raise, the next one is sent all the same
            return _failure(error)

    def _headers(self, kind: str, body: bytes) -> dict[str, str]:
        headers = {
            "Content-Type": "application/json",
            "User-Agent": f"comfyreport/{__version__}",
            "X-Comfyreport-Event": kind,
            # The same when it is sent again, so that a receiver can tell.
            "X-Comfyreport-Delivery": hashlib.sha256(body).hexdigest()[:32],
        }
        if self._secret is not None:
            headers[SIGNATURE_HEADER] = "sha256=" + hmac.new(self._secret, body, hashlib.sha256).hexdigest()
        return headers


def _system_trust() -> Any:
    """Trusts whom the system trusts, as comfyreport does with ComfyUI's server."""
    from requests.adapters import HTTPAdapter

    class SystemTrust(HTTPAdapter):
        def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
            super().init_poolmanager(*arguments, **options, ssl_context=Access().tls())

        def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
            return super().proxy_manager_for(proxy, **options, ssl_context=Access().tls())

    return SystemTrust()


def outcome_of(status: int, headers: Mapping[str, str]) -> Outcome:
    """What came of a POST that was answered."""
    if 200 <= status < 300:
        return Outcome()
    if 300 <= status < 400:
        return Outcome(f"it answered {status}: it is elsewhere now, which isn't followed")
    if status in (401, 403):
        return Outcome(f"it answered {status}: look at its URL and at {SECRET_VARIABLE}")
    return Outcome(f"it answered {status}", status == 429 or status >= 500, _retry_after(headers))


def _retry_after(headers: Mapping[str, str]) -> float:
    """Seconds that the receiver asks to wait; 0 where it doesn't. A date counts from the answer's own."""
    text = headers.get("Retry-After", "").strip()
    try:
        if text.isdecimal():
            return float(text)
        seconds = (parsedate_to_datetime(text) - parsedate_to_datetime(headers["Date"])).total_seconds()
    except (KeyError, TypeError, ValueError, OverflowError):
        return 0.0
    return max(0.0, seconds)


def _failure(error: Exception) -> Outcome:
    """Why a POST failed; an exception's own words name the URL."""
    from requests.exceptions import ConnectionError, ProxyError, SSLError, Timeout  # noqa: A004  the library's name

    problems: Mapping[type[Exception], str] = {
        SSLError: "its certificate isn't trusted, or it speaks no TLS",
        Timeout: "it didn't answer in time",
        ProxyError: "the proxy doesn't lead there",
        ConnectionError: "it can't be reached",
    }
    words = next((words for kind, words in problems.items() if isinstance(error, kind)), type(error).__name__)
    return Outcome(words, retryable=not isinstance(error, (SSLError, ValueError)))


class Webhook:
    """Sends events; which ones, the hooks of `webhook_of` say."""

    def __init__(self, receiver: Receiver, retries: int, deadline: float) -> None:
        self._name = receiver.name
        self._sender = Sender(receiver.post, retries, deadline)
        self._thinner = Thinner(_RATE)

    def send(self, event: Event) -> None:
        """Send *event*, or hold it back if it is a progress that comes too soon."""
        self._send(self._thinner.feed(event))

    @hookimpl
    def comfyreport_close(self) -> None:
        """Wait for what isn't sent yet; what was lost is told."""
        self._send(self._thinner.flush())
        problem = self._sender.close()
        if problem:
            raise ReporterError(f"{self._name}: {problem}")

    def _send(self, events: Iterable[Event]) -> None:
        for event in events:
            self._sender.put(event.type, to_line(event).rstrip(b"\n"))  # type: ignore[attr-defined]


def webhook_of(types: Iterable[str]) -> type[Webhook]:
    """A class with the hooks of these types alone: one that has those of the whole stream is closed behind its end, in
    which its failure wouldn't be told; and pictures are made only where somebody has their hook.
    """

    def hook(self: Webhook, event: Event) -> None:
        self.send(event)

    return type("Webhook", (Webhook,), {f"comfyreport_{each}": hookimpl(hook) for each in types})


def webhook(
    url: str = "",
    *,
    events: str = "run_finished",
    secret_variable: str | None = None,
    timeout: float = 5.0,
    retries: int = 5,
    deadline: float = 4.0,
) -> Any:
    """POST events to a URL as JSON, signed if COMFYREPORT_WEBHOOK_SECRET is set.

    :param events: types of events, with commas between them, or `all` but node_preview
    :param secret_variable: the environment variable that holds the secret, instead of COMFYREPORT_WEBHOOK_SECRET
    :param timeout: seconds for a connection, and for an answer
    :param retries: how often an event is sent again after 429, 5xx or no answer, with growing pauses
    :param deadline: seconds at the end for what isn't sent yet, below 5
    """
    types = _types(events)
    if not (0 < timeout < math.inf and 0 < deadline < 5 and retries >= 0):
        raise ReporterError(
            f"webhook: timeout={timeout}, retries={retries}, deadline={deadline} can't be used",
            hint="timeout above 0, retries from 0 on, deadline between 0 and 5",
        )
    receiver = Receiver(_parsed(url or os.environ.get(URL_VARIABLE, "")), _secret(secret_variable), timeout)
    return webhook_of(types)(receiver, retries, deadline)


def _types(text: str) -> frozenset[str]:
    names = [name.strip() for name in text.split(",")]
    if names == ["all"]:
        return _TYPES - {"node_preview"}
    unknown = [name for name in names if name not in _TYPES]
    if unknown:
        known = ", ".join(sorted(_TYPES))
        raise ReporterError(f"webhook: there is no event {unknown[0]!r}", hint=f"events={known}, or all")
    return frozenset(names)


def _parsed(url: str) -> SplitResult:
    """*url*, if it is one; what is wrong with it is told without it."""
    hint = f"--reporter webhook=https://HOST/PATH, or {URL_VARIABLE}"
    if not url:
        raise ReporterError("webhook needs a URL", hint=hint)
    parts = web_address(url)
    if parts is None:
        raise ReporterError("webhook: its URL can't be used", hint=hint)
    return parts


def _secret(variable: str | None) -> bytes | None:
    secret = os.environ.get(variable or SECRET_VARIABLE, "")
    if variable and not secret:
        # Not named here: somebody may have given the secret itself.
        raise ReporterError("webhook: the variable that secret_variable names isn't set", hint="set it first")
    return secret.encode("utf-8", "surrogateescape") or None
