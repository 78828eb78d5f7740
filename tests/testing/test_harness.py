"""The kit for authors: what `comfyreport.testing` promises, over the recordings that ship."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from comfyreport_console import console
from comfyreport_filelog import filelog
from comfyreport_jsonl import jsonl

from comfyreport import events as ev
from comfyreport.errors import ReporterError
from comfyreport.events import RunView
from comfyreport.recording.player import read_recording
from comfyreport.reporting.hookspecs import hookimpl
from comfyreport.reporting.streams import Stream
from comfyreport.testing import FakeStream, play, recordings
from comfyreport.testing.harness import MAX_TICKS
from tests.recordings import ship

SHIPPED = Path(ship.SHIPPED)


def test_a_factory_gets_a_stream_and_its_options() -> None:
    steps = play(jsonl, "txt2img", rate=0).count('"step":')
    assert steps == 20
    assert play(jsonl, "txt2img", detail="nodes").count('"step":') == 0
    with pytest.raises(TypeError, match="volume"):
        play(jsonl, "txt2img", volume=3)


def test_the_same_recording_gives_the_same_text() -> None:
    assert play(console, "parallel", tty=True) == play(console, "parallel", tty=True)


def test_a_recording_by_its_path_or_as_it_was_read() -> None:
    path = SHIPPED / "cached.jsonl.gz"
    assert play(console, "cached") == play(console, path) == play(console, read_recording(path))
    assert "7 nodes cached" in play(console, str(path))


def test_the_stream_has_the_properties_that_were_given() -> None:
    seen: list[Stream] = []

    class StreamTaker:
        def __init__(self, out: Stream) -> None:
            seen.append(out)

    play(StreamTaker, "cached")
    play(StreamTaker, "cached", width=42, tty=True, color=True, unicode=False)
    plain, terminal = seen
    assert (plain.width(), plain.tty, plain.color, plain.unicode) == (80, False, False, True)
    assert (terminal.width(), terminal.tty, terminal.color, terminal.unicode) == (42, True, True, False)
    assert terminal.take_terminal()
    assert not plain.take_terminal()


def test_what_ascii_lacks_is_replaced() -> None:
    assert play(console, "text", unicode=False).isascii()


def test_a_reporter_object_keeps_its_own_stream() -> None:
    out = FakeStream()
    assert play(console(out), "cached") == ""
    assert out.text == play(console, "cached")


def test_a_path_is_a_temporary_file_or_the_one_that_was_given(tmp_path: Path) -> None:
    assert "7 nodes" in play(filelog, "cached")
    text = play(filelog, "cached", destination=tmp_path / "new" / "x.log")
    assert (tmp_path / "new" / "x.log").read_text() == text


def test_a_url_is_passed_on_and_a_factory_may_have_no_destination() -> None:
    urls: list[str] = []

    class Hook:
        def __init__(self, url: str) -> None:
            urls.append(url)

    class Nothing:
        def __init__(self, *, times: int = 1) -> None:
            urls.append(str(times))

    assert play(Hook, "cached", destination="http://x/") == ""
    assert play(Nothing, "cached", times=3) == ""
    assert urls == ["http://x/", "3"]


class EventLog:
    """Notes each call with its time."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, float]] = []

    @hookimpl
    def comfyreport_event(self, event: ev.AnyEvent, run: RunView) -> None:
        assert run.elapsed == event.elapsed
        self.calls.append((event.type, event.elapsed))

    @hookimpl
    def comfyreport_tick(self, elapsed: float, run: RunView) -> None:
        assert run.result is None
        self.calls.append(("tick", elapsed))

    @hookimpl
    def comfyreport_close(self) -> None:
        self.calls.append(("close", 0.0))


@pytest.mark.parametrize("name", recordings())
def test_ticks_come_between_the_events_of_an_open_run(name: str) -> None:
    log = EventLog()
    play(log, name)
    assert log.calls.pop() == ("close", 0.0)
    times = [elapsed for _, elapsed in log.calls]
    assert times == sorted(times)
    kinds = [kind for kind, _ in log.calls]
    if "tick" in kinds:
        assert kinds.index("stream_started") < kinds.index("tick")
        assert kinds.index("run_finished") > len(kinds) - kinds[::-1].index("tick") - 1
    ticks = [elapsed for kind, elapsed in log.calls if kind == "tick"]
    assert all(later - earlier > 0.0999 for earlier, later in itertools.pairwise(ticks))
    longest = max(len(list(group)) for _, group in itertools.groupby(kinds))
    assert longest <= MAX_TICKS
    if name == "txt2img":
        assert len(ticks) > 80


def test_previews_come_where_the_reporter_has_their_hook_or_they_are_asked_for() -> None:
    class Counter(EventLog):
        @hookimpl
        def comfyreport_node_preview(self, event: ev.NodePreview) -> None:
            assert event.image.startswith(b"\xff\xd8\xff")
            self.calls.append(("picture", event.elapsed))

    def pictures(log: EventLog, previews: bool | None) -> int:
        play(log, "interrupted", previews=previews)
        return [kind for kind, _ in log.calls].count("node_preview")

    assert pictures(Counter(), None) == pictures(EventLog(), True) == 6
    assert pictures(EventLog(), None) == pictures(Counter(), False) == 0


def test_a_reporter_without_stream_hooks_is_closed_before_the_end_of_the_stream() -> None:
    class End:
        def __init__(self, out: Stream) -> None:
            self.out = out

        @hookimpl
        def comfyreport_run_finished(self, event: ev.RunFinished) -> None:
            self.out.write(f"{event.status} ")

        @hookimpl
        def comfyreport_close(self) -> None:
            self.out.write("closed")

    assert play(End, "cached") == "success closed"


def test_exceptions_and_unknown_hooks_are_raised() -> None:
    class Failing:
        @hookimpl
        def comfyreport_run_finished(self) -> None:
            raise ZeroDivisionError

    class Misspelt:
        @hookimpl
        def comfyreport_run_finnished(self) -> None: ...

    with pytest.raises(ZeroDivisionError):
        play(Failing(), "cached")
    with pytest.raises(ReporterError, match="there is no hook comfyreport_run_finnished"):
        play(Misspelt, "cached")
    with pytest.raises(ReporterError, match="first parameter says no destination"):
        play(lambda name: EventLog(), "cached")
