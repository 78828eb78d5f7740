"""Decodes the frames of a ComfyUI server into typed messages. Oddities of the wire format are dealt with here.

`decode` takes one WebSocket frame; `loads` and the `read_` functions are for bodies of HTTP responses as well. None but
`loads` raises for what a server sent: what can't be understood becomes `Unknown` (a type or frame kind that isn't
known) or `Malformed` (a known one of the wrong form). The format is that of ComfyUI 0.3.64 and 0.3.75: `server.py`,
`execution.py`, `comfy_execution/progress.py` and `protocol.py` there.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable, Mapping

import orjson

from comfyreport.protocol.messages import (
    Executed,
    Executing,
    ExecutionCached,
    ExecutionError,
    ExecutionInterrupted,
    ExecutionStart,
    ExecutionSuccess,
    FeatureFlags,
    Json,
    Malformed,
    Message,
    NodeState,
    Oversized,
    PreviewFrame,
    ProgressMessage,
    ProgressState,
    StatusMessage,
    TextFrame,
    Unknown,
)
from comfyreport.text import ID_LIMIT, NAME_LIMIT, TEXT_LIMIT, cut, decode_cut

FRAME_PREVIEW = 1
FRAME_TEXT = 3
FRAME_PREVIEW_WITH_METADATA = 4

# Beyond this, neither a float nor a reader of JSON can count steps exactly.
_MAX_NUMBER = 2.0**53

_IMAGE_TYPES = {1: "image/jpeg", 2: "image/png"}
_METADATA_LIMIT = 1024 * 1024

# A byte of JSON may become thirty of memory. Below so many bytes that is no concern; above, only so many values
# are taken: the states of 100,000 nodes have a million, and a queue of 1,000 workflows with 1,000 nodes each, seven.
_SMALL_BYTES = 1024 * 1024
_MAX_VALUES = 10_000_000
_MAX_FRAME_VALUES = 2_000_000

# Lines of a traceback, and entries of it that are looked at, from its end.
_TRACEBACK_LINES = 100


class _FieldError(Exception):
    """A field is missing or of the wrong type."""


class TooManyValuesError(ValueError):
    """JSON that would take far more memory than it has bytes."""


def loads(data: bytes | bytearray | str, max_values: int = _MAX_VALUES) -> Json:
    """Parse JSON as leniently as a server may write it; ValueError if that fails or it has over *max_values* values.

    Python servers write NaN and infinities, which JSON lacks: they become None. Whole numbers over 64 bits become
    floats.
    """
    if len(data) > _SMALL_BYTES and _count_values(data) > max_values:
        raise TooManyValuesError(f"more than {max_values} values")
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        pass
    try:
        return _clean(json.loads(data, parse_constant=lambda _: None, parse_float=_float, parse_int=_integer))
    except RecursionError:
        raise ValueError("nested too deeply") from None


def read_json(data: bytes | bytearray) -> Json:
    """A body as JSON; None where it is none."""
    try:
        return loads(data)
    except ValueError:
        return None


def dumps(value: Json) -> bytes:
    """*value* as JSON: with integers of any size, which orjson refuses over 64 bits and Python servers take."""
    try:
        return orjson.dumps(value)
    except TypeError:
        return json.dumps(value).encode()


def _count_values(data: bytes | bytearray | str) -> int:
    """An upper bound of how many values JSON holds: each but the first follows one of these characters."""
    if isinstance(data, str):
        return sum(map(data.count, ",[{"))
    return sum(map(data.count, (b",", b"[", b"{")))


def _float(text: str) -> float | None:
    number = float(text)
    return number if math.isfinite(number) else None


def _integer(text: str) -> float | None:
    number = int(text) if len(text) <= 20 else None
    return number if number is not None and -(2**63) <= number < 2**64 else _float(text)


def _clean(value: Json) -> Json:
    """*value* without lone surrogates, which no UTF-8 file or stream could hold."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, list):
        return [_clean(item) for item in value]
    if isinstance(value, dict):
        return {_clean(key): _clean(item) for key, item in value.items()}
    return value


def decode(frame: str | bytes) -> Message:
    """One WebSocket frame as a message: text as str, binary as bytes. Never raises."""
    if isinstance(frame, str):
        return decode_text(frame)
    return decode_binary(frame)


def decode_text(frame: str | bytes) -> Message:
    """A text frame, as str or as its UTF-8 bytes. Never raises."""
    try:
        envelope = loads(frame, _MAX_FRAME_VALUES)
    except TooManyValuesError:
        return Oversized(len(frame))
    except ValueError as error:
        return Malformed(f"text frame of {len(frame)} characters is no JSON: {error}"[:200])
    if not isinstance(envelope, dict):
        return Malformed(f"text frame holds no object but {type(envelope).__name__}")
    kind = envelope.get("type")
    if not isinstance(kind, str):
        return Malformed("text frame without a type")
    reader = _READERS.get(kind)
    if reader is None:
        return Unknown(kind[:100])
    data = envelope.get("data")
    if not isinstance(data, dict):
        return Malformed(f"{kind} without data")
    try:
        return reader(data)
    except _FieldError as error:
        return Malformed(f"{kind}: {error}")


def decode_binary(frame: bytes) -> Message:
    """A binary frame. Never raises. Numbers are big-endian unsigned 32-bit (ComfyUI server.py)."""
    if len(frame) < 8:
        return Malformed(f"binary frame of {len(frame)} bytes is too short")
    kind, number = struct.unpack_from(">II", frame)
    if kind == FRAME_PREVIEW:
        return _preview(number, frame[8:])
    if kind not in (FRAME_TEXT, FRAME_PREVIEW_WITH_METADATA):
        return Unknown(f"binary frame of kind {kind}")
    if len(frame) - 8 < number:
        return Malformed(f"binary frame of kind {kind} is cut off")
    if number > (ID_LIMIT if kind == FRAME_TEXT else _METADATA_LIMIT):
        return Malformed(f"binary frame of kind {kind} with {number} bytes before its content")
    header = frame[8 : 8 + number]
    if kind == FRAME_TEXT:
        return TextFrame(header.decode("utf-8", "replace"), decode_cut(frame, 8 + number, TEXT_LIMIT))
    return _preview_with_metadata(header, frame[8 + number :])


def _preview(image_type: int, image: bytes) -> Message:
    media_type = _IMAGE_TYPES.get(image_type)
    if media_type is None:
        return Unknown(f"preview of image type {image_type}")
    return PreviewFrame(image, media_type)


def _preview_with_metadata(metadata: bytes, image: bytes) -> Message:
    try:
        data = loads(metadata)
    except ValueError:
        return Malformed("preview whose metadata is no JSON")
    if not isinstance(data, dict):
        return Malformed("preview whose metadata is no object")
    media_type = data.get("image_type")
    return PreviewFrame(
        image,
        cut(media_type, NAME_LIMIT) if isinstance(media_type, str) else "image/jpeg",
        prompt_id=read_id(data.get("prompt_id")),
        node=read_id(data.get("node_id")),
        display_node=read_id(data.get("display_node_id")),
    )


def node_state(raw_id: str, entry: Json) -> NodeState | None:
    """One entry of a `ProgressState`; None if it can't be understood."""
    if not isinstance(entry, dict) or len(raw_id) > ID_LIMIT:
        return None
    state = entry.get("state")
    value = entry.get("value")
    return NodeState(
        raw_id,
        read_id(entry.get("display_node_id")) or raw_id,
        state == "running",
        state == "finished",
        value if isinstance(value, (int, float)) else 0,
    )


def read_id(value: Json) -> str | None:
    """A node's or prompt's id: servers keep what clients gave, mostly text, sometimes a number. None if too long."""
    if isinstance(value, str):
        return value if len(value) <= ID_LIMIT else None
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else None


def _need_id(data: Mapping[str, Json], name: str) -> str:
    value = data.get(name)
    if type(value) is str and len(value) <= ID_LIMIT:
        # Nearly always; asked first, for it runs twice with each step.
        return value
    value = read_id(value)
    if value is None:
        raise _FieldError(f"{name} is missing, too long or no text")
    return value


def _need_number(data: Mapping[str, Json], name: str) -> float:
    value = data.get(name)
    # Not isinstance: a bool is no number here.
    if (type(value) is not int and type(value) is not float) or not -_MAX_NUMBER <= value <= _MAX_NUMBER:
        raise _FieldError(f"{name} is missing or no number")
    return value


def read_text(value: Json, limit: int = TEXT_LIMIT) -> str:
    """A text, cut if it is longer than *limit*; empty if it is no text."""
    return cut(value, limit) if isinstance(value, str) else ""


def read_ids(value: Json) -> tuple[str, ...]:
    """A list of ids; what is no id is left out."""
    if not isinstance(value, list):
        return ()
    return tuple(item for item in map(read_id, value) if item is not None)


def _last_lines(value: Json) -> tuple[str, ...]:
    """The last lines of a traceback: a text, or a list of texts with some lines each."""
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, list):
        return ()
    texts = [entry[-TEXT_LIMIT:] for entry in value[-_TRACEBACK_LINES:] if isinstance(entry, str)]
    return tuple(line for text in texts for line in text.splitlines())[-_TRACEBACK_LINES:]


def remaining_of(data: Json) -> int | None:
    """`exec_info.queue_remaining` of a status or of GET /prompt; None where it isn't there."""
    info = data.get("exec_info") if isinstance(data, dict) else None
    remaining = info.get("queue_remaining") if isinstance(info, dict) else None
    return remaining if isinstance(remaining, int) and not isinstance(remaining, bool) and remaining >= 0 else None


def _read_status(data: Mapping[str, Json]) -> Message:
    return StatusMessage(remaining_of(data.get("status")), read_id(data.get("sid")))


def _read_cached(data: Mapping[str, Json]) -> Message:
    return ExecutionCached(_need_id(data, "prompt_id"), read_ids(data.get("nodes")))


def _read_progress_state(data: Mapping[str, Json]) -> Message:
    nodes = data.get("nodes")
    if not isinstance(nodes, dict):
        raise _FieldError("nodes is missing or no object")
    return ProgressState(_need_id(data, "prompt_id"), nodes)


def _read_executing(data: Mapping[str, Json]) -> Message:
    """A node that is None ends the prompt: only an explicit null may become None."""
    if "node" not in data:
        raise _FieldError("node is missing")
    node = None if data["node"] is None else _need_id(data, "node")
    prompt_id = None if data.get("prompt_id") is None else _need_id(data, "prompt_id")
    return Executing(prompt_id, node, read_id(data.get("display_node")))


def _read_progress(data: Mapping[str, Json]) -> Message:
    return ProgressMessage(
        _need_id(data, "prompt_id"), _need_id(data, "node"), _need_number(data, "value"), _need_number(data, "max")
    )


def _read_executed(data: Mapping[str, Json]) -> Message:
    output = data.get("output")
    return Executed(
        _need_id(data, "prompt_id"),
        _need_id(data, "node"),
        read_id(data.get("display_node")),
        output if isinstance(output, dict) else {},
    )


def read_error(data: Mapping[str, Json]) -> ExecutionError:
    """The data of an `execution_error`, from the socket or from history."""
    return ExecutionError(
        read_id(data.get("prompt_id")) or "",
        read_id(data.get("node_id")) or "",
        read_text(data.get("node_type"), NAME_LIMIT),
        read_text(data.get("exception_message")).strip(),
        read_text(data.get("exception_type"), NAME_LIMIT),
        _last_lines(data.get("traceback")),
        read_ids(data.get("executed")),
    )


def read_interrupted(data: Mapping[str, Json]) -> ExecutionInterrupted:
    """The data of an `execution_interrupted`, from the socket or from history."""
    return ExecutionInterrupted(
        read_id(data.get("prompt_id")) or "", read_id(data.get("node_id")), read_ids(data.get("executed"))
    )


_READERS: Mapping[str, Callable[[Mapping[str, Json]], Message]] = {
    "status": _read_status,
    "feature_flags": FeatureFlags,
    "execution_start": lambda data: ExecutionStart(_need_id(data, "prompt_id")),
    "execution_cached": _read_cached,
    "progress_state": _read_progress_state,
    "executing": _read_executing,
    "progress": _read_progress,
    "executed": _read_executed,
    "execution_success": lambda data: ExecutionSuccess(_need_id(data, "prompt_id")),
    # The name that some servers use, and the tracker that this project replaces.
    "execution_complete": lambda data: ExecutionSuccess(_need_id(data, "prompt_id")),
    "execution_error": read_error,
    "execution_interrupted": read_interrupted,
}
