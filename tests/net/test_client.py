"""HTTP with one server: responses, failures, downloads, the tap; no redirect is followed, no secret shown."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from comfyreport.errors import UnreachableError
from comfyreport.net.address import parse_address
from comfyreport.net.client import Client
from comfyreport.simulator import Simulator
from comfyreport.timing import Timing
from tests.e2e.comfyui_server import poll
from tests.e2e.strangers import Answer, garbage, hang, hang_up, http, stranger

SHORT = Timing().scaled(0.02)
GRAPH = {
    "1": {"class_type": "EmptyImage", "inputs": {"width": 16, "height": 16, "batch_size": 1}},
    "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "x"}},
}


def client_of(url: str, tap: Any = None, timing: Timing = SHORT) -> Client:
    return Client(parse_address(url), timing=timing, tap=tap)


@pytest.fixture
def records() -> list[dict[str, Any]]:
    return []


@pytest.fixture
def client(records: list[dict[str, Any]]) -> Iterator[Client]:
    """A client of a simulated server, whose tap fills `records`."""
    with Simulator(speed=1000) as simulator:
        client = client_of(simulator.url, records.append, Timing())
        yield client
        client.close()


def test_responses_and_what_the_tap_is_given(client: Client, records: list[dict[str, Any]]) -> None:
    assert client.get("/queue").body == {"queue_running": [], "queue_pending": []}
    answer = client.post("/prompt", {"prompt": {}})
    assert answer.status == 400
    assert isinstance(answer.body, dict)
    assert [(record["dir"], record["method"], record["path"], record.get("status")) for record in records] == [
        ("out", "GET", "/queue", None),
        ("in", "GET", "/queue", 200),
        ("out", "POST", "/prompt", None),
        ("in", "POST", "/prompt", 400),
    ]
    assert records[2]["request"] == {"prompt": {}}
    assert records[3]["response"] == answer.body


def test_a_body_that_is_no_json(client: Client) -> None:
    answer = client.post("/prompt", None)
    assert (answer.status, answer.body) == (500, None)
    assert answer.text.startswith("500 Internal Server Error")


def test_integers_of_any_size(client: Client) -> None:
    graph = {**GRAPH, "1": {**GRAPH["1"], "inputs": {**GRAPH["1"]["inputs"], "seed": 2**70}}}  # type: ignore[dict-item]
    assert client.post("/prompt", {"prompt": graph}).status == 200


def test_a_download(client: Client) -> None:
    prompt_id = client.post("/prompt", {"prompt": GRAPH}).body["prompt_id"]
    poll(lambda: bool(client.get(f"/history/{prompt_id}").body), 60, "the end of the prompt")
    (image,) = client.get(f"/history/{prompt_id}").body[prompt_id]["outputs"]["2"]["images"]
    data = b"".join(client.download(image["filename"], image["subfolder"], image["type"]))
    assert data.startswith(b"\x89PNG")


def test_a_download_of_what_is_not_there(client: Client) -> None:
    with pytest.raises(UnreachableError):
        b"".join(client.download("nothing.png", "", "output"))


@pytest.mark.parametrize(("answer", "code"), [(garbage, None), (hang_up, None), (hang, "no_answer")])
def test_every_failure_is_an_unreachable_error(answer: Answer, code: str | None) -> None:
    with stranger(answer) as server:
        client = client_of(server.url)
        with pytest.raises(UnreachableError) as caught:
            client.get("/queue")
        client.close()
    assert caught.value.hint
    assert code is None or caught.value.code == code


def test_a_refused_connection_was_not_sent() -> None:
    with stranger(hang_up) as server:
        url = server.url
    client = client_of(url)
    with pytest.raises(UnreachableError) as caught:
        client.post("/prompt", {})
    client.close()
    assert (caught.value.code, caught.value.retryable, caught.value.sent) == ("refused", True, False)


def test_redirects_are_not_followed() -> None:
    with stranger(http("200 OK", b"{}")) as other:
        redirect = http("302 Found", b"", f"Location: {other.url}/queue")
        with stranger(redirect) as server:
            client = client_of(server.url.replace("//", "//kim:hunter2@"))
            answer = client.get("/queue")
            client.close()
            assert b"Authorization: Basic " in server.requests[0]
        assert other.requests == []
    assert (answer.status, answer.location) == (302, f"{other.url}/queue")


def test_a_download_that_is_cut_off_is_an_error() -> None:
    def cut_off(connection: Any, request: bytes) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nContent-Length: 100\r\n\r\nshort")

    with stranger(cut_off) as server:
        client = client_of(server.url)
        with pytest.raises(UnreachableError):
            b"".join(client.download("x.png", "", "output"))
        client.close()


def test_nothing_secret_reaches_the_tap_or_an_error(records: list[dict[str, Any]]) -> None:
    with stranger(garbage) as server:
        address = server.url.replace("//", "//kim:hunter2@") + "/?token=hunter3"
        client = client_of(address, records.append)
        with pytest.raises(UnreachableError) as caught:
            client.get("/queue")
        client.close()
        assert b"token=hunter3" in server.requests[0]
    assert len(records) == 2
    assert "hunter" not in f"{records}{caught.value}{caught.value.hint}"
