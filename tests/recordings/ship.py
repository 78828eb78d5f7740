"""Make the recordings that ship with the package from those of this folder: `python tests/recordings/ship.py`.

What a replay doesn't use is left out (other submissions, bodies of files, /system_stats and the like); a header with
the usual local address is put before. The same input gives the same bytes.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
SHIPPED = HERE.parents[1] / "comfyreport" / "recording" / "recordings"
HEADER = {
    "kind": "header",
    "recording": 1,
    "comfyreport": "0.1.0",
    "server": "http://127.0.0.1:8188",
    "time": 1772600767.25,
}
NAMES = {
    "blocked": "d5_execution_blocked",
    "cached": "b_fully_cached",
    "deleted": "r_deleted_from_queue",
    "expansion": "k6_expansion_inner_progress",
    "interrupted": "f_interrupt_midway",
    "loop": "k_for_loop",
    "lost": "l_server_killed",
    "model-3d": "0.33/p33_3d_outputs",
    "many": "y_two_hundred_nodes",
    "node-error": "d_node_error",
    "parallel": "u_parallel_nodes",
    "partly-cached": "c_partial_cache",
    "queue": "g_queue_three",
    "reconnect": "m_reconnect",
    "rejected": "e_validation_error",
    "text": "v_text_progress",
    "throttled": "0.33/h33_throttled_progress",
    "txt2img": "a2_no_previews",
    "video": "j2_video_and_preview",
}
# Of several prompts in one recording, the one that ships; the first one, unless it stands here.
PROMPT = {"g_queue_three": 2, "0.33/h33_throttled_progress": 1}

# The notes that comfyreport would have written, had it made the recording.
NOTES: dict[str, dict[str, Any]] = {
    "l_server_killed": {
        "note": "end",
        "status": "lost",
        "prompt_state": "unknown",
        "submitted": "yes",
        "retryable": True,
        "error": {
            "code": "server_gone",
            "message": "the server has not answered for 15 s",
            "hint": "look at the server's log, then submit it again",
        },
    },
    "a2_no_previews": {"note": "saved", "index": 0, "path": "sunset.png", "bytes": 71234},
}


def main() -> None:
    for name, source in NAMES.items():
        lines = [json.dumps(record, separators=(",", ":"), ensure_ascii=False) for record in shipped(source)]
        data = "".join(f"{line}\n" for line in lines).encode()
        (SHIPPED / f"{name}.jsonl.gz").write_bytes(gzip.compress(data, 9, mtime=0))


def shipped(source: str) -> Iterator[dict[str, Any]]:
    """The records of one recording as they ship."""
    packed = HERE / f"{source}.jsonl.gz"
    data = gzip.decompress(packed.read_bytes()) if packed.exists() else (HERE / f"{source}.jsonl").read_bytes()
    records = [json.loads(line) for line in data.splitlines()]
    yield HEADER
    yield from needed(records, PROMPT.get(source, 0))
    if source in NOTES:
        yield {"t": records[-1]["t"], "dir": "note", "kind": "note", **NOTES[source]}


def needed(records: Iterable[dict[str, Any]], prompt: int) -> Iterator[dict[str, Any]]:
    """*records* with one submission alone, without files' contents and what a server tells about itself."""
    requests = responses = -1
    for record in records:
        path = str(record.get("path", ""))
        if record["kind"] == "http" and path.startswith(("/view", "/object_info", "/system_stats", "/api/jobs")):
            continue
        if record["kind"] == "http" and path == "/prompt" and record.get("method") == "POST":
            requests += record["dir"] == "out"
            responses += record["dir"] == "in"
            if prompt != (requests if record["dir"] == "out" else responses):
                continue
        record.pop("original_bytes", None)
        yield record
        if responses == prompt and record.get("status") == 400:
            return


if __name__ == "__main__":
    main()
