"""Who is told what on the sockets."""

from __future__ import annotations

import json

from comfyreport.simulator import Simulator

from .client import DEADLINE, Client, Socket, binary, until
from .prompts import picture, probe

FLAGS = json.dumps({"type": "feature_flags", "data": {"supports_preview_metadata": True}})


def kinds(socket: Socket) -> set[int]:
    return {binary(frame)[0] for frame in socket.frames if isinstance(frame, bytes)}


def test_newer_socket_replaces_the_older_and_goes_deaf_when_that_one_closes(client: Client) -> None:
    older = Socket(client.url, "same")
    older.wait_for("status")
    newer = Socket(client.url, "same")
    newer.wait_for("status")
    newer.wait_end(client.submit(picture(1), "same"))
    assert older.types() == ["status"]
    assert older.is_open
    older.close()
    witness = Socket(client.url)
    heard = len(newer.frames)
    witness.wait_end(client.submit(picture(2), witness.client_id))
    assert len(newer.frames) == heard
    assert newer.is_open
    newer.close()
    witness.close()


def test_reconnecting_client_is_told_the_running_node_without_a_prompt_id(simulator: Simulator, client: Client) -> None:
    pause = simulator.pause_at("5", 2)
    first = Socket(client.url, "me")
    prompt_id = client.submit(picture(), "me")
    assert pause.reached.wait(DEADLINE)
    first.close()
    again = Socket(client.url, "me")
    again.wait_for("executing")
    stranger = Socket(client.url, "other")
    stranger.wait_for("status")
    pause.release()
    again.wait_end(prompt_id)
    again.close()
    stranger.close()
    status, executing = again.messages()[:2]
    assert status["data"] == {"status": {"exec_info": {"queue_remaining": 1}}, "sid": "me"}
    assert executing == {"type": "executing", "data": {"node": "5"}}
    assert "execution_start" not in again.types()
    assert set(again.messages("progress_state")[0]["data"]["nodes"]) == {"1", "2", "3", "4", "5"}
    assert set(stranger.types()) == {"status"}


def test_after_the_end_a_reconnecting_client_is_told_nothing(client: Client) -> None:
    first = Socket(client.url, "me")
    first.wait_end(client.submit(picture(), "me"))
    first.close()
    again = Socket(client.url, "me")
    again.wait_for("status")
    client.get("/queue")
    again.close()
    assert again.types() == ["status"]


def test_prompt_without_client_id_is_broadcast_in_part(client: Client) -> None:
    observers = [Socket(client.url), Socket(client.url)]
    observers[1].send(FLAGS)
    observers[1].wait_for("feature_flags")
    prompt_id = client.submit(picture(steps=2))
    until(lambda: client.get(f"/history/{prompt_id}") != {}, "history")
    for observer in observers:
        observer.wait_for("status", 4)
        observer.close()
        assert set(observer.types()) - {"feature_flags"} == {"status", "progress_state", "progress"}
        assert {m["data"]["prompt_id"] for m in observer.messages("progress")} == {prompt_id}
        assert kinds(observer) == {1}  # without metadata, even for those who asked for it


def test_interrupt_without_client_id_is_broadcast(simulator: Simulator, client: Client) -> None:
    pause = simulator.pause_at("5", 1)
    observer = Socket(client.url)
    observer.wait_for("status")
    client.submit(picture())
    assert pause.reached.wait(DEADLINE)
    client.post("/interrupt")
    pause.release()
    observer.wait_for("execution_interrupted")
    observer.wait_for("status", 4)
    observer.close()
    assert observer.ended() == []


def test_server_makes_an_id_where_the_client_has_none(client: Client) -> None:
    socket = Socket(client.url, None)
    socket.wait_for("status")
    sid = socket.messages("status")[0]["data"]["sid"]
    assert len(sid) == 32
    socket.wait_end(client.submit(picture(), sid))
    socket.close()


def test_flags_count_only_as_the_first_message(client: Client) -> None:
    late = Socket(client.url, "late")
    for text in ("not json", json.dumps({"type": "hello"}), FLAGS):
        late.send(text)
    junk = Socket(client.url, "junk")
    junk.send("not json")
    junk.send(FLAGS)
    junk.wait_for("feature_flags")
    late.wait_end(client.submit(picture(1), "late"))
    junk.wait_end(client.submit(picture(2), "junk"))
    late.close()
    junk.close()
    assert "feature_flags" not in late.types()
    assert kinds(late) == {1}
    assert kinds(junk) == {4}


def test_text_goes_to_the_client_or_to_everybody(client: Client) -> None:
    mine, other = Socket(client.url), Socket(client.url)
    other.wait_for("status")
    mine.wait_end(client.submit(probe("ProbeText", text="é {i}", count=2, to_client=True), mine.client_id))
    assert [binary(f) for f in mine.frames if isinstance(f, bytes)] == [
        (3, "2", "é 0".encode()),
        (3, "2", "é 1".encode()),
    ]
    assert kinds(other) == set()
    mine.wait_end(client.submit(probe("GetImageSize"), mine.client_id))
    until(lambda: kinds(other) == {3}, "the text")
    mine.close()
    other.close()
    assert [binary(f)[2] for f in other.frames if isinstance(f, bytes)] == [b"width: 16, height: 16\n batch size: 1"]


def test_stopping_cuts_the_sockets_without_a_close_frame() -> None:
    simulator = Simulator(speed=1000)
    simulator.start()
    socket = Socket(simulator.url)
    socket.wait_for("status")
    simulator.stop()
    until(lambda: not socket.is_open, "the end of the connection")
    socket.close()
