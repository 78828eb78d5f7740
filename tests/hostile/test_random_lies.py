"""Random lies of a server and of what stands before it, several in one run: no promise breaks, whatever they are.

Each script has a number, which makes it anew: `play(17, folder)` runs one of them, and this a part:
`python -m pytest tests/hostile/test_random_lies.py -k scripts0to29`.
"""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.hostile.running import QUICK, Told, follow
from tests.hostile.server import BEGIN, END, Frame, Hostile, Raw, Reply, head, history, own

SCRIPTS = 300
AT_ONCE = 6
CONTENT = bytes(range(256)) * 300
PNG = {"Content-Type": "image/png"}
PAGE = {"Content-Type": "text/html; charset=utf-8"}
JSON = {"Content-Type": "application/json"}

pytestmark = pytest.mark.slow


def odd(choose: random.Random) -> Reply:
    """An answer that is none of ComfyUI's: a proxy's, a page, one that is cut, packed or empty."""
    status = choose.choice([200, 400, 403, 404, 408, 429, 500, 502, 503, 504, 520, 521, 522, 524, 999])
    body = json.dumps({"prompt_id": "x"}).encode()
    return choose.choice(
        [
            Reply(b"<html>wait</html>", status=status, headers=PAGE),
            Reply(b"", status=status),
            Reply(b"\x1f\x8b\x08\x00junk", headers={**JSON, "Content-Encoding": "gzip"}),
            Reply(headers={**JSON, "Content-Length": "500"}, pieces=[body[:5]]),
            Reply(pieces=[b"HTTP/1.1 200 OK\r\nContent-Ty"], raw=True),
            Reply(pieces=[b"HTTP/1.1 103 Early Hints\r\n\r\n"], raw=True),
            Reply(pieces=[], raw=True),
            Reply(pieces=[b"SSH-2.0-x\r\n"], raw=True),
            Reply(choose.choice([None, [], {}, 1, "x", {"error": None}]), status=status),
        ]
    )


def sometimes(choose: random.Random, honest: Callable[[str], Any], most: int) -> Callable[[str], Any]:
    """Lies the first few times that it is asked, up to *most*; honest from then on."""
    lies = [odd(choose) for _ in range(choose.randint(0, most))]

    def answer(wanted: str) -> Any:
        return lies.pop() if lies else honest(wanted)

    return answer


def some_frames(choose: random.Random) -> tuple[list[Frame], list[Frame]]:
    """What the socket tells, and what it tells after it broke."""
    told: list[Frame] = [*BEGIN, own("progress", node="2", value=2, max=2), *END]
    junk: list[Frame] = [
        "", "null", "[]", "{", '{"type": "progress"}', b"", b"\0\0\0\1", b"\0\0\0\1\0\0\0\1jpg", 0.05,
        own("progress", node="2", value="x", max=None), own("executing", node={"a": 1}), own("nonesuch", x=1),
        own("execution_start"), Raw(head(3, 9) + b"abc"), '{"type": "executing", "data": {"node": null}}',
        own("progress_state", nodes={"2": {"state": "running"}}), "\ud800", "[" * 2000,
    ]  # fmt: skip
    for _ in range(choose.randint(0, 6)):
        told.insert(choose.randrange(len(told) + 1), choose.choice(junk))
    if choose.random() < 0.3:
        del told[choose.randrange(len(told))]
    if choose.random() < 0.3:
        place = choose.randrange(len(told))
        told.insert(place, told[place])
    if choose.random() < 0.3:
        ends = choose.choice([b"\x88\x00", b"\xff" * 20, head(2**40, 1), head(2**40, 2), b"\x81\xff\0\0\0\0"])
        place = choose.randrange(len(told))
        return [*told[:place], Raw(ends)], list(END)
    return told, list(END)


def some_file(choose: random.Random) -> Callable[[str], Any]:
    """How the picture comes: in the end, or never; never a wrong one that could be told from it."""
    whole = Reply(CONTENT, headers=PNG)
    cut = choose.randrange(1, len(CONTENT))
    packed = gzip.compress(CONTENT)
    failures = [
        Reply(headers={**PNG, "Content-Length": str(len(CONTENT))}, pieces=[CONTENT[:cut]]),
        Reply(headers={**PNG, "Content-Encoding": "gzip"}, pieces=[packed[: min(cut, len(packed) - 1)]]),
        Reply(b"<!doctype html>", headers=choose.choice([PNG, PAGE])),
        Reply(b"", headers=PNG),
        Reply(pieces=[b"HTTP/1.1 200 OK\r\nContent-Ty"], raw=True),
        Reply(pieces=[], raw=True),
        *(Reply(b"no", status=status) for status in (400, 401, 403, 404, 408, 429, 500, 502, 521)),
    ]
    lies = [choose.choice(failures) for _ in range(choose.choice([0, 0, 1, 2, 9]))]
    return lambda name: lies.pop() if lies else whole


def play(number: int, folder: Path) -> str:
    """Run script *number*: how it ended."""
    choose = random.Random(number)
    frames, again = some_frames(choose)
    post = sometimes(choose, lambda prompt_id: {"prompt_id": prompt_id, "number": 1, "node_errors": {}}, 1)
    target = folder / "made.png"
    before = choose.random() < 0.5
    if before:
        target.write_bytes(b"before")
    with Hostile(
        frames,
        frames_again=again,
        post=post,
        queue=sometimes(
            choose, lambda prompt_id: {"queue_running": [[1, prompt_id, {}, {}, []]], "queue_pending": []}, 2
        ),
        history=sometimes(choose, history, 3),
        view=some_file(choose),
    ) as server:
        told = follow(server, folder, output=str(target), timing=QUICK)
        ran = server.body is not None
    check_told(told, target, before=before, ran=ran)
    return str(told.result.status)


def check_told(told: Told, target: Path, *, before: bool, ran: bool) -> None:
    """What was told is true, and what exists is whole."""
    result = told.result
    content = target.read_bytes() if target.exists() else None
    saved = [output for output in result.outputs if output.path is not None]
    assert bool(saved) == (content == CONTENT), "a file is told if and only if it is there"
    assert content in (CONTENT, b"before" if before else None), "whole, or as it was"
    assert {path.name for path in target.parent.iterdir()} <= {"made.png", "events.jsonl", "run.log"}
    if result.status == "success":
        assert content == CONTENT
    if ran and result.status == "unreachable":
        # The server took it, and only its own word may say that it hasn't.
        assert told.codes(), "never without having looked"
    assert result.submitted != "no" or result.prompt_state == "none"
    assert (result.exit_code == 0) == (result.status == "success")


PARTS = [range(begin, begin + 30) for begin in range(0, SCRIPTS, 30)]


@pytest.mark.parametrize("part", PARTS, ids=lambda part: f"scripts{part.start}to{part.stop - 1}")
def test_no_promise_breaks(part: range, tmp_path: Path) -> None:
    def one(number: int) -> str:
        folder = tmp_path / str(number)
        folder.mkdir()
        try:
            return play(number, folder)
        except BaseException as error:
            raise AssertionError(f"script {number}: {error}") from error

    with ThreadPoolExecutor(AT_ONCE) as pool:
        ends = list(pool.map(one, part))
    assert {"success"} < set(ends), "they are of many kinds, or they show nothing"
