"""What a factory may ask for beside its destination: the command's own stream, a folder that is there."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from comfyreport.errors import ReporterError
from comfyreport.files import Claims
from comfyreport.reporting.plugins import Plugins, StandardStreams
from comfyreport.reporting.signature import signature_of
from comfyreport.reporting.streams import Stream, stderr, stdout
from comfyreport.testing import FakeStream, conforms, play
from tests.packages import Packages, chosen, error_of

NOTES = """
    from pathlib import Path
    from comfyreport import Stream, hookimpl, stderr

    class Notes:
        def __init__(self, folder, out):
            self.folder, self.out = folder, out

        @hookimpl
        def comfyreport_run_finished(self, event):
            self.out.write(f"{event.status}\\n")

    def notes(folder: Path, *, loud: bool = False, out: Stream = stderr):
        return Notes(folder, out)
"""


def with_stream(path: Path, *, times: int = 1, out: Stream = stderr, results: Stream = stdout) -> None: ...


def test_a_stream_is_no_option() -> None:
    signature = signature_of(with_stream, "x")
    assert list(signature.options) == ["times"]
    assert dict(signature.streams) == {"out": stderr, "results": stdout}


def test_it_is_the_commands_own(packages: Packages, tmp_path: Path) -> None:
    packages.add("notes", NOTES)
    err = io.StringIO()
    plugins = Plugins(StandardStreams(Stream(io.StringIO(), name="stdout"), Stream(err, name="stderr")), (), Claims())
    reporter = chosen(plugins, f"notes={tmp_path / 'made'}").plugin
    reporter.out.write("said")  # type: ignore[attr-defined]
    assert err.getvalue() == "said"
    assert reporter.out.owner == f"notes={tmp_path / 'made'}"  # type: ignore[attr-defined]


def test_two_share_a_terminal() -> None:
    one = FakeStream(tty=True)
    other = one.beside("other")
    assert not one.drawn_by_others
    assert one.take_terminal()
    assert other.drawn_by_others
    assert not one.drawn_by_others
    one.take_stray_output()
    other.write("kept for the first\n")
    assert one.take_stray_output() == "kept for the first\n"
    with pytest.raises(ReporterError, match="both want to draw"):
        other.take_terminal()


def test_a_folder_that_is_there(packages: Packages, plugins: Plugins, tmp_path: Path) -> None:
    packages.add("notes", NOTES)
    for folder in (tmp_path, tmp_path / "new" / "folder"):
        assert chosen(plugins, f"notes={folder}").plugin.folder == folder  # type: ignore[attr-defined]
    assert sorted(each.name for each in (tmp_path / "new").iterdir()) == []


def test_a_folder_where_nothing_can_be_made(
    packages: Packages, plugins: Plugins, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packages.add("notes", NOTES)

    def refuse(dir: Path) -> None:  # noqa: A002  the library's name
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    error = error_of(plugins, f"notes={tmp_path}")
    assert "can't write to" in error.message
    assert "Permission denied" in error.message


def test_other_paths_are_no_folders(plugins: Plugins, tmp_path: Path) -> None:
    assert "can't write to" in error_of(plugins, f"filelog={tmp_path}").message


def test_the_kit_gives_it_one(packages: Packages) -> None:
    packages.add("notes", NOTES)
    import notes  # type: ignore[import-not-found]

    out = FakeStream()
    play(notes.notes, "cached", out=out)
    assert out.text == "success\n"
    conforms(notes.notes)
