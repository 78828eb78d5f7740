"""Run under any stream: cut off, with junk in between, doubled, out of order. It always has one right end."""

from __future__ import annotations

import base64
import functools
import json
from typing import Any

from hypothesis import HealthCheck, given, settings, strategies as st

from comfyreport.protocol import decode, messages, responses
from comfyreport.run.verdict import Verdict
from tests import recordings
from tests.playing import (
    ACCEPTED,
    PROMPT,
    Record,
    RunFeeder,
    check,
    executing,
    one_prompt,
    play,
    progress,
    single_prompts,
    states,
    text,
    text_frame,
    the_end,
)

PROMPTS = list(single_prompts())


@functools.cache
def records_of(name: str, number: int) -> tuple[Record, ...]:
    return tuple(one_prompt(recordings.load(name), number))


# --- junk

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just(10**400),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(min_size=1, max_size=5), inner, max_size=3),
    max_leaves=5,
)
KINDS = st.sampled_from(
    [
        "status",
        "progress_state",
        "executing",
        "progress",
        "executed",
        "execution_start",
        "execution_cached",
        "execution_error",
        "execution_interrupted",
        "execution_success",
        "nobody_knows",
    ]
)
# Without a prompt's id, or with another's: none of it may change how our prompt ends.
FOREIGN = st.builds(
    lambda kind, data, other: text(kind, **data, **other),
    KINDS,
    st.dictionaries(st.sampled_from(["node", "nodes", "value", "max", "node_id", "output", "sid", "status"]), JSON),
    st.sampled_from([{}, {"prompt_id": "other"}, {"prompt_id": None}, {"prompt_id": 7}]),
)
TEXT = st.one_of(st.text(max_size=20), FOREIGN, st.builds(json.dumps, JSON))
JUNK = st.one_of(
    TEXT.map(lambda raw: {"kind": "ws-text", "text": raw}),
    st.binary(max_size=40).map(lambda raw: {"kind": "ws-binary", "b64": base64.b64encode(raw).decode()}),
    JSON.map(lambda raw: {"kind": "ws-text", "text": raw}),
    JSON.map(lambda raw: {"kind": "ws-binary", "b64": raw}),
    JSON.map(lambda body: {"kind": "http", "method": "GET", "path": "/queue", "status": 200, "response": body}),
    JSON.map(lambda body: {"kind": "http", "method": "GET", "path": "/history/x", "status": 200, "response": body}),
    st.just({"kind": "http", "method": "GET", "path": "/history/x", "status": 500, "response": None}),
    st.just({"kind": "ws-close"}),
    st.just({"kind": "nobody knows"}),
)


@st.composite
def corrupted(draw: st.DrawFn) -> list[Record]:
    """A prefix of a recording's prompt with junk in it, some records doubled and some neighbours exchanged."""
    whole = records_of(*draw(st.sampled_from(PROMPTS)))
    records = list(whole[: draw(st.integers(1, len(whole)))] if draw(st.booleans()) else whole)
    places = st.integers(0, len(records) - 1)
    for index in draw(st.lists(places, max_size=10)):
        before, after = records[index - 1], records[index]
        if index and before["dir"] == after["dir"] == "in":
            records[index - 1], records[index] = after, before
    for index in sorted(draw(st.lists(places, max_size=10)), reverse=True):
        if records[index]["dir"] == "in" and str(records[index]["kind"]).startswith("ws-"):
            records.insert(index, records[index])
    for index, junk in draw(st.lists(st.tuples(places, JUNK), max_size=10)):
        records.insert(index, {"t": records[index].get("t"), "dir": "in", "sock": "A", **junk})
    return records


def expected(records: list[Record]) -> str:
    """How the run must end, read by hand: by history, else by an error or interrupt of the socket, else lost."""
    posts = [record["request"] for record in records if record.get("path") == "/prompt" and record["dir"] == "out"]
    # One was posted that is no JSON.
    request: dict[str, Any] = (posts[0] if posts else None) or {}
    socket = f"clientId={request.get('client_id')}"
    sockets: set[Any] = set()
    prompt_id = next(
        (r["response"].get("prompt_id") for r in records if is_answer(r) and isinstance(r.get("response"), dict)),
        str(request.get("prompt_id", "")),
    )
    partial = False
    socket_end = ""
    for record in records:
        body = record.get("response")
        if record["kind"] == "ws-open" and str(record.get("path")).endswith(socket):
            sockets.add(record["sock"])
        elif is_answer(record):
            if record["status"] == 400:
                return "rejected"
            partial = partial or bool(isinstance(body, dict) and body.get("node_errors"))
        elif str(record.get("path")).startswith("/history/") and isinstance(body, dict) and prompt_id in body:
            kinds = [message[0] for message in body[prompt_id]["status"]["messages"]]
            end = "interrupted" if "execution_interrupted" in kinds else "error"
            return end if {"execution_interrupted", "execution_error"} & set(kinds) else ["success", "partial"][partial]
        elif record["kind"] == "ws-text" and record["dir"] == "in" and record.get("sock") in sockets:
            message = decode.decode(str(record["text"]))
            if getattr(message, "prompt_id", None) != prompt_id:
                continue
            if isinstance(message, messages.ExecutionError) and message.blocked:
                partial = True
            elif isinstance(message, messages.ExecutionError):
                socket_end = socket_end or "error"
            elif isinstance(message, messages.ExecutionInterrupted):
                socket_end = "interrupted"
    return socket_end or "lost"


def is_answer(record: Record) -> bool:
    return record.get("path") == "/prompt" and record["dir"] == "in" and record["kind"] == "http"


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(corrupted(), st.booleans())
def test_a_corrupted_recording_has_one_right_end(records: list[Record], previews: bool) -> None:
    events = play(records, previews=previews)
    check(events)
    assert the_end(events).status == expected(records)


# --- messages of our own prompt in any order

NODES = st.sampled_from(["1", "2", "3", "2.0.0.1", "2.0.0.2", "9"])
STATES = st.lists(
    st.tuples(
        st.builds(lambda node, display: node + display, NODES, st.sampled_from(["", "", "@2", "@1"])),
        st.sampled_from(["running", "finished", "pending", "error"]),
    ),
    max_size=4,
)
NUMBERS = st.integers(-1, 4) | st.floats(allow_nan=False, width=32) | st.sampled_from([0.5, 5e-324, 2.0**53])
UI = st.sampled_from([{}, {"images": [{"filename": "a.png"}]}, {"text": ["x"], "animated": [True]}])
ENTRIES = st.builds(lambda name: responses.QueueEntry(1, name, None), st.sampled_from([PROMPT, "other"]))
INPUTS = st.one_of(
    st.builds(executing, NODES | st.none(), st.none() | NODES),
    st.builds(lambda node: text("executing", node=node), NODES | st.none()),
    st.builds(progress, NODES, NUMBERS, NUMBERS),
    st.builds(lambda entries, value: states(*entries, value=value), STATES, NUMBERS),
    st.builds(lambda nodes: text("execution_cached", prompt_id=PROMPT, nodes=nodes), st.lists(NODES, max_size=3)),
    st.builds(lambda node, ui: text("executed", prompt_id=PROMPT, node=node, output=ui), NODES, UI),
    st.builds(text_frame, NODES, st.text(max_size=3)),
    st.builds(lambda node: messages.PreviewFrame(b"x", "image/jpeg", node and PROMPT, node), st.none() | NODES),
    st.builds(lambda count: text("status", status={"exec_info": {"queue_remaining": count}}), st.integers(0, 3)),
    st.builds(
        lambda kind, node: text("execution_error", prompt_id=PROMPT, node_id=node, exception_type=kind),
        st.sampled_from(["ExecutionBlocked", "RuntimeError"]),
        NODES,
    ),
    st.builds(
        lambda kind: text(kind, prompt_id=PROMPT),
        st.sampled_from(["execution_start", "execution_success", "execution_interrupted"]),
    ),
    st.just(ACCEPTED),
    st.builds(lambda *lists: responses.Queue(*map(tuple, lists)), *[st.lists(ENTRIES, max_size=2)] * 2),
)
HISTORY = st.builds(
    lambda end, cached, nodes, ui, has_status: responses.History(
        PROMPT,
        end,
        None,
        None,
        tuple(cached),
        tuple(responses.HistoryOutput(node, ui) for node in nodes),
        {node: {"class_type": "A", "inputs": {"x": ["1", 0]}} for node in nodes},
        output_nodes=tuple(nodes),
        has_status=has_status,
    ),
    st.sampled_from(["success", "error", "interrupted"]),
    st.lists(NODES, max_size=3),
    st.lists(NODES, max_size=3),
    UI,
    st.booleans(),
)


@settings(max_examples=400, deadline=None)
@given(st.lists(INPUTS, max_size=30), st.none() | HISTORY, st.booleans(), st.sampled_from([0.0, 1e-9, 1.0, 1e5]))
def test_any_order_of_messages_keeps_the_life_cycle(
    inputs: list[Any], history: responses.History | None, missed: bool, pace: float
) -> None:
    feeder = RunFeeder("1", "2", "3", previews=True)
    feeder.run.missed_messages = missed
    for number, each in enumerate(inputs):
        feeder.feed(pace * number, each)
    if history is not None:
        feeder.feed(pace * len(inputs), history)
    feeder.run.conclude(Verdict("lost"))
    feeder.finish(pace * len(inputs))
