"""The webhook: what a receiver gets, what comes of one that doesn't take it, and what is never told."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import socket
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import comfyreport_webhook
import jsonschema
import pytest
from comfyreport_webhook import SECRET_VARIABLE, URL_VARIABLE, Outcome, Sender, outcome_of, webhook

from comfyreport import events as ev
from comfyreport.errors import ReporterError
from comfyreport.events.jsonlines import to_line
from comfyreport.events.schema import json_schema
from comfyreport.testing import conforms, play, recordings
from comfyreport.testing.samples import hostile_values
from tests.plugins.events import SAMPLER, deliver, failed, sampling, txt2img

VARIABLES = ("COMFYREPORT_WEBHOOK_URL", "COMFYREPORT_WEBHOOK_SECRET")


class Got(NamedTuple):
    """A request that came."""

    path: str
    headers: Mapping[str, str]
    body: bytes


class Answers(BaseHTTPRequestHandler):
    """Answers each POST with the next of `statuses`, the last one for ever; a status may bring headers."""

    got: list[Got]
    statuses: list[tuple[int, dict[str, str]]]
    gate: threading.Event

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.got.append(Got(self.path, dict(self.headers), body))
        self.gate.wait()
        status, headers = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the library's name
        pass


class Place:
    """A receiver on loopback."""

    def __init__(self) -> None:
        self.got: list[Got] = []
        self.statuses: list[tuple[int, dict[str, str]]] = [(204, {})]
        self.gate = threading.Event()
        self.gate.set()
        handler = type("Handler", (Answers,), {"got": self.got, "statuses": self.statuses, "gate": self.gate})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.host = f"127.0.0.1:{self.server.server_port}"
        self.url = f"http://{self.host}/hook"

    def answers(self, *statuses: int | tuple[int, dict[str, str]]) -> None:
        self.statuses[:] = [each if isinstance(each, tuple) else (each, {}) for each in statuses]

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(each.body) for each in self.got]


@pytest.fixture
def place() -> Iterator[Place]:
    made = Place()
    thread = threading.Thread(target=made.server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield made
    made.gate.set()
    made.server.shutdown()
    thread.join()
    made.server.server_close()


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comfyreport_webhook, "FIRST_PAUSE", 0.0)


def closing_error(reporter: object, events: list[ev.Event]) -> str:
    with pytest.raises(ReporterError) as caught:
        deliver(reporter, events)
    return caught.value.message


# --- what comes


def test_conforms(place: Place) -> None:
    conforms(webhook, destination=place.url)
    conforms(webhook, destination=place.url, events="stream_started,warning,run_finished")


@pytest.mark.parametrize("name", recordings())
def test_recordings(name: str, place: Place) -> None:
    play(webhook, name, destination=place.url)
    (event,) = place.events
    assert event["type"] == "run_finished"
    jsonschema.validate(event, json_schema())


def test_the_body_is_the_line_of_jsonl(place: Place) -> None:
    deliver(webhook(place.url), txt2img())
    (got,) = place.got
    assert got.body == to_line(txt2img()[-2]).rstrip(b"\n")
    assert got.path == "/hook"
    assert got.headers["Content-Type"] == "application/json"
    assert got.headers["X-Comfyreport-Event"] == "run_finished"
    assert got.headers["User-Agent"].startswith("comfyreport/")
    assert "X-Hub-Signature-256" not in got.headers
    assert "Authorization" not in got.headers


def test_chosen_events_come_in_order(place: Place) -> None:
    deliver(webhook(place.url, events="run_started, node_finished,stream_finished"), txt2img())
    types = [event["type"] for event in place.events]
    assert types == ["run_started", *["node_finished"] * 7, "stream_finished"]
    assert [each.headers["X-Comfyreport-Event"] for each in place.got] == types


def test_all_events(place: Place) -> None:
    deliver(webhook(place.url, events="all"), txt2img())
    assert [event["seq"] for event in place.events] == [event.seq for event in txt2img()]


def test_progress_comes_once_a_second_for_each_node(place: Place) -> None:
    builder = sampling(())
    for step in range(1, 101):
        builder.at(4.0 + step / 50).step(SAMPLER, step, 100, step / 50)
    deliver(webhook(place.url, events="node_progress"), builder.end())
    steps = [event["step"] for event in place.events]
    assert len(steps) <= 4
    assert steps[-1] == 100


def test_several_runs(place: Place) -> None:
    deliver(webhook(place.url), [*txt2img()[:-1], *failed()])
    assert [event["status"] for event in place.events] == ["success", "error"]


# --- who may know


def test_a_signature(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SECRET_VARIABLE, "s3cret ünï")
    deliver(webhook(place.url), txt2img())
    (got,) = place.got
    expected = hmac.new("s3cret ünï".encode(), got.body, hashlib.sha256).hexdigest()
    assert got.headers["X-Hub-Signature-256"] == f"sha256={expected}"


def test_a_secret_of_its_own(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SECRET_VARIABLE, "one")
    monkeypatch.setenv("OTHER", "two")
    deliver(webhook(place.url, secret_variable="OTHER"), txt2img())
    (got,) = place.got
    assert got.headers["X-Hub-Signature-256"][7:] == hmac.new(b"two", got.body, hashlib.sha256).hexdigest()


def test_the_url_may_be_in_the_environment(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (URL_VARIABLE, SECRET_VARIABLE) == VARIABLES
    monkeypatch.setenv(URL_VARIABLE, place.url)
    deliver(webhook(), txt2img())
    assert len(place.got) == 1


def test_a_login_of_the_url_is_sent(place: Place) -> None:
    deliver(webhook(f"http://us%40er:pass%3Aword@{place.host}/hook"), txt2img())
    assert place.got[0].headers["Authorization"] == "Basic dXNAZXI6cGFzczp3b3Jk"


def test_no_other_login_is(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    netrc = tmp_path / ".netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password else\n")
    monkeypatch.setenv("NETRC", str(netrc))
    deliver(webhook(place.url), txt2img())
    assert "Authorization" not in place.got[0].headers


def test_no_proxy_is_asked_for_this_machine(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    deliver(webhook(place.url), txt2img())
    assert len(place.got) == 1


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 413, 302, 500])
def test_nothing_secret_is_told(place: Place, status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SECRET_VARIABLE, "signing-secret")
    place.answers((status, {"Location": "http://127.0.0.1:9/else"}))
    url = f"http://user:password@{place.host}/services/T0KEN?key=value#part"
    error = closing_error(webhook(url, retries=1), txt2img())
    assert error.startswith(f"http://{place.host}: 1 of 1 events couldn't be sent: it answered {status}")
    assert not re.search("user|password|T0KEN|value|signing", error)


def test_a_redirect_isnt_followed(place: Place) -> None:
    place.answers((307, {"Location": f"http://{place.host}/else"}))
    assert "it is elsewhere now" in closing_error(webhook(place.url), txt2img())
    assert [each.path for each in place.got] == ["/hook"]


# --- what goes wrong


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_it_is_sent_again(place: Place, status: int) -> None:
    place.answers(status, status, 200)
    deliver(webhook(place.url), txt2img())
    assert len(place.got) == 3
    assert len({each.body for each in place.got}) == 1
    assert len({each.headers["X-Comfyreport-Delivery"] for each in place.got}) == 1


@pytest.mark.parametrize("status", [400, 401, 404, 410, 422])
def test_what_is_refused_isnt_sent_again(place: Place, status: int) -> None:
    place.answers(status)
    assert f"it answered {status}" in closing_error(webhook(place.url), txt2img())
    assert len(place.got) == 1


def test_it_is_sent_again_only_so_often(place: Place) -> None:
    place.answers(503)
    assert closing_error(webhook(place.url, retries=2), txt2img()).endswith("it answered 503")
    assert len(place.got) == 3


def test_one_that_is_lost_doesnt_lose_the_others(place: Place) -> None:
    place.answers(400, 200)
    error = closing_error(webhook(place.url, events="run_started,run_finished"), txt2img())
    assert "1 of 2 events" in error
    assert [event["type"] for event in place.events] == ["run_started", "run_finished"]


def test_nobody_listens() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        error = closing_error(webhook(f"http://127.0.0.1:{port}/t0ken", retries=1), txt2img())
    assert error == f"http://127.0.0.1:{port}: 1 of 1 events couldn't be sent: it can't be reached"


def test_a_wrong_name_and_no_tls(place: Place) -> None:
    error = closing_error(webhook(f"https://{place.host}/t0ken", retries=0), txt2img())
    assert error.endswith("its certificate isn't trusted, or it speaks no TLS")
    error = closing_error(webhook("http://nobody.invalid/t0ken", retries=0), txt2img())
    assert error.startswith("http://nobody.invalid: 1 of 1 events couldn't be sent: ")


def test_an_answer_that_doesnt_come_holds_up_nothing(place: Place) -> None:
    place.gate.clear()
    reporter = webhook(place.url, deadline=0.1)
    error = closing_error(reporter, txt2img())
    assert "1 of 1 events couldn't be sent: it was too slow" in error


def test_an_answer_has_its_time(place: Place) -> None:
    place.gate.clear()
    assert "it didn't answer in time" in closing_error(webhook(place.url, timeout=0.05, retries=0), txt2img())


def test_hostile_values(place: Place) -> None:
    deliver(webhook(place.url, events="all"), hostile_values())
    assert all(b"\x1b" not in each.body and b"\n" not in each.body for each in place.got)


# --- the sender alone


def sender_of(*outcomes: Outcome, **options: Any) -> tuple[Sender, list[bytes]]:
    sent: list[bytes] = []
    answers = iter(outcomes)

    def post(kind: str, body: bytes) -> Outcome:
        sent.append(body)
        return next(answers)

    return Sender(post, **{"retries": 3, "deadline": 4.0, **options}), sent


def test_a_longer_pause_than_there_is_time_isnt_waited_for() -> None:
    sender, sent = sender_of(*[Outcome("it answered 503", True, 100.0)] * 4)
    sender.put("run_finished", b"1")
    assert sender.close() == "1 of 1 events couldn't be sent: it answered 503"
    assert len(sent) <= 2


def test_the_end_cuts_a_pause_short(monkeypatch: pytest.MonkeyPatch) -> None:
    paused = threading.Event()

    class Closing(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            paused.set()
            return super().wait(timeout)

    sender, sent = sender_of(Outcome("it answered 503", True, 100.0), Outcome())
    monkeypatch.setattr(sender, "_closing", Closing())
    sender.put("run_finished", b"1")
    paused.wait()
    assert sender.close() == ""
    assert sent == [b"1", b"1"]


def test_pauses_grow_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comfyreport_webhook, "FIRST_PAUSE", 0.5)
    pauses: list[float] = []
    sender, sent = sender_of(*[Outcome("it answered 503", True)] * 9, retries=8)

    def note(seconds: float) -> bool:
        pauses.append(seconds)
        return True

    monkeypatch.setattr(sender, "_pause", note)
    sender.put("run_finished", b"1")
    assert "1 of 1" in sender.close()
    assert len(sent) == 9
    assert all(limit / 2 <= pause <= limit for pause, limit in zip(pauses, (0.5, 1, 2, 4, 8, 16, 30, 30), strict=True))


def test_what_is_too_much_is_lost_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comfyreport_webhook, "MOST_WAITING", 3)
    gate = threading.Event()
    begun = threading.Event()

    def post(kind: str, body: bytes) -> Outcome:
        begun.set()
        gate.wait()
        return Outcome()

    sender = Sender(post, 0, 4.0)
    sender.put("warning", b"0")
    begun.wait()
    for number in range(1, 6):
        sender.put("warning", b"%d" % number)
    gate.set()
    assert sender.close() == "2 of 6 events couldn't be sent: it was too slow"


def test_nothing_to_send() -> None:
    sender, _ = sender_of()
    assert sender.close() == ""


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, 0.0),
        ({"Retry-After": "7"}, 7.0),
        ({"Retry-After": "soon"}, 0.0),
        ({"Retry-After": "-1"}, 0.0),
        ({"Retry-After": "Wed, 21 Oct 2026 07:28:30 GMT", "Date": "Wed, 21 Oct 2026 07:28:00 GMT"}, 30.0),
        ({"Retry-After": "Wed, 21 Oct 2026 07:27:00 GMT", "Date": "Wed, 21 Oct 2026 07:28:00 GMT"}, 0.0),
        ({"Retry-After": "Wed, 21 Oct 2026 07:28:30 GMT"}, 0.0),
    ],
)
def test_how_long_a_receiver_asks_to_wait(headers: dict[str, str], seconds: float) -> None:
    assert outcome_of(503, headers) == Outcome("it answered 503", True, seconds)


# --- what can't be used


@pytest.mark.parametrize(
    "url",
    [
        "",
        "t0ken",
        "ftp://host/t0ken",
        "http://",
        "http://host:port/t0ken",
        "http://[t0ken",
        "http://host:0/t0ken",
        "http://user:t0#ken@host/",
    ],
)
def test_urls_that_are_none(url: str) -> None:
    with pytest.raises(ReporterError) as caught:
        webhook(url)
    assert "t0ken" not in caught.value.message + caught.value.hint


@pytest.mark.parametrize(
    "options",
    [{"timeout": 0}, {"timeout": float("nan")}, {"retries": -1}, {"deadline": 5}, {"deadline": 0}, {"events": "x"},
     {"events": ""}, {"events": "all,warning"}],
)  # fmt: skip
def test_options_that_cant_be_used(options: dict[str, Any]) -> None:
    with pytest.raises(ReporterError):
        webhook("http://127.0.0.1:9", **options)


def test_a_secret_that_isnt_there_is_told_without_it() -> None:
    with pytest.raises(ReporterError) as caught:
        webhook("http://127.0.0.1:9", secret_variable="the-secret-itself")
    assert "itself" not in caught.value.message + caught.value.hint


def test_a_failure_is_told_before_the_end_of_the_stream(place: Place) -> None:
    """It has no hook that would put its end off, or have previews made, unless it was asked for."""
    hooks = {name for name in dir(webhook(place.url, events="all")) if name.startswith("comfyreport_")}
    assert {"comfyreport_stream_finished", "comfyreport_run_finished"} <= hooks
    assert not hooks & {"comfyreport_event", "comfyreport_node_preview"}
    hooks = {name for name in dir(webhook(place.url, events="warning,node_preview")) if name.startswith("comfyreport_")}
    assert hooks == {"comfyreport_warning", "comfyreport_node_preview", "comfyreport_close"}


def test_what_waits_is_bounded_in_bytes_and_the_end_of_a_run_is_sent_anyway(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comfyreport_webhook, "MOST_WAITING", 10)
    gate, sent = threading.Event(), list[bytes]()

    def post(kind: str, body: bytes) -> Outcome:
        gate.wait()
        sent.append(body)
        return Outcome()

    sender = Sender(post, 0, 4.0)
    for body in (b"0" * 20, b"1" * 20, b"2", b"3"):
        sender.put("node_text", body)
    sender.put("run_finished", b"end")
    gate.set()
    assert "couldn't be sent" in sender.close()
    assert b"end" in sent
    assert b"3" not in sent
