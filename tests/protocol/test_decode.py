"""decode: every kind of frame that ComfyUI sends, and everything else that could come through a socket."""

from __future__ import annotations

import json
import math
import struct
from typing import Any

import pytest
from hypothesis import given, strategies as st

from comfyreport.protocol import decode, messages
from comfyreport.text import TEXT_LIMIT

JPEG = b"\xff\xd8\xff\xe0"
PNG = b"\x89PNG"


def frame(kind: str, **data: Any) -> str:
    """A text frame as the server writes it."""
    return json.dumps({"type": kind, "data": data})


def binary(kind: int, number: int, rest: bytes = b"") -> bytes:
    return struct.pack(">II", kind, number) + rest


STATE = {"value": 3, "max": 20, "state": "running", "node_id": "3", "display_node_id": "3"}
ERROR = {
    "prompt_id": "p",
    "node_id": "3",
    "node_type": "KSampler",
    "executed": ["4", "5"],
    "exception_message": "boom\n",
    "exception_type": "RuntimeError",
    "traceback": ["one\n", "two\nthree\n"],
    "current_inputs": {"seed": ["1"]},
    "current_outputs": ["3", "4"],
    "timestamp": 1,
}

KNOWN = [
    (frame("status", status={"exec_info": {"queue_remaining": 2}}), messages.StatusMessage(2)),
    (frame("status", status={"exec_info": {"queue_remaining": 0}}, sid="2a"), messages.StatusMessage(0, "2a")),
    (frame("feature_flags", max_upload_size=1), messages.FeatureFlags({"max_upload_size": 1})),
    (frame("execution_start", prompt_id="p", timestamp=1), messages.ExecutionStart("p")),
    (frame("execution_cached", nodes=["3", "4"], prompt_id="p"), messages.ExecutionCached("p", ("3", "4"))),
    (frame("execution_cached", nodes=[], prompt_id="p"), messages.ExecutionCached("p", ())),
    (frame("progress_state", prompt_id="p", nodes={"3": STATE}), messages.ProgressState("p", {"3": STATE})),
    (frame("executing", node="2.0.0.1", display_node="2", prompt_id="p"), messages.Executing("p", "2.0.0.1", "2")),
    (frame("executing", node=None, prompt_id="p"), messages.Executing("p", None, None)),
    (frame("executing", node="3"), messages.Executing(None, "3", None)),
    (frame("progress", value=1, max=20, prompt_id="p", node="3"), messages.ProgressMessage("p", "3", 1, 20)),
    (
        frame("progress", value=2.4e-07, max=1.5, prompt_id="p", node="3"),
        messages.ProgressMessage("p", "3", 2.4e-07, 1.5),
    ),
    (
        frame("executed", node="9", display_node="9", output={"images": []}, prompt_id="p"),
        messages.Executed("p", "9", "9", {"images": []}),
    ),
    (frame("executed", node="9", display_node="9", output=None, prompt_id="p"), messages.Executed("p", "9", "9", {})),
    (frame("execution_success", prompt_id="p", timestamp=1), messages.ExecutionSuccess("p")),
    (frame("execution_complete", prompt_id="p"), messages.ExecutionSuccess("p")),
    (
        frame("execution_error", **ERROR),
        messages.ExecutionError("p", "3", "KSampler", "boom", "RuntimeError", ("one", "two", "three"), ("4", "5")),
    ),
    (
        frame("execution_interrupted", prompt_id="p", node_id="3", node_type="KSampler", executed=["6"]),
        messages.ExecutionInterrupted("p", "3", ("6",)),
    ),
    (binary(1, 1, JPEG), messages.PreviewFrame(JPEG, "image/jpeg")),
    (binary(1, 2, PNG), messages.PreviewFrame(PNG, "image/png")),
    (
        binary(3, 1, b"4" + "width: 128 \u00d7 ünï".encode()),
        messages.TextFrame("4", "width: 128 \u00d7 ünï"),
    ),
]


@pytest.mark.parametrize(("raw", "message"), KNOWN)
def test_known_frames(raw: str | bytes, message: messages.Message) -> None:
    assert decode.decode(raw) == message


def test_text_frames_are_taken_as_bytes_too() -> None:
    assert decode.decode_text(frame("execution_start", prompt_id="p").encode()) == messages.ExecutionStart("p")


def test_a_preview_with_metadata() -> None:
    metadata = json.dumps(
        {"node_id": "2.0.0.2", "prompt_id": "p", "display_node_id": "2", "image_type": "image/png"}
    ).encode()
    message = decode.decode(binary(4, len(metadata), metadata + PNG))
    assert message == messages.PreviewFrame(PNG, "image/png", prompt_id="p", node="2.0.0.2", display_node="2")


def test_a_blocked_node_is_distinguished_from_an_error() -> None:
    blocked = decode.decode(frame("execution_error", **{**ERROR, "exception_type": "ExecutionBlocked"}))
    assert isinstance(blocked, messages.ExecutionError)
    assert blocked.blocked
    error = decode.decode(frame("execution_error", **ERROR))
    assert isinstance(error, messages.ExecutionError)
    assert not error.blocked


def test_an_error_without_any_field_is_still_one() -> None:
    assert decode.decode(frame("execution_error")) == messages.ExecutionError("", "", "", "", "", (), ())


@pytest.mark.parametrize("kind", ["logs", "crystools.monitor", "progress_text", ""])
def test_unknown_types_become_unknown(kind: str) -> None:
    assert decode.decode(frame(kind, x=1)) == messages.Unknown(kind)


@pytest.mark.parametrize("raw", [binary(2, 1, JPEG), binary(99, 0), binary(1, 7, JPEG), binary(0xFFFFFFFF, 0xFFFFFFFF)])
def test_unknown_binary_frames_become_unknown(raw: bytes) -> None:
    assert isinstance(decode.decode(raw), messages.Unknown)


@pytest.mark.parametrize(
    "raw",
    [
        "",
        " ",
        "not json",
        '{"type": "progress", "data": {"val',
        "[]",
        "null",
        "7",
        '"progress"',
        "{}",
        '{"type": null}',
        '{"type": 7, "data": {}}',
        '{"type": "progress"}',
        '{"type": "progress", "data": []}',
        "\ufeff{}",
        "[" * 10_000,
        "[" * 10_000 + "]" * 10_000,
        '{"type": "executed", "data": {"output": ' + '{"a":' * 10_000 + "1" + "}" * 10_002,
        '{"type": "progress", "data": {"value": ' + "9" * 5000 + "}}",
        b"",
        b"\0\0\0\1",
        b"\0\0\0\1\0\0\0",
        binary(3, 100, b"4"),
        binary(4, 0xFFFFFFFF, b"{}"),
        binary(4, 2, b"[]"),
        binary(4, 4, b"nope"),
        binary(4, 0, JPEG),
        binary(4, 20_000, b"[" * 20_000),
    ],
)
def test_what_cant_be_read_is_malformed(raw: str | bytes) -> None:
    message = decode.decode(raw)
    assert isinstance(message, messages.Malformed)
    assert len(message.reason) < 250


NUMBERS = ['"1"', "true", "null", "NaN", "Infinity", "-Infinity", "1e400", "[1]", "{}", "9" * 400, "1e300", "-1e300"]


@pytest.mark.parametrize("field", ["value", "max"])
@pytest.mark.parametrize("number", NUMBERS)
def test_what_is_no_sensible_number_is_malformed(field: str, number: str) -> None:
    other = "max" if field == "value" else "value"
    raw = f'{{"type": "progress", "data": {{"{field}": {number}, "{other}": 1, "prompt_id": "p", "node": "3"}}}}'
    assert isinstance(decode.decode(raw), messages.Malformed)


def test_negative_numbers_are_decoded() -> None:
    message = decode.decode(frame("progress", value=-1, max=-5, prompt_id="p", node="3"))
    assert message == messages.ProgressMessage("p", "3", -1, -5)


@pytest.mark.parametrize(
    "raw",
    [
        frame("execution_start"),
        frame("execution_start", prompt_id=None),
        frame("execution_start", prompt_id=["p"]),
        frame("execution_start", prompt_id=True),
        frame("execution_start", prompt_id=1.5),
        frame("progress_state", prompt_id="p"),
        frame("progress_state", prompt_id="p", nodes=[]),
        frame("progress", value=1, max=2, prompt_id="p"),
        frame("executed", prompt_id="p"),
        frame("execution_success"),
        # Read as an end, these would end a run.
        frame("executing", prompt_id="p"),
        frame("executing", prompt_id="p", node=[1]),
        frame("executing", prompt_id="p", node=False),
        frame("executing", prompt_id={"a": 1}, node="3"),
    ],
)
def test_fields_of_the_wrong_type_are_malformed(raw: str) -> None:
    assert isinstance(decode.decode(raw), messages.Malformed)


def test_ids_that_are_numbers_become_text() -> None:
    assert decode.decode(frame("executing", prompt_id=12345, node=3)) == messages.Executing("12345", "3", None)


def test_optional_fields_of_the_wrong_type_are_left_out() -> None:
    assert decode.decode(frame("status", status="busy", sid=["x"])) == messages.StatusMessage(None, None)
    assert decode.decode(frame("execution_cached", prompt_id="p", nodes="345")) == messages.ExecutionCached("p", ())
    assert decode.decode(frame("execution_cached", prompt_id="p", nodes=["3", None, 4])) == messages.ExecutionCached(
        "p", ("3", "4")
    )
    assert decode.decode(frame("executed", node="9", prompt_id="p", output=[1])) == messages.Executed(
        "p", "9", None, {}
    )
    error = decode.decode(frame("execution_error", **{**ERROR, "traceback": "one line", "exception_message": 7}))
    assert isinstance(error, messages.ExecutionError)
    assert (error.traceback, error.message) == (("one line",), "")


@pytest.mark.parametrize("remaining", ["true", '"1"', "1.5", "-1", "null", "9" * 30, "9" * 400, "NaN"])
def test_a_queue_length_is_a_whole_number_from_0(remaining: str) -> None:
    raw = f'{{"type": "status", "data": {{"status": {{"exec_info": {{"queue_remaining": {remaining}}}}}}}}}'
    assert decode.decode(raw) == messages.StatusMessage(None)


@pytest.mark.parametrize(
    ("entry", "state"),
    [
        (STATE, messages.NodeState("3", "3", True, False, 3)),
        ({**STATE, "display_node_id": None}, messages.NodeState("3", "3", True, False, 3)),
        ({**STATE, "state": "finished", "display_node_id": "2"}, messages.NodeState("3", "2", False, True, 3)),
        ({**STATE, "state": "pending"}, messages.NodeState("3", "3", False, False, 3)),
        ({**STATE, "state": ["running"], "value": "x"}, messages.NodeState("3", "3", False, False, 0)),
        ({}, messages.NodeState("3", "3", False, False, 0)),
        (None, None),
        ("running", None),
        ([], None),
    ],
)
def test_entries_of_a_progress_state(entry: Any, state: messages.NodeState | None) -> None:
    assert decode.node_state("3", entry) == state


def test_numbers_that_json_lacks_become_none() -> None:
    value = decode.loads('{"a": [NaN, Infinity, -Infinity, 1e400, -1e400], "b": ' + "9" * 400 + ', "c": 7}')
    assert value == {"a": [None] * 5, "b": None, "c": 7}


@pytest.mark.parametrize(
    "number", ["1" * 30, "9" * 20, f"-{'9' * 19}", str(2**64 - 1), str(2**64), str(-(2**63)), "-0"]
)
def test_whole_numbers_are_alike_from_both_parsers(number: str) -> None:
    fast, slow = decode.loads(number), decode.loads(f"[{number}, NaN]")[0]
    assert (type(fast), fast) == (type(slow), slow)


def test_lone_surrogates_are_replaced() -> None:
    value = decode.loads('{"a\\ud800": ["\\udfff", {"b": "\ud801x"}]}')
    json.dumps(value, ensure_ascii=False).encode("utf-8")
    assert value == {"a?": ["?", {"b": "?x"}]}


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["p", "3", "running"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
KINDS = sorted({json.loads(raw)["type"] for raw, _ in KNOWN if isinstance(raw, str)})
FIELDS = sorted({*ERROR, *STATE, "status", "sid", "node", "display_node", "nodes", "output", "value", "max"})
ANY_TEXT = st.builds(
    lambda kind, data: json.dumps({"type": kind, "data": data}),
    st.sampled_from(KINDS) | VALUES,
    st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=6) | VALUES,
)
ANY_BINARY = st.builds(binary, st.integers(0, 5), st.integers(0, 40), st.binary(max_size=60))


@given(st.one_of(st.text(), st.binary(), ANY_TEXT, ANY_BINARY))
def test_anything_is_a_message(raw: str | bytes) -> None:
    message = decode.decode(raw)
    assert type(message).__module__ == messages.__name__
    if isinstance(message, messages.ProgressMessage):
        assert all(math.isfinite(number) for number in (message.value, message.maximum))
    if isinstance(message, messages.ProgressState):
        for raw_id, entry in message.nodes.items():
            decode.node_state(raw_id, entry)


@given(st.sampled_from([raw for raw, _ in KNOWN]), st.data())
def test_a_cut_off_frame_is_a_message(raw: str | bytes, data: st.DataObject) -> None:
    length = data.draw(st.integers(0, len(raw) - 1))
    message = decode.decode(raw[:length])
    if isinstance(raw, str):
        assert isinstance(message, messages.Malformed)


# --- sizes


@pytest.mark.parametrize("character", ["x", "\x01", "é", "🏔"])
def test_a_long_text_is_cut_with_an_ellipsis(character: str) -> None:
    message = decode.decode(binary(3, 1, b"4" + character.encode() * 200_000))
    assert message == messages.TextFrame("4", character * (TEXT_LIMIT - 1) + "…")
    whole = decode.decode(binary(3, 1, b"4" + character.encode() * TEXT_LIMIT))
    assert whole == messages.TextFrame("4", character * TEXT_LIMIT)


def test_ids_have_a_limit() -> None:
    usual, long = "6.0.0." * 5000, "6.0.0." * 20_000
    assert decode.decode(frame("executing", prompt_id="p", node=usual)) == messages.Executing("p", usual, None)
    for message in (
        decode.decode(frame("executing", prompt_id="p", node=long)),
        decode.decode(frame("execution_start", prompt_id=long)),
        decode.decode(binary(3, len(long), long.encode() + b"text")),
    ):
        assert isinstance(message, messages.Malformed)
        assert len(message.reason) < 250
    assert decode.node_state(long, STATE) is None
    assert decode.node_state("3", {**STATE, "display_node_id": long}) == decode.node_state("3", STATE)


def test_metadata_of_a_preview_has_a_limit() -> None:
    metadata = b'{"x": "' + b"x" * 2_000_000 + b'"}'
    assert isinstance(decode.decode(binary(4, len(metadata), metadata + PNG)), messages.Malformed)


def test_the_fields_of_an_error_have_limits() -> None:
    long = "x" * 200_000
    lines = [f"line {number}\n" for number in range(1000)]
    message = decode.decode(
        frame("execution_error", node_type=long, exception_message=long, exception_type=long, traceback=[*lines, long])
    )
    assert isinstance(message, messages.ExecutionError)
    assert (len(message.node_type), len(message.exception_type), len(message.message)) == (1000, 1000, TEXT_LIMIT)
    assert message.traceback[-2] == "line 999"
    assert len(message.traceback) == 100
    many = decode.decode(frame("execution_error", traceback="first\n" + "\n" * 1_000_000 + "last"))
    assert isinstance(many, messages.ExecutionError)
    assert (many.traceback[-1], len(many.traceback)) == ("last", 100)


@pytest.mark.parametrize("value", ["[]", "{}", '"a"', "1", '{"a":1}'])
def test_a_text_frame_of_very_many_values_is_not_parsed(value: str) -> None:
    raw = '{"type": "x", "data": {"a": [' + f"{value}," * 3_000_000 + "1]}}"
    assert decode.decode(raw) == messages.Oversized(len(raw))
    assert decode.decode_text(raw.encode()) == messages.Oversized(len(raw))


def test_a_document_of_very_many_values_is_not_parsed() -> None:
    with pytest.raises(ValueError, match="values"):
        decode.loads(b"[" + b"[]," * 6_000_000 + b"1]")


def test_one_long_text_is_parsed() -> None:
    assert decode.loads(b'["' + b"x" * 30_000_000 + b'"]') == ["x" * 30_000_000]


@pytest.mark.slow
def test_the_largest_messages_of_real_servers_are_parsed() -> None:
    states = {str(number): {**STATE, "node_id": str(number), "parent_node_id": None} for number in range(100_000)}
    message = decode.decode_text(frame("progress_state", prompt_id="p", nodes=states).encode())
    assert isinstance(message, messages.ProgressState)
    assert len(message.nodes) == 100_000
    images = {str(number): {"images": [{"filename": "a.png", "subfolder": "", "type": "output"}]} for number in states}
    meta = {number: {"node_id": number, "display_node": number, "real_node_id": number} for number in states}
    assert decode.loads(json.dumps({"p": {"outputs": images, "meta": meta}}).encode())["p"]["meta"] == meta
