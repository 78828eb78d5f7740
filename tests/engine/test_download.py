"""Saving what a run made, as the loop sees it: what comes through its inbox meanwhile."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from comfyreport import events as ev
from comfyreport.engine.download import Downloader
from comfyreport.engine.sources import CallDone, CallKind, LeaveRequested, Sources, StopRequested
from comfyreport.errors import UnreachableError
from comfyreport.events import Instant
from comfyreport.protocol import messages
from comfyreport.protocol.downloads import Download, FilePlace
from comfyreport.protocol.responses import read_history
from comfyreport.run import Run
from comfyreport.run.verdict import Verdict
from comfyreport.saving.origin import Origin
from comfyreport.saving.queue import AT_ONCE
from comfyreport.saving.target import Target
from comfyreport.saving.template import read_output
from comfyreport.timing import Timing
from tests.engine.world import PROMPT, entry

MANIFEST = (
    ev.NodeRef(id="9", class_type="SaveImage", title="Save"),
    ev.NodeRef(id="12", class_type="SaveImageWebsocket", title="Send"),
)
AT = Instant(1.0, 1.0)


class World:
    """A run that made files, and its downloader, whose calls are done as the inbox is looked into.

    The calls that were begun last are done first. `refused` are the files that the server doesn't give; *behind* comes
    through the inbox together with the first call that is done.
    """

    def __init__(self, path: Any, *behind: Any, sidecar: bool = False, **options: Any) -> None:
        self.client = SimpleNamespace(timing=Timing(), cut=lambda: None, download=self._download)
        self.told: list[ev.Event] = []
        self.asked: list[str] = []
        self.refused: set[str] = set()
        self.most_at_once = 0
        self.run = Run(PROMPT, MANIFEST, base_url="http://server", seed=7, run_index=5)
        self.run.sent = True
        wanted = read_output(path)
        origin = Origin(server="http://server", workflow="w.json", output=path) if sidecar else None
        self.target = Target(wanted.path, template=wanted.template, origin=origin, **options)
        self.target.prepare()
        self._calls: list[tuple[CallKind, Any, Any]] = []
        self._behind = list(behind)
        self.downloader = Downloader(
            self.run,
            cast(Sources, self),
            self.target,
            publish=self.told.extend,
            clock=lambda: Instant(2.0, 2.0),
            on_turn=lambda: None,
            recorder=None,
            exceeded_limit=lambda: None,
        )

    @contextlib.contextmanager
    def _download(self, place: FilePlace, start: int, version: str) -> Iterator[Download]:
        self.asked.append(place.filename)
        if place.filename in self.refused:
            raise UnreachableError("404", code="download_failed")
        yield Download(0, None, "", iter([place.filename.encode()]))

    # --- in the place of Sources

    def call(self, kind: CallKind, function: Any, on_done: Any) -> None:
        self._calls.append((kind, function, on_done))
        self.most_at_once = max(self.most_at_once, len(self._calls))

    def receive(self, timeout: float) -> list[Any]:
        if not self._calls:
            return []
        kind, function, on_done = self._calls.pop()
        try:
            done = CallDone(kind, function(), None, on_done)
        except (OSError, UnreachableError) as error:
            done = CallDone(kind, None, error, on_done)
        behind, self._behind = self._behind, []
        return [done, *behind]

    def finish(self, done: CallDone) -> None:
        done.on_done(done)

    # --- what happens

    def feed(self, message: Any) -> None:
        events = self.run.feed(message, AT)
        self.told += events
        self.downloader.take(events)

    def node_made(self, node: str, *images: str, folder: str = "output") -> None:
        """The socket tells that a node made these, and that it ended."""
        files = [{"filename": name, "subfolder": "", "type": folder} for name in images]
        self.feed(messages.Executing(PROMPT, node, node))
        self.feed(messages.Executed(PROMPT, node, node, {"images": files}))
        states = {node: {"value": 1, "max": 1, "state": "finished", "display_node_id": node}}
        self.feed(messages.ProgressState(PROMPT, states))

    def history(self, **images: list[str]) -> None:
        """History tells what nodes made: `n9=[…]`."""
        files = {
            node[1:]: {"images": [{"filename": name, "subfolder": "", "type": "output"} for name in names]}
            for node, names in images.items()
        }
        history = read_history({PROMPT: entry() | {"outputs": files}}, PROMPT)
        assert history is not None
        self.told += self.run.feed(history, AT)

    def turn(self, count: int = 100) -> None:
        """Let so many calls be done while the run goes on."""
        for _ in range(count):
            for item in self.receive(0):
                self.finish(item)

    def saved(self) -> list[str | None]:
        return [event.output.filename for event in self.told if isinstance(event, ev.OutputSaved)]

    def end(self) -> ev.RunFinished:
        self.downloader.save()
        self.target.close()
        (end,) = (event for event in self.run.finish(AT) if isinstance(event, ev.RunFinished))
        return end


def files(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_all_are_saved_in_order_however_their_bytes_come(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.history(n9=[f"{number}.png" for number in range(20)])
    assert world.end().status == "success"
    assert world.saved() == [f"{number}.png" for number in range(20)]
    assert AT_ONCE <= world.most_at_once <= AT_ONCE + 1  # one of them gets its name


@pytest.mark.parametrize("request_", [StopRequested(), LeaveRequested()])
def test_a_stop_that_comes_together_with_a_file_is_heard(tmp_path: Path, request_: Any) -> None:
    world = World(tmp_path, request_)
    world.history(n9=[f"{number}.png" for number in range(20)])
    assert world.end().status == "cancelled"
    assert len(world.asked) <= AT_ONCE + 1
    # What is on disk by then is told.
    assert len(world.saved()) == len(files(tmp_path))


def test_a_node_that_ends_has_its_files_saved_while_the_run_goes_on(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.node_made("9", "a.png", "b.png")
    world.turn()
    assert (files(tmp_path), world.run.verdict) == ({"a.png": "a.png", "b.png": "b.png"}, None)
    kinds = [type(event) for event in world.told if isinstance(event, (ev.OutputReady, ev.OutputSaved))]
    assert kinds == [ev.OutputReady, ev.OutputSaved] * 2
    world.history(n9=["a.png", "b.png", "c.png"])
    end = world.end()
    assert (end.status, world.asked) == ("success", ["b.png", "a.png", "c.png"])
    assert [Path(output.path or "").name for output in end.outputs] == ["a.png", "b.png", "c.png"]
    # Each is told once.
    ready = [event.output.filename for event in world.told if isinstance(event, ev.OutputReady)]
    assert (ready, world.saved()) == (["a.png", "b.png", "c.png"],) * 2


def test_the_file_that_was_named_is_the_first_of_the_workflow_whichever_came_first(tmp_path: Path) -> None:
    world = World(tmp_path / "out.png")
    world.node_made("12", "later.png")
    world.turn()
    assert (len(world.asked), world.saved()) == (1, [])
    world.history(n12=["later.png"], n9=["first.png"])
    assert world.end().status == "success"
    assert files(tmp_path) == {"out.png": "first.png", "out-2.png": "later.png"}
    assert world.asked == ["later.png", "first.png"]


def test_what_cant_be_had_yet_is_tried_again_at_the_end(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.refused = {"a.png"}
    world.node_made("9", "a.png")
    world.turn()
    assert [event for event in world.told if isinstance(event, ev.Warning)] == []
    world.refused = set()
    world.history(n9=["a.png"])
    assert world.end().status == "success"
    assert files(tmp_path) == {"a.png": "a.png"}


def test_a_file_that_cant_be_had_makes_the_run_partial_and_keeps_its_url(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.refused = {"a.png"}
    world.history(n9=["a.png", "b.png"])
    end = world.end()
    assert (end.status, [output.path is not None for output in end.outputs]) == ("partial", [False, True])
    assert end.outputs[0].url == "http://server/view?filename=a.png&subfolder=&type=output"


def test_what_was_saved_is_told_though_history_never_comes(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.node_made("9", "a.png")
    world.turn()
    world.run.conclude(Verdict("lost", ev.ErrorInfo(code="server_gone", message="gone"), "unknown", "yes"))
    end = world.end()
    assert (end.status, [Path(output.path or "").name for output in end.outputs]) == ("lost", ["a.png"])


def test_a_file_that_was_fetched_gets_its_name_though_history_never_comes(tmp_path: Path) -> None:
    world = World(tmp_path / "out.png")
    world.node_made("9", "a.png")
    world.turn()
    world.run.conclude(Verdict("lost", ev.ErrorInfo(code="server_gone", message="gone"), "unknown", "yes"))
    assert [output.path for output in world.end().outputs] == [str(tmp_path / "out.png")]


def test_temporary_files_are_not_fetched_early_unless_they_are_results(tmp_path: Path) -> None:
    for include in (False, True):
        world = World(tmp_path)
        world.run.include_temp = include
        world.node_made("9", "t.png", folder="temp")
        world.turn()
        assert world.asked == ["t.png"] * include


def test_pictures_of_the_socket_are_saved(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.feed(messages.Executing(PROMPT, "12", "12"))
    for image in (b"first", b"second"):
        world.feed(messages.PreviewFrame(image, "image/png"))
    world.feed(messages.PreviewFrame(b"a sampler's", "image/jpeg"))
    world.feed(messages.PreviewFrame(b"third", "image/png", PROMPT, "12", "12"))
    world.history(n9=["a.png"])
    end = world.end()
    assert end.status == "success"
    assert files(tmp_path) == {
        "a.png": "a.png",
        "SaveImageWebsocket_12_00001_.png": "first",
        "SaveImageWebsocket_12_00002_.png": "second",
        "SaveImageWebsocket_12_00003_.png": "third",
    }
    assert [output.node.id for output in end.outputs] == ["9", "12", "12", "12"]
    assert all(output.path for output in end.outputs)


def test_pictures_that_nobody_was_there_to_take_are_missing(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.feed(messages.Executing(PROMPT, "12", "12"))
    world.history(n9=["a.png"])
    end = world.end()
    assert end.status == "partial"
    assert end.error is not None
    assert "Send" in end.error.message


def test_a_template_names_them(tmp_path: Path) -> None:
    world = World(f"{tmp_path}/{{seed}}/{{run}}-{{node}}-{{title}}-{{index:03}}")
    world.history(n9=["a.png", "b.webp"])
    assert world.end().status == "success"
    assert files(tmp_path / "7") == {"5-9-Save-000.png": "a.png", "5-9-Save-001.webp": "b.webp"}


def test_a_sidecar_tells_what_made_a_file(tmp_path: Path) -> None:
    world = World(tmp_path / "out.png", sidecar=True)
    world.history(n9=["a.png"])
    assert world.end().status == "success"
    told = json.loads((tmp_path / "out.png.json").read_text())
    assert (told["seed"], told["server"], told["output"]["filename"]) == (7, "http://server", "a.png")
    assert told["outputs"] == [{"node_id": "9", "index": 0, "filename": "a.png", "path": str(tmp_path / "out.png")}]
    assert told["command"].startswith("comfyreport --workflow w.json --server http://server --output ")


def test_a_sidecar_goes_with_the_file_that_is_replaced(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        world = World(tmp_path / "out.png", sidecar=True)
        world.history(n9=[name])
        world.end()
    assert json.loads((tmp_path / "out.png.json").read_text())["output"]["filename"] == "b.png"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.png", "out.png.json"]


def test_a_sidecar_replaces_nothing_unless_asked(tmp_path: Path) -> None:
    (tmp_path / "out.png.json").write_text("mine")
    world = World(tmp_path / "out.png", sidecar=True)
    world.history(n9=["a.png"])
    world.end()
    assert (tmp_path / "out.png.json").read_text() == "mine"
    assert json.loads((tmp_path / "out.png-2.json").read_text())["prompt_id"] == PROMPT
    again = World(tmp_path / "out.png", sidecar=True, overwrite=True)
    again.history(n9=["a.png"])
    again.end()
    assert json.loads((tmp_path / "out.png.json").read_text())["prompt_id"] == PROMPT
