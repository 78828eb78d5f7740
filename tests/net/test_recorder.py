"""What the recorder writes holds no secret."""

from __future__ import annotations

import json
from pathlib import Path

from comfyreport.net.recorder import Recorder
from comfyreport.net.redaction import PLACEHOLDER

SECRET = "s3cr3t-pa55"


def test_a_recording_holds_no_secret_and_stays_readable(tmp_path: Path) -> None:
    path = tmp_path / "recording"
    recorder = Recorder(path, server="http://host", secrets=[SECRET, "1", "t", "http"])
    recorder.tap({"dir": "in", "kind": "http", "response": {"a": SECRET, "n": 11}})
    recorder.tap({"dir": "in", "kind": "ws-text", "text": json.dumps({"a": f"<{SECRET}>"})})
    recorder.close()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["kind"] for line in lines] == ["header", "http", "ws-text"]
    assert lines[1]["response"] == {"a": PLACEHOLDER, "n": 11}
    assert json.loads(lines[2]["text"]) == {"a": f"<{PLACEHOLDER}>"}
