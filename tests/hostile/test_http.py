"""HTTP answers that lie: of wrong types, endless, slow, compressed without bounds, huge."""

from __future__ import annotations

import gzip
import itertools
import json
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from comfyreport.access.address import parse_address
from comfyreport.access.credentials import Access
from comfyreport.api import run_generation, wait_for_completion
from comfyreport.engine.loop import Loop
from comfyreport.events import Instant
from comfyreport.events.jsonlines import to_line
from comfyreport.jobs.job import Job, run_job
from comfyreport.jobs.session import Session
from comfyreport.jobs.tracker import ProgressTracker
from comfyreport.net.client import Client
from comfyreport.protocol import responses
from comfyreport.render.wording import describe_event
from comfyreport.reporting.plugins import Plugins, StandardStreams
from comfyreport.run import Run
from comfyreport.timing import Timing
from tests.hostile.running import LIMIT, QUICK, assert_printable, follow, measured
from tests.hostile.server import BEGIN, END, WORKFLOW, Hostile, Reply, history, own, picture
from tests.plugins.terminal import Plain

MIB = 1024 * 1024
WRONG: list[Any] = [None, True, -1.5, "text", [], {}, [[]], [{}], {"": None}, [1, [2, [3]]]]


def wrong_histories(prompt_id: str, wrong: Any) -> Iterator[Any]:
    """What an honest server would say, with something wrong in each of its places."""
    yield wrong
    yield {prompt_id: wrong}
    entry = history(prompt_id)[prompt_id]
    for key in entry:
        yield {prompt_id: {**entry, key: wrong}}
    for key in entry["status"]:
        yield {prompt_id: {**entry, "status": {**entry["status"], key: wrong}}}
    for kind in ("execution_error", "execution_interrupted", "execution_cached", wrong):
        yield history(prompt_id, status="error", messages=[[kind, wrong], [wrong], wrong])
    for index in range(5):
        prompt = list(entry["prompt"])
        prompt[index] = wrong
        yield {prompt_id: {**entry, "prompt": prompt}}
    yield history(prompt_id, graph={"1": wrong, "2": {"class_type": wrong, "inputs": wrong, "_meta": wrong}})
    yield history(prompt_id, graph={"3": {"class_type": "A", "inputs": {"a": wrong, "b": [wrong, wrong]}}})
    for made in ({"3": wrong}, {"3": {"images": wrong}}, {"3": {"images": [wrong]}}, {"3": {"text": [wrong]}}):
        yield history(prompt_id, made)
    yield {prompt_id: {**entry, "meta": {"3": wrong}}}
    yield {prompt_id: {**entry, "meta": {"3": {"display_node": wrong}}}}


@pytest.mark.parametrize("wrong", WRONG, ids=json.dumps)
def test_wrong_types_in_history(wrong: Any) -> None:
    for body in wrong_histories("id", wrong):
        run = Run("id", responses.manifest_of(WORKFLOW), base_url="http://x")
        run.sent = run.missed_messages = True
        found = responses.read_history(body, "id")
        told = [] if found is None else run.feed(found, Instant(1.0, 1.0))
        for event in (*told, *run.finish(Instant(2.0, 2.0))):
            assert json.loads(to_line(event))
            assert_printable("\n".join(describe_event(event)))


@pytest.mark.parametrize("wrong", WRONG, ids=json.dumps)
def test_wrong_answers_to_the_submission(tmp_path: Path, wrong: Any) -> None:
    bodies = [
        wrong,
        {"prompt_id": wrong},
        {"prompt_id": "x", "node_errors": wrong, "number": wrong},
        {"prompt_id": "x", "node_errors": {"2": wrong}},
        {"prompt_id": "x", "node_errors": {"2": {"errors": wrong, "class_type": wrong}}},
        {"prompt_id": "x", "node_errors": {"2": {"errors": [{"type": wrong, "message": wrong, "details": wrong}]}}},
        Reply({"error": wrong, "node_errors": wrong}, status=400),
        Reply({"error": {"type": wrong, "message": wrong, "details": wrong}, "node_errors": wrong}, status=400),
        Reply(wrong, status=400),
        Reply(wrong, status=500),
        Reply(wrong, status=999),
    ]
    for number, answer in enumerate(bodies):
        folder = tmp_path / str(number)
        folder.mkdir()
        told_id = answer.get("prompt_id") if isinstance(answer, dict) else None

        def own_history(prompt_id: str, told_id: Any = told_id) -> Any:
            return history(str(told_id)) | history(prompt_id)

        with Hostile(post=lambda prompt_id, answer=answer: answer, history=own_history) as server:  # type: ignore[misc]
            follow(server, folder)


@pytest.mark.parametrize("wrong", WRONG, ids=json.dumps)
def test_wrong_types_in_the_queue(tmp_path: Path, wrong: Any) -> None:
    def queue(prompt_id: str) -> Any:
        entries = [wrong, [wrong], [wrong] * 2, [wrong] * 5, [1, prompt_id], [1, prompt_id, wrong, wrong, wrong]]
        bodies = [wrong, {"queue_running": wrong, "queue_pending": wrong}]
        bodies += [{"queue_running": [], "queue_pending": entries}, {"queue_running": entries, "queue_pending": []}]
        return bodies[next(turn) % len(bodies)]

    turn = itertools.count()
    with Hostile(frames=(0.3, *BEGIN, *END), queue=queue) as server:
        told = follow(server, tmp_path)
    assert told.result.status == "success"


def forever(piece: bytes, seconds: float = 0.0) -> Iterator[bytes]:
    while True:
        yield piece
        time.sleep(seconds)


SLOW = {"Content-Type": "application/json"}


@pytest.mark.parametrize("raw", [False, True], ids=["body", "headers"])
@pytest.mark.parametrize("route", ["post", "history", "view"])
def test_an_answer_byte_by_byte_comes_to_an_end(tmp_path: Path, route: str, raw: bool) -> None:
    piece = b"HTTP/1.1 200 OK\r\n" if raw else b" "
    slow = Reply(headers=SLOW, pieces=(bytes([byte]) for _ in itertools.count() for byte in _slowly(piece)), raw=raw)
    before = time.monotonic()
    lie: dict[str, Any] = {route: lambda _: slow}
    with Hostile(**lie) as server:
        told = follow(server, tmp_path, output=f"{tmp_path}/made/")
    assert time.monotonic() - before < 15
    expected = {"post": "success", "history": "lost", "view": "partial"}[route]
    assert told.result.status == expected, told.result.error
    if route == "post":
        assert "answer_lost" in told.codes()
    if route == "view":
        assert list((tmp_path / "made").iterdir()) == []


def _slowly(piece: bytes) -> Iterator[int]:
    for byte in piece:
        time.sleep(0.02)
        yield byte


def with_pauses(piece: bytes, count: int) -> Iterator[bytes]:
    for _ in range(count):
        time.sleep(0.1)
        yield piece


def test_a_download_that_is_slow_but_goes_on_is_taken(tmp_path: Path) -> None:
    headers = {"Content-Type": "image/png", "Content-Length": str(65536 * 30)}
    slow = Reply(headers=headers, pieces=with_pauses(b"x" * 65536, 30))
    # All of it takes longer than what is waited for each piece.
    quick = Timing(read_timeout=2.0)
    with Hostile(view=lambda _: slow) as server:
        told = follow(server, tmp_path, output=f"{tmp_path}/made/", timing=quick)
    assert told.result.status == "success"
    assert (tmp_path / "made" / "made.png").stat().st_size == 65536 * 30


def test_a_download_that_is_cut_short_is_not_kept(tmp_path: Path) -> None:
    short = Reply(headers={"Content-Type": "image/png", "Content-Length": "1000"}, pieces=[b"x" * 900])
    with Hostile(view=lambda _: short) as server:
        told = follow(server, tmp_path, output=f"{tmp_path}/made/")
    assert (told.result.status, told.codes()) == ("partial", ["download_failed"])
    assert list((tmp_path / "made").iterdir()) == []


@pytest.mark.e2e
def test_an_endless_answer_is_given_up(tmp_path: Path) -> None:
    endless = Reply(headers=SLOW, pieces=forever(b" " * MIB))
    with Hostile(history=lambda _: endless) as server:
        code, peak, lines = measured(server, tmp_path, "--lost-after", "1")
    (end,) = [line for line in lines if line["type"] == "run_finished"]
    print(f"an endless answer: {peak:.1f} MiB")
    assert (code, end["status"]) == (6, "lost")
    assert peak <= 400


@pytest.mark.e2e
@pytest.mark.parametrize("route", ["post", "history", "view"])
def test_a_redirect_whose_body_never_ends(tmp_path: Path, route: str) -> None:
    headers = {"Location": "http://127.0.0.1:1/login", "Content-Type": "text/html"}
    lie: dict[str, Any] = {route: lambda _: Reply(status=302, headers=headers, pieces=forever(b"x" * MIB))}
    if route == "post":
        # Frames of the run would be believed against such an answer.
        lie["frames"] = ()
    with Hostile(**lie) as server:
        code, peak, _ = measured(server, tmp_path, "--lost-after", "1", "--output", f"{tmp_path}/made/")
    print(f"a redirect without end: {peak:.1f} MiB")
    assert code == {"post": 3, "history": 6, "view": 8}[route]
    assert peak <= 90


@pytest.mark.parametrize("status", [302, 401, 403])
def test_what_such_a_status_comes_with_is_not_waited_for(status: int) -> None:
    headers = {"Location": "/login", "Content-Length": "99999999999"}
    slow = Reply(status=status, headers=headers, pieces=forever(b"x", 0.1))
    with Hostile(queue=lambda _: slow) as server:
        client = Client(parse_address(server.url), timing=Timing())
        before = time.monotonic()
        answer = client.get("/queue")
        client.close()
    assert answer.status == status
    assert answer.as_error("there").code == "auth"
    assert time.monotonic() - before < Timing().read_timeout


def bomb(megabytes: int, *, deflate: bool = False) -> bytes:
    data = b" " * (megabytes * MIB)
    return zlib.compress(data) if deflate else gzip.compress(data)


@pytest.mark.e2e
@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_a_compressed_answer_that_becomes_huge(tmp_path: Path, encoding: str) -> None:
    small = bomb(400, deflate=encoding == "deflate")
    assert len(small) < MIB
    reply = Reply(small, headers={"Content-Type": "application/json", "Content-Encoding": encoding})
    with Hostile(history=lambda _: reply) as server:
        code, peak, _ = measured(server, tmp_path, "--lost-after", "1")
    print(f"{encoding} of 400 MiB: {peak:.1f} MiB")
    assert code == 6
    assert peak <= 400


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip", "x-nothing"])
def test_other_compression_is_refused(tmp_path: Path, encoding: str) -> None:
    reply = Reply(gzip.compress(gzip.compress(b"x")), headers={"Content-Encoding": encoding})
    with Hostile(view=lambda _: reply) as server:
        told = follow(server, tmp_path, output=f"{tmp_path}/made/")
    assert (told.result.status, told.codes()) == ("partial", ["download_failed"])


def test_compression_that_was_not_asked_for_is_undone(tmp_path: Path) -> None:
    def compressed(body: Any) -> Reply:
        return Reply(gzip.compress(body), headers={"Content-Encoding": "gzip", "Content-Type": "image/png"})

    with Hostile(
        view=lambda _: compressed(b"picture"),
        history=lambda prompt_id: compressed(json.dumps(history(prompt_id)).encode()),
    ) as server:
        told = follow(server, tmp_path, output=f"{tmp_path}/made/")
    assert told.result.status == "success"
    assert (tmp_path / "made" / "made.png").read_bytes() == b"picture"


def seconds_for(count: int, *, one_node: bool) -> float:
    """How long a run takes to learn of so many outputs, of one node or of one node each."""
    pictures = [picture(f"{number}.png") for number in range(count)]
    outputs = (
        {"3": {"images": pictures}} if one_node else {str(n): {"images": [each]} for n, each in enumerate(pictures)}
    )
    run = Run("id", responses.manifest_of(WORKFLOW), base_url="http://x")
    before = time.process_time()
    found = responses.read_history(history("id", outputs), "id")
    assert found is not None
    told = run.feed(found, Instant(1.0, 1.0))
    assert len(run.outputs) == count
    assert len(told) >= count
    return time.process_time() - before


@pytest.mark.parametrize("one_node", [True, False])
def test_many_outputs_cost_no_more_each_than_few(one_node: bool) -> None:
    """Sixteen times as many would take 256 times as long, were the cost of one to grow with those before it."""
    few = min(seconds_for(2_000, one_node=one_node) for _ in range(3))
    assert seconds_for(32_000, one_node=one_node) < 64 * few


def test_many_outputs_through_everything(tmp_path: Path) -> None:
    outputs = {str(number): {"images": [picture(f"{number}.png")]} for number in range(3000)}
    with Hostile(history=lambda prompt_id: history(prompt_id, outputs)) as server:
        told = follow(server, tmp_path, timing=Timing())
    assert told.result.status == "success"
    assert len(told.of("output_ready")) == 3000


@pytest.mark.parametrize(
    "prompt_id", ["job/42 é", "a?b=c#d", "%2e%2f", "\x1b[2J\u202e", "new\r\nX-Injected: 1", "x" * 5000]
)
def test_odd_prompt_ids(tmp_path: Path, prompt_id: str) -> None:
    frames = [each.replace("ID", json.dumps(prompt_id)[1:-1]) for each in (*BEGIN, *END)]
    with Hostile(
        frames=frames, post=lambda _: {"prompt_id": prompt_id, "node_errors": {}}, history=lambda _: history(prompt_id)
    ) as server:
        told = follow(server, tmp_path, timing=QUICK)
    assert told.result.status == "success", told.result.error
    assert told.result.prompt_id == prompt_id
    assert told.of("node_progress")
    assert {line for line in server.asked if "history" in line} == {f"GET /history/{quote(prompt_id, safe='')}"}


def test_an_end_that_is_told_before_the_beginning(tmp_path: Path) -> None:
    frames = [*reversed((*BEGIN, *END)), own("executing", node=None), own("execution_success")]
    with Hostile(frames=frames) as server:
        assert follow(server, tmp_path).result.status == "success"


def endless(piece: bytes) -> Reply:
    """A picture that never ends."""
    return Reply(headers={"Content-Type": "image/png"}, pieces=itertools.repeat(piece))


def test_a_download_without_end_leaves_nothing_where_it_fits_no_more(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8 * MIB, before[1]))
    try:
        with Hostile(view=lambda _: endless(b"x" * MIB)) as server:
            told = follow(server, tmp_path, output=f"{tmp_path}/made/")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (told.result.status, told.codes()) == ("partial", ["download_failed"])
    assert "File too large" in told.of("warning")[0]["message"]
    assert list((tmp_path / "made").iterdir()) == []


@pytest.mark.parametrize("silent", [False, True])
def test_the_time_limit_holds_for_saving_too(tmp_path: Path, silent: bool) -> None:
    begun = Reply(headers={"Content-Type": "image/png"}, pieces=itertools.chain([b"x"], endlessly(silent)))
    with Hostile(view=lambda _: begun) as server:
        result = run_generation(WORKFLOW, server=server.url, output=tmp_path / "made/", timeout=3.0, reporters=[])
    assert (result.status, result.exit_code, result.prompt_state) == ("timeout", 7, "finished")
    assert result.error is not None
    assert result.error.code == "time_limit"
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == []


def endlessly(silent: bool) -> Iterator[bytes]:
    while True:
        time.sleep(LIMIT if silent else 0.01)
        yield b"x"


def test_a_stop_while_saving_waits_for_nothing(tmp_path: Path) -> None:
    begun = threading.Event()

    def pieces() -> Iterator[bytes]:
        yield b"x"
        begun.set()
        time.sleep(LIMIT)

    reply = Reply(headers={"Content-Type": "image/png"}, pieces=pieces())
    with Hostile(view=lambda _: reply) as server:
        session = Session(
            Plugins(StandardStreams(Plain(), Plain())), command="run", server="", timing=Timing(), complain=print
        )
        loops: list[Loop] = []
        job = Job(server=server.url, workflow=WORKFLOW, output=tmp_path / "made.png")

        def stop() -> None:
            begun.wait(LIMIT)
            loops[0].stop()

        stopper = threading.Thread(target=stop)
        stopper.start()
        result = run_job(session, job, on_loop=loops.append)
        session.finish()
        stopper.join()
    assert (result.status, result.prompt_state) == ("cancelled", "finished")
    # Far below what a silent server is given: the download was cut.
    assert result.seconds < Timing().read_timeout / 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("given", [None, Access(token="given", extra_data={"key": "value"})])
def test_credentials_from_python(monkeypatch: pytest.MonkeyPatch, given: Access | None) -> None:
    monkeypatch.setenv("COMFYREPORT_TOKEN", "environment")
    token = "environment" if given is None else "given"
    with Hostile(frames=(*BEGIN, *END)) as server:
        result = run_generation(WORKFLOW, server=server.url, reporters=[], access=given)
        assert result.prompt_id is not None
        again = wait_for_completion(result.prompt_id, server=server.url, reporters=[], access=given)
        with ProgressTracker(server.url, result.prompt_id, quiet=True, access=given) as tracker:
            last = tracker.wait(LIMIT)
    assert [result.status, again.status, last and last.status] == ["success"] * 3
    assert set(server.authorized) == {f"Bearer {token}"}
    assert server.body.get("extra_data") == (None if given is None else {"key": "value"})


def test_a_token_that_is_none_is_the_end_of_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMFYREPORT_TOKEN", "two words")
    result = run_generation(WORKFLOW, server="127.0.0.1:1", reporters=[])
    assert (result.status, result.submitted) == ("usage", "no")
