"""Where reporters write: checked, claimed and opened before anything is submitted; who draws on a terminal."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from comfyreport.reporting.plugins import Plugins, StandardStreams
from comfyreport.reporting.streams import Stream, Terminals
from tests.packages import Packages, bell, chosen, error_of
from tests.systems import needs_posix


@needs_posix("links, /dev")
class TestDestinations:
    """Where reporters write: checked and opened before anything is submitted."""

    @pytest.fixture(autouse=True)
    def _packages(self, packages: Packages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        bell(packages)
        bell(packages, "horn", " = stderr")
        packages.add(
            "log",
            "from pathlib import Path\ndef log(path: Path = Path('usual/run.log')):\n    return Log()\nclass Log: ...",
        )
        packages.add(
            "hook", "def hook(url: str): return Hook(url)\nclass Hook:\n def __init__(self, url): self.url = url"
        )
        packages.add("none", "def none(*, n: int = 1): return Nothing()\nclass Nothing: ...")
        monkeypatch.chdir(tmp_path)

    @pytest.mark.parametrize(
        ("spec", "cause"),
        [
            ("bell", "reporter bell needs a destination"),
            ("bell=", "reporter bell: the destination is empty"),
            ("hook", "reporter hook needs a URL"),
            ("none=x", "reporter none takes no destination"),
            ("none=", "reporter none takes no destination"),
            ("log=-", "reporter log writes to a file, not to -"),
            ("log=stderr", "reporter log writes to a file, not to stderr"),
            ("bell=.", "reporter bell can't write to .: Is a directory"),
            ("log=.", "reporter log can't write to .: Is a directory"),
            ("bell=file/x", "reporter bell can't write to file/x: "),
            ("log=file/x", "reporter log can't write to file/x: "),
            ("bell=a\0b", "reporter bell can't write to a\0b: "),
            ("log=a\0b", "reporter log can't write to a\0b: "),
            ("bell=" + "x" * 300, "reporter bell can't write to x"),
        ],
    )
    def test_what_cannot_be_written(self, plugins: Plugins, spec: str, cause: str) -> None:
        Path("file").touch()
        error = error_of(plugins, spec)
        assert error.message.startswith(cause)
        assert error.hint.startswith("--reporter " + spec[:4].rstrip("=")) or "give it a file" in error.hint

    @pytest.mark.parametrize("name", ["bell", "log"])
    def test_a_tilde_is_the_home_folder(
        self, plugins: Plugins, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        (tmp_path / "home").write_text("no folder")
        assert str(tmp_path / "home" / "x") in error_of(plugins, f"{name}=~/x").message

    @pytest.mark.parametrize("name", ["bell", "log"])
    def test_a_fifo_that_nobody_reads(self, plugins: Plugins, name: str) -> None:
        os.mkfifo("fifo")
        error = error_of(plugins, f"{name}=fifo")
        assert error.message == f"reporter {name} can't write to fifo: nobody reads this FIFO"
        assert error.hint.startswith("start its reader first, or give it a file")

    @pytest.mark.parametrize("name", ["bell", "log"])
    def test_a_fifo_with_a_reader_ends_when_its_reporter_does(self, plugins: Plugins, name: str) -> None:
        os.mkfifo("fifo")
        reader = os.open("fifo", os.O_RDONLY | os.O_NONBLOCK)
        try:
            stream = chosen(plugins, f"{name}=fifo").stream
            assert stream is not None
            assert os.get_blocking(stream.file.fileno())
            with pytest.raises(BlockingIOError):
                os.read(reader, 1)
            stream.close()
            assert os.read(reader, 1) == b""
        finally:
            os.close(reader)

    def test_standard_streams(self, plugins: Plugins) -> None:
        assert chosen(plugins, "bell=-").stream is plugins.streams.stdout
        assert chosen(plugins, "horn").stream is plugins.streams.stderr
        assert plugins.streams.stderr.owner == "horn"
        for spec in ("bell=-", "horn=-"):
            assert error_of(plugins, spec).message == f"reporters bell and {spec[:4]} both write to stdout"
        for spec in ("horn", "bell=stderr"):
            assert error_of(plugins, spec).message == f"reporters horn and {spec[:4]} both write to stderr"

    def test_a_url_is_taken_as_it_is(self, plugins: Plugins) -> None:
        assert vars(chosen(plugins, "hook=http://x/?a=1,b=2").plugin) == {"url": "http://x/?a=1,b=2"}

    def test_a_paths_folder_is_made_and_nothing_else(self, plugins: Plugins) -> None:
        chosen(plugins, "log=new/folder/run.log")
        assert [str(path) for path in Path("new").rglob("*")] == ["new/folder"]
        Path("old.log").write_text("kept")
        chosen(plugins, "log=old.log")
        assert Path("old.log").read_text() == "kept"

    def test_the_usual_path_is_checked_too(self, plugins: Plugins) -> None:
        chosen(plugins, "log")
        assert Path("usual").is_dir()
        assert error_of(plugins, "bell=usual/run.log").message.startswith("reporters log and bell both write to")

    @pytest.mark.parametrize("second", ["bell", "log"])
    @pytest.mark.parametrize("first", ["bell", "log"])
    @pytest.mark.parametrize("existing", [True, False])
    def test_the_same_file_twice(self, plugins: Plugins, first: str, second: str, existing: bool) -> None:
        Path("folder").mkdir()
        Path("link").symlink_to("folder")
        if existing:
            Path("folder/x").touch()
        chosen(plugins, f"{first}=folder/x")
        same = ["folder/x", "./folder//x", "folder/../folder/x", str(Path("folder/x").resolve()), "link/x"]
        Path("alias").symlink_to("folder/x")
        same.append("alias")
        if Path("folder/x").exists():
            os.link("folder/x", "hard")
            same.append("hard")
        for path in same:
            error = error_of(plugins, f"{second}={path}")
            assert error.message == f"reporters {first} and {second} both write to {Path(path)}"
        chosen(plugins, f"{second}=folder/other")

    def test_a_dangling_link_and_its_target_are_one_file(self, plugins: Plugins) -> None:
        Path("link").symlink_to("target")
        chosen(plugins, "bell=link")
        assert "both write to" in error_of(plugins, "log=target").message

    def test_dev_null_takes_any_number(self, plugins: Plugins) -> None:
        Path("nothing").symlink_to(os.devnull)
        for spec in ("bell=/dev/null", "bell=/dev/null", "log=/dev/null", "bell=/dev/../dev/null", "bell=nothing"):
            chosen(plugins, spec)
        assert Path(os.devnull).exists()

    def test_a_file_that_was_refused_is_not_taken(self, plugins: Plugins) -> None:
        Path("file").touch()
        error_of(plugins, "bell=file/x")
        Path("file").unlink()
        chosen(plugins, "bell=file/x")


@needs_posix("pseudo-terminals")
class TestTerminals:
    """At most one reporter draws on a terminal, however it is named."""

    @pytest.fixture
    def terminal(self) -> Iterator[str]:
        outer, inner = os.openpty()
        yield os.ttyname(inner)
        os.close(inner)
        os.close(outer)

    def on(self, terminal: str) -> tuple[Plugins, list[Stream]]:
        """stdout and stderr on one terminal."""
        shared = Terminals()
        streams = StandardStreams(
            *(
                Stream(open(terminal, "w"), name=name, environ={"TERM": "xterm"}, terminals=shared)  # noqa: SIM115
                for name in ("stdout", "stderr")
            )
        )
        return Plugins(streams), list(streams)

    @pytest.mark.parametrize("second", ["console=-", "console=PATH"])
    def test_two_that_draw(self, terminal: str, second: str) -> None:
        plugins, streams = self.on(terminal)
        plugins.add_spec("console")
        error = error_of(plugins, second.replace("PATH", terminal))
        assert error.message == (
            f"reporters console and {second.replace('PATH', terminal)} both want to draw on the same terminal"
        )
        assert error.hint == "give one of them a file: --reporter console=PATH"
        for stream in streams:
            stream.file.close()

    def test_one_that_draws_and_one_that_only_writes(self, terminal: str) -> None:
        plugins, streams = self.on(terminal)
        plugins.add_spec("console")
        plugins.add_spec("jsonl")
        plugins.add_spec(f"quiet={terminal}")
        for reporter in plugins.reporters:
            assert reporter.stream is not None
            assert reporter.stream.tty
            reporter.stream.close()
        for stream in streams:
            stream.file.close()

    def test_a_dumb_terminal_stays_dumb_by_its_path(self, terminal: str) -> None:
        plain = Stream(io.StringIO(), name="stderr", environ={"TERM": "dumb"})
        plugins = Plugins(StandardStreams(plain, plain))
        plugins.add_spec(f"console={terminal}")
        stream = plugins.reporters[0].stream
        assert stream is not None
        assert not stream.take_terminal()
        stream.close()
