"""The simulator says what the real server said: every recording here is driven again, request by request.

The same prompts, feature flags and requests go to the simulator at the same moments; what comes back on each socket
and in each answer must be equal, in order, after these normalisations:

* prompt ids, client ids and time stamps are renamed; `number` counts from the first prompt; of a file name only its
  suffix is kept;
* `executed`, `current_outputs` and the errors of a node are sorted: the real server keeps them in sets;
* tracebacks, tooltips, the values of `current_inputs` (whole tensors) and the pixels of pictures are left out.

What else is left out, for one recording alone, stands with its case.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

import pytest

from comfyreport.sim_nodes.node_classes import SAMPLERS
from comfyreport.simulator import BETWEEN_PROMPTS, Breakpoint, Simulator
from tests import recordings

from .client import DEADLINE, Client, Frame, Socket, binary, connected, until

Record = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """How one recording is driven.

    `moments` says for a request (by its number among all that the client did, from 0) at which point of the run it
    is made: node and step. `apart` compares the status messages apart from the others, `clock` leaves out the progress
    that is but the clock's. `omitted` are classes that the simulator doesn't know so well: requests with them are left
    out. `requests`: only so many are driven.
    """

    moments: dict[int, tuple[str, int]] = field(default_factory=dict)
    apart: bool = False
    previews: bool = True
    files: list[str] | None = None
    clock: bool = False
    version: str = "0.3.64"
    omitted: tuple[str, ...] = ()
    requests: int | None = None


CASES = {
    "a2_no_previews": Case(previews=False),
    "b_fully_cached": Case(),
    "c_partial_cache": Case(),
    "d_node_error": Case(),
    "d5_execution_blocked": Case(),
    "e_validation_error": Case(files=["tiny_sd15.safetensors"]),
    "f_interrupt_midway": Case({2: ("3", 6)}),
    # Status messages of a POST race with those of the prompt that runs meanwhile.
    "g_queue_three": Case({3: ("3", 0), 4: ("3", 0), 5: ("3", 0), 6: (BETWEEN_PROMPTS, 0)}, apart=True),
    "h_no_progress": Case(),
    "k6_expansion_inner_progress": Case(),
    "n_preview_metadata": Case(),
    "o_websocket_output": Case(),
    "q_sampler_custom_advanced": Case(),
    # As in g; there, too, the real server took 0.3 s to send execution_cached, and the client was faster.
    "r_deleted_from_queue": Case(
        {2: ("4", 0), 3: ("4", 0), 4: ("4", 0)} | {5: ("3", 2), 6: ("3", 2), 7: ("3", 4), 8: ("3", 5), 9: ("3", 5)},
        apart=True,
    ),
    # Its progress is the clock's: how often it is told, and which values, differs from run to run.
    "u_parallel_nodes": Case(clock=True),
    "v_text_progress": Case(),
    "x_progress_kinds": Case(),
    # The list of ControlNets is that of checkpoints here; and behind the last one, the list of what takes whose place.
    "0.33/e33_refusals": Case(
        files=["tiny_sd15.safetensors"],
        version="0.33.0",
        omitted=("SaveImageAdvanced", "T2IAdapterLoader"),
        requests=25,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_same_as_recorded(name: str) -> None:
    case = CASES[name]
    recorded = list(_driven(recordings.load(name), case))
    with (
        Simulator(speed=1000, previews=case.previews, files=case.files, version=case.version) as simulator,
        connected(simulator) as client,
    ):
        _fill_cache(client, recorded)
        played = _Player(simulator, client, recorded, case).play()
    wanted, got = _Story(recorded), _Story(played)
    assert got.answers == wanted.answers
    assert got.sockets.keys() == wanted.sockets.keys()
    for sock in wanted.sockets:
        for part in _parts(case):
            assert part(got.sockets[sock]) == part(wanted.sockets[sock]), sock


def _driven(recorded: list[Record], case: Case) -> Iterator[Record]:
    """The records up to the last request that is driven, without those that are left out."""
    omitted, requests = False, 0
    text = json.dumps(recorded).replace("NoSuchNode", "NodeNotInstalled")
    # It has three samplers more.
    text = text.replace("(list of length 44)", f"(list of length {len(SAMPLERS)})")
    for record in json.loads(text):
        if record["dir"] == "out":
            nodes = record["request"]["prompt"].values() if _has_nodes(record) else ()
            omitted = any(isinstance(node, dict) and node.get("class_type") in case.omitted for node in nodes)
            requests += 1
            if requests == case.requests:
                return
        if not omitted:
            yield record


def _has_nodes(record: Record) -> bool:
    return _is_post(record) and isinstance((record.get("request") or {}).get("prompt"), dict)


def _fill_cache(client: Client, recorded: list[Record]) -> None:
    """Runs what the first prompt of the recording found in the cache."""
    cached: list[str] = []
    for record in recorded:
        message = json.loads(record["text"]) if record["kind"] == "ws-text" else {}
        if message.get("type") == "execution_cached":
            cached = message["data"]["nodes"]
            break
    if cached:
        prompts = [record["request"]["prompt"] for record in recorded if _is_post(record)]
        viewers = {f"v{n}": {"class_type": "PreviewAny", "inputs": {"source": [n, 0]}} for n in cached}
        client.run({**{n: prompts[0][n] for n in cached}, **viewers})


def _is_post(record: Record) -> bool:
    return (record["dir"], record["kind"], record.get("path")) == ("out", "http", "/prompt")


class _Player:
    """Does what the client of a recording did, and records what comes back in the same form."""

    def __init__(self, simulator: Simulator, client: Client, recorded: list[Record], case: Case) -> None:
        self.client = client
        self.recorded = recorded
        self.moments = case.moments
        self.pauses: dict[tuple[str, int], Breakpoint] = {
            moment: simulator.pause_at(*moment) for moment in dict.fromkeys(case.moments.values())
        }
        self.sockets: dict[str, Socket] = {}
        self.renamed: dict[str, str] = {}
        self.played: list[Record] = []

    def play(self) -> list[Record]:
        done = ended = 0
        for record in self.recorded:
            ended += _is_end(record)
            if record["dir"] != "out":
                continue
            moment = self.moments.get(done)
            if moment is not None:
                assert self.pauses[moment].reached.wait(DEADLINE), record
            else:
                until(lambda ended=ended: self._ended() >= ended, f"{ended} ends")  # type: ignore[misc]
            self._do(record)
            done += 1
            if moment is not None and self.moments.get(done) != moment:
                self.pauses[moment].release()
        until(lambda: self._ended() >= ended, f"{ended} ends")
        for sock in [sock for sock, socket in self.sockets.items() if socket.is_open]:
            self._close(sock)
        return self.played

    def _ended(self) -> int:
        return sum(len(socket.ended()) for socket in self.sockets.values())

    def _do(self, record: Record) -> None:
        kind, sock = record["kind"], record.get("sock", "")
        if kind == "http":
            self._request(record)
        elif kind == "ws-open":
            self.sockets[sock] = Socket(self.client.url, record["path"].split("clientId=")[1])
            self.sockets[sock].wait_for("status")
            self.played.append(record)
        elif kind == "ws-text":
            self.sockets[sock].send(record["text"])
            self.sockets[sock].wait_for("feature_flags")
        elif kind == "ws-close":
            statuses = [r for r in self.recorded if r.get("sock") == sock and '"type": "status"' in r.get("text", "")]
            self.sockets[sock].wait_for("status", len(statuses))
            self._close(sock)

    def _close(self, sock: str) -> None:
        self.sockets[sock].close()
        self.played += [_frame_record(sock, frame) for frame in self.sockets[sock].frames]

    def _request(self, record: Record) -> None:
        path = record["path"]
        body = json.dumps(record.get("request"))
        for old, new in [*self.renamed.items(), *self._files().items()]:
            path, body = path.replace(old, new), body.replace(old, new)
        data = record.get("request_text") or (None if body == "null" else body)
        answer = self.client.session.request(record["method"], self.client.url + path, data=data, timeout=DEADLINE)
        told = {"dir": "in", "kind": "http", "method": record["method"], "path": path, "status": answer.status_code}
        told["content_type"] = answer.headers.get("Content-Type", "")
        if told["content_type"].startswith("application/json"):
            told["response"] = answer.json()
            if _is_post(record) and "prompt_id" in told["response"]:
                self.renamed[self._recorded_id()] = told["response"]["prompt_id"]
        elif not path.startswith("/view"):
            told["response_text"] = answer.text
        self.played.append(told)

    def _recorded_id(self) -> str:
        """The id that the recording has for the prompt that was just accepted."""
        return _prompt_ids(self.recorded)[len(self.renamed)]

    def _files(self) -> dict[str, str]:
        """The simulator's names for the recording's files: those told in the same place."""
        frames = [json.loads(r["text"]) for r in self.recorded if '"type": "executed"' in r.get("text", "")]
        told = [message for socket in self.sockets.values() for message in socket.messages("executed")]
        return dict(zip(_filenames(frames), _filenames(told), strict=False))


def _is_end(record: Record) -> bool:
    return record["dir"] == "in" and '"executing", "data": {"node": null' in record.get("text", "")


def _frame_record(sock: str, frame: Frame) -> Record:
    if isinstance(frame, str):
        return {"dir": "in", "kind": "ws-text", "sock": sock, "text": frame}
    return {"dir": "in", "kind": "ws-binary", "sock": sock, "b64": base64.b64encode(frame).decode()}


def _prompt_ids(records: list[Record]) -> list[str]:
    """The ids in the answers of POST /prompt, in order."""
    answers = [r["response"] for r in records if r["dir"] == "in" and r.get("path") == "/prompt" and "response" in r]
    return [answer["prompt_id"] for answer in answers if "prompt_id" in answer]


def _filenames(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["filename"]] if "filename" in value else []
        return own + [name for part in value.values() for name in _filenames(part)]
    return [name for part in value for name in _filenames(part)] if isinstance(value, list) else []


class _Story:
    """A recording in a form that can be compared: answers in order, and the frames of each socket in order."""

    def __init__(self, records: list[Record]) -> None:
        self.names = {prompt_id: f"prompt-{index}" for index, prompt_id in enumerate(_prompt_ids(records))}
        for record in records:
            if record["kind"] == "ws-open" and record["dir"] == "out":
                self.names[record["path"].split("clientId=")[1]] = f"client-{record['sock']}"
        numbers = [r["response"]["number"] for r in records if "number" in r.get("response", {})]
        self.first_number = numbers[0]
        self.answers: list[Any] = []
        self.sockets: dict[str, list[Any]] = {}
        for record in records:
            if record["dir"] == "in" and record["kind"] == "http":
                self.answers.append(self._answer(record))
            elif record["dir"] == "in" and record["kind"] in ("ws-text", "ws-binary"):
                self.sockets.setdefault(record["sock"], []).append(self._frame(record))

    def _renamed(self, text: str) -> str:
        for old, new in self.names.items():
            text = text.replace(old, new)
        return text

    def _answer(self, record: Record) -> Any:
        body = record.get("response", record.get("response_text"))
        path = self._renamed(record["path"]).split("?")[0]
        kind = record["content_type"] if body != "" else "of nothing"  # which differs between versions of aiohttp
        return [record["method"], path, record["status"], kind, self._normal(body)]

    def _frame(self, record: Record) -> Any:
        if record["kind"] == "ws-text":
            return self._normal(json.loads(record["text"]))
        kind, header, content = binary(base64.b64decode(record["b64"]))
        return ["binary", kind, self._normal(header), content if kind == 3 else content[:4]]

    def _normal(self, value: Any) -> Any:
        value = json.loads(self._renamed(json.dumps(value)))
        return self._walk(value)

    def _walk(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {key: self._entry(key, part) for key, part in value.items() if key != "tooltip"}
        if isinstance(value, list):
            if len(value) == 5 and isinstance(value[0], int) and isinstance(value[2], dict):
                value = [value[0] - self.first_number, *value[1:]]
            return [self._walk(part) for part in value]
        return value

    def _entry(self, key: str, value: Any) -> Any:
        if key in ("timestamp", "create_time"):
            return "time"
        if key == "number":
            return value - self.first_number
        if key == "filename":
            return PurePosixPath(value).suffix
        if key in ("value", "max"):
            return repr(value)  # 1 and 1.0 are told apart
        if key == "traceback":
            return bool(value)
        if key in ("executed", "current_outputs"):
            return sorted(value)
        if key == "current_inputs" and isinstance(value, dict):
            return {name: len(values) for name, values in value.items()}
        if key == "errors":
            return sorted(map(self._walk, value), key=lambda error: str(error["extra_info"].get("input_name")))
        return self._walk(value)


def _parts(case: Case) -> list[Callable[[list[Any]], list[Any]]]:
    """The views of a socket's frames that are compared."""
    if case.apart:
        return [
            lambda frames: [frame for frame in frames if _type(frame) == "status"],
            lambda frames: [frame for frame in frames if _type(frame) != "status"],
        ]
    return [_without_ticks if case.clock else list]


def _type(frame: Any) -> Any:
    return frame["type"] if isinstance(frame, dict) else "binary"


def _without_ticks(frames: list[Any]) -> list[Any]:
    """Leaves out all but a node's first and last progress, with the states before them, and the readings."""
    kept: list[Any] = []
    begun: set[str] = set()
    for frame in frames:
        data = frame["data"]
        if frame["type"] == "progress":
            ended = data["value"] == data["max"]
            if data["node"] in begun and not ended:
                kept.pop()
                continue
            begun.add(data["node"])
            data["value"] = "end" if ended else "under way"
        elif frame["type"] == "progress_state":
            for state in data["nodes"].values():
                if float(state["max"]) % 1:
                    state["value"] = "end" if state["value"] == state["max"] else "under way"
        kept.append(frame)
    return kept
