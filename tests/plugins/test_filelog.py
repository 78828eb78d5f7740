"""The file log: one line an event, with local time, and a size that stays in bounds."""

from __future__ import annotations

import errno
import logging
import os
import re
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest
from comfyreport_filelog import filelog

from comfyreport import events as ev
from comfyreport.errors import ReporterError
from comfyreport.events import RunView
from tests.plugins.events import (
    ALL_STEPS,
    EPOCH,
    SAMPLER,
    TXT2IMG,
    EventBuilder,
    call_hook,
    deliver,
    failed,
    fully_cached,
    progress,
    sampling,
    txt2img,
)

LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d (INFO   |WARNING|ERROR  ) \S.*")
# Of a run: one for each event, and one for what each node took.
LINES = len(txt2img()) + len(TXT2IMG)


@pytest.fixture
def half_hour_zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A time zone whose offset isn't whole hours: 5:30 before UTC."""
    if not hasattr(time, "tzset"):
        pytest.skip("the time zone can't be set here")
    monkeypatch.setenv("TZ", "XYZ-5:30")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def logged(path: Path, events: list[ev.Event]) -> list[str]:
    deliver(filelog(path), events)
    lines = path.read_text(encoding="utf-8").splitlines()
    for line in lines:
        assert LINE.fullmatch(line), line
    return lines


def texts(lines: list[str]) -> list[str]:
    return [line.split(" ", 1)[1] for line in lines]


@pytest.mark.usefixtures("half_hour_zone")
def test_lines(tmp_path: Path) -> None:
    lines = logged(tmp_path / "run.log", fully_cached())
    assert lines[:2] == [
        "2026-03-04T10:36:07.250+05:30 INFO    comfyreport 0.1.0 run on http://127.0.0.1:8188",
        "2026-03-04T10:36:07.300+05:30 INFO    Connected to progress stream",
    ]
    assert texts(lines)[4] == "INFO    Cached: Load Checkpoint"
    assert texts(lines)[-2:] == [
        "INFO    Generation complete in 0.1s (0 executed, 7 cached: same inputs as before)",
        "INFO    Finished: success, exit code 0",
    ]


def test_the_time_is_the_events(tmp_path: Path) -> None:
    line = logged(tmp_path / "run.log", txt2img())[0]
    assert datetime.fromisoformat(line.split()[0]).timestamp() == EPOCH


def test_one_line_an_event(tmp_path: Path) -> None:
    for number, events in enumerate((txt2img(), fully_cached(), failed())):
        nodes = sum(len(event.node_times) for event in events if isinstance(event, ev.RunFinished))
        assert len(logged(tmp_path / f"{number}.log", events)) == len(events) + nodes


def test_what_each_node_took_stands_before_the_end(tmp_path: Path) -> None:
    lines = texts(logged(tmp_path / "run.log", txt2img()))
    assert lines[-9:-7] == [
        "INFO    Time: Load Checkpoint (CheckpointLoaderSimple, node 4): 2.4s (11%)",
        "INFO    Time: Empty Latent Image (EmptyLatentImage, node 5): 0.0s (0%)",
    ]
    assert lines[-5] == "INFO    Time: KSampler (node 3): 16.0s (70%), 1.2 it/s"
    assert lines[-2] == "INFO    Generation complete in 23.4s"


def test_an_error_is_one_line(tmp_path: Path) -> None:
    lines = [line for line in logged(tmp_path / "run.log", failed()) if " ERROR " in line]
    assert lines[0].split(" ", 2)[2].strip() == (
        "Generation failed after 8.9s in KSampler (node 3): RuntimeError: mat1 and mat2 shapes cannot be multiplied "
        '(77x768 and 4096x320) | File "/comfy/nodes.py", line 1559, in sample | return common_ksampler(model) | '
        "Hint: the text encoder doesn't fit the model"
    )


def test_warnings_have_their_level(tmp_path: Path) -> None:
    builder = EventBuilder().begin()
    builder.add(ev.Warning, code="stalled", message="nothing heard")
    assert "WARNING nothing heard" in texts(logged(tmp_path / "run.log", builder.end()))


def test_what_a_server_sends_stays_on_its_line(tmp_path: Path) -> None:
    builder = EventBuilder()
    builder.add(ev.NodeText, node=ev.NodeRef(id="1", title="雪\n[ERROR] forged"), text="a\r\n\x1b[2J\u2028b \ud800")
    lines = logged(tmp_path / "run.log", builder.events)
    assert texts(lines) == ["INFO    雪\\n[ERROR] forged: a\\r\\n\\x1b[2J\\u2028b \\ud800"]


def test_a_long_text_is_cut(tmp_path: Path) -> None:
    builder = EventBuilder()
    builder.add(ev.StreamFinished, status="success", exit_code=5, reporter_failures=("x" * 400,) * 50)
    (line,) = logged(tmp_path / "run.log", builder.events)
    assert len(line) < 2100
    assert line.endswith("…")


def test_progress_is_thinned_to_one_a_second(tmp_path: Path) -> None:
    builder = sampling(())
    for step in range(1, 1001):
        builder.at(4.0 + step / 100).step(SAMPLER, step, 2000, step / 100)
    builder.add(ev.NodeFinished, node=SAMPLER, **progress(5, 7))
    lines = [line for line in logged(tmp_path / "run.log", builder.end()) if "Sampling" in line]
    assert 10 <= len(lines) <= 12
    assert "1000/2000" in lines[-1]


def test_the_last_step_of_a_pass_is_there(tmp_path: Path) -> None:
    lines = logged(tmp_path / "run.log", txt2img(ALL_STEPS))
    assert any("20/20" in line for line in lines)


def test_a_tick_writes_a_held_line(tmp_path: Path) -> None:
    reporter = filelog(tmp_path / "run.log")
    builder = EventBuilder()
    for step in (1, 2):
        call_hook(reporter, "event", event=builder.step(SAMPLER, step, 20, 0.1))
    call_hook(reporter, "tick", elapsed=0.5, run=RunView())
    assert len((tmp_path / "run.log").read_text().splitlines()) == 1
    call_hook(reporter, "tick", elapsed=1.0, run=RunView())
    assert len((tmp_path / "run.log").read_text().splitlines()) == 2
    call_hook(reporter, "close")


def test_it_is_appended_to(tmp_path: Path) -> None:
    for expected in (1, 2):
        lines = logged(tmp_path / "run.log", txt2img())
        assert len(lines) == expected * LINES


def test_rotation(tmp_path: Path) -> None:
    path = tmp_path / "run.log"
    for _ in range(4):
        deliver(filelog(path, max_bytes=1500, backups=2), txt2img())
    files = sorted(each.name for each in tmp_path.iterdir())
    assert files == ["run.log", "run.log.1", "run.log.2"]
    assert all(each.stat().st_size <= 1500 for each in tmp_path.iterdir())
    # The parts follow on each other: the oldest line of one is the successor of the newest of the other.
    assert "Finished: success" in path.read_text()


def test_no_rotation(tmp_path: Path) -> None:
    deliver(filelog(tmp_path / "run.log", max_bytes=0, backups=0), txt2img())
    assert [each.name for each in tmp_path.iterdir()] == ["run.log"]


@pytest.mark.parametrize(("max_bytes", "backups"), [(-1, 3), (1000, -1), (1000, 0)])
def test_unusable_limits(tmp_path: Path, max_bytes: int, backups: int) -> None:
    with pytest.raises(ReporterError, match="max_bytes="):
        filelog(tmp_path / "run.log", max_bytes=max_bytes, backups=backups)
    assert not (tmp_path / "run.log").exists()


def test_a_path_that_cant_be_written_fails_at_once(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"run\.log"):
        filelog(tmp_path / "missing" / "run.log")


def test_a_full_disk_is_raised(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("no /dev/full here")
    reporter = filelog(full, max_bytes=0, backups=0)
    with pytest.raises(OSError, match="No space left"):
        call_hook(reporter, "event", event=txt2img()[0])
    with pytest.raises(OSError, match="No space left"):
        call_hook(reporter, "close")
    assert capfd.readouterr() == ("", "")


def test_a_failing_rotation_is_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reporter = filelog(tmp_path / "run.log", max_bytes=300, backups=1)

    def refuse(source: str, target: str) -> None:
        raise OSError(errno.EIO, "broken", source)

    monkeypatch.setattr("os.rename", refuse)
    with pytest.raises(OSError, match="broken"):
        deliver(reporter, txt2img())


def test_a_log_that_somebody_holds_goes_on_in_the_same_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in (1, 2):
        (tmp_path / f"run.log.{number}").write_text(f"older {number}\n")
    rename, held = os.rename, True

    def refuse(source: str, target: str) -> None:
        # As Windows does, also where both are one.
        if held and Path(source).name == "run.log":
            raise PermissionError(13, "in use", source)
        rename(source, target)

    monkeypatch.setattr("os.rename", refuse)
    reporter = filelog(tmp_path / "run.log", max_bytes=300, backups=2)
    deliver(reporter, txt2img())
    assert len((tmp_path / "run.log").read_text().splitlines()) == LINES
    assert [(tmp_path / f"run.log.{number}").read_text() for number in (1, 2)] == ["older 1\n", "older 2\n"]
    held = False
    deliver(filelog(tmp_path / "run.log", max_bytes=300, backups=2), txt2img()[:1])
    assert len((tmp_path / "run.log").read_text().splitlines()) == 1


def test_logging_is_left_alone(tmp_path: Path) -> None:
    before = (list(logging.root.handlers), logging.root.level, set(logging.root.manager.loggerDict))
    logged(tmp_path / "run.log", txt2img())
    assert (list(logging.root.handlers), logging.root.level, set(logging.root.manager.loggerDict)) == before
