"""The installed command and the files that it is given: nothing that exists is destroyed, what is printed opens."""

from __future__ import annotations

import base64
import json
import os
import stat
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.driver import LIMIT
from tests.e2e.installation import Installed
from tests.hostile.server import WORKFLOW, Hostile, Reply, history, picture

pytestmark = [pytest.mark.e2e, pytest.mark.skipif(os.name != "posix", reason="links, descriptors")]

PICTURE = b"\x89PNG \xff\n" * 1000


def serve(*pictures: dict[str, Any], content: bytes = PICTURE, outputs: Any = None) -> Hostile:
    """A server whose run leaves these pictures, or other outputs."""
    made = {"3": {"images": list(pictures) or [picture()]}} if outputs is None else outputs
    return Hostile(
        history=lambda prompt_id: history(prompt_id, made),
        view=lambda _: Reply(content, headers={"Content-Type": "image/png"}),
    )


class Place:
    """A folder with a workflow in it, where the command is run."""

    def __init__(self, installed: Installed, folder: Path) -> None:
        self.installed = installed
        self.folder = folder
        self.workflow = folder / "workflow.json"
        self.workflow.write_text(json.dumps(WORKFLOW))

    def run(
        self, *words: str | bytes | Path, server: Hostile | None = None, command: tuple[str, ...] = (), **options: Any
    ) -> subprocess.CompletedProcess[bytes]:
        """Run the command, with a server of its own unless one is given."""
        with server or serve() as ours:
            environ = self.installed.environ(options.pop("env", None))
            start = (*command, self.installed.comfyreport, "--workflow", "workflow.json", "--server", ours.url, *words)
            pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL}
            done = subprocess.run(start, cwd=self.folder, env=environ, timeout=LIMIT, check=False, **(pipes | options))
        assert b"Traceback" not in (done.stderr or b""), done.stderr
        return done


@pytest.fixture
def place(installed: Installed, tmp_path: Path) -> Place:
    return Place(installed, tmp_path)


def lines(data: bytes) -> list[dict[str, Any]]:
    return [json.loads(line.decode("utf-8", "strict")) for line in data.splitlines()]


# --- outputs


def test_many_runs_into_one_folder_each_keep_their_picture(place: Place) -> None:
    contents = [f"picture {number}".encode() for number in range(4)]
    with ThreadPoolExecutor(4) as pool:
        runs = list(
            pool.map(lambda each: place.run("--output", "made/", "--quiet", server=serve(content=each)), contents)
        )
    assert [run.returncode for run in runs] == [0] * 4
    paths = [place.folder / run.stdout.decode().strip() for run in runs]
    assert [path.read_bytes() for path in paths] == contents
    assert sorted(os.listdir(place.folder / "made")) == ["made-2.png", "made-3.png", "made-4.png", "made.png"]


@pytest.mark.parametrize("path", ["-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", "link"])
def test_an_output_to_stdout(place: Place, path: str) -> None:
    (place.folder / "link").symlink_to("/dev/stdout")
    done = place.run("--output", path)
    assert (done.returncode, done.stdout) == (0, PICTURE)
    assert sorted(os.listdir(place.folder)) == ["link", "workflow.json"]
    assert (place.folder / "link").is_symlink()
    assert Path("/dev/stdout").is_symlink()


def test_an_output_to_stdout_is_appended_to_what_is_there(place: Place) -> None:
    file = place.folder / "all"
    file.write_bytes(b"before ")
    with file.open("ab") as out:
        assert place.run("--output", "-", "--quiet", stdout=out).returncode == 0
    assert file.read_bytes() == b"before " + PICTURE


def test_an_output_to_a_descriptor_that_was_given(place: Place) -> None:
    reader, writer = os.pipe()
    with open(reader, "rb") as pipe:
        done = place.run("--output", f"/dev/fd/{writer}", "--quiet", pass_fds=[writer])
        os.close(writer)
        assert (done.returncode, pipe.read()) == (0, PICTURE)
    done = place.run("--output", "/dev/fd/77", "--quiet")
    assert done.returncode == 2
    assert b"--output /dev/fd/77: can't write there: Bad file descriptor" in done.stderr


def test_several_outputs_to_one_stdout_write_nothing(place: Place) -> None:
    done = place.run("--output", "-", "--quiet", server=serve(picture("a.png"), picture("b.png")))
    assert (done.returncode, done.stdout) == (8, b"")
    assert b"--output - takes one file" in done.stderr


def test_a_workflow_that_saves_several_files_is_not_submitted_for_one_stdout(place: Place) -> None:
    place.workflow.write_text(json.dumps(WORKFLOW | {"4": WORKFLOW["3"]}))
    server = serve()
    done = place.run("--output", "-", "--quiet", server=server)
    assert (done.returncode, done.stdout, server.prompt_id) == (2, b"", "")
    assert b"the workflow saves several: nodes 3 (SaveImage), 4 (SaveImage)" in done.stderr


def test_a_reader_that_takes_nothing_is_left_on_request(place: Place) -> None:
    """A pipe that nobody reads must not hold up the end that the user asks for."""
    reader, writer = os.pipe()
    with open(reader, "rb"):
        done = place.run(
            "--output", "-", "--quiet", "--timeout", "2", server=serve(content=bytes(1 << 20)), stdout=writer
        )
        os.close(writer)
    assert done.returncode == 7


def test_a_device_stays_a_device(place: Place) -> None:
    done = place.run("--output", "/dev/null", server=serve(picture("a.png"), picture("b.png")))
    assert done.returncode == 0
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    assert place.run("--output", "/dev/full", "--quiet").returncode == 8
    assert not [name for name in os.listdir("/dev") if name.startswith(("null-", "full-", ".null", ".full"))]


@pytest.mark.parametrize("there", [True, False])
def test_a_link_stays_a_link(place: Place, there: bool) -> None:
    (place.folder / "volume").mkdir()
    if there:
        (place.folder / "volume" / "real.png").write_text("old")
    (place.folder / "latest.png").symlink_to("volume/real.png")
    done = place.run("--output", "latest.png", "--quiet")
    assert (done.returncode, done.stdout) == (0, b"latest.png\n")
    assert (place.folder / "latest.png").is_symlink()
    assert (place.folder / "volume" / "real.png").read_bytes() == PICTURE


@pytest.fixture
def mounting() -> tuple[str, ...]:
    """The beginning of a command that may mount."""
    command = ("unshare", "-m", "sh", "-ec")
    try:
        subprocess.run([*command, "mount -t tmpfs none /mnt"], check=True, capture_output=True, timeout=LIMIT)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("nothing may be mounted here")
    return command


@pytest.mark.parametrize("read_only", [False, True])
def test_a_mounted_file_is_written_in_place(place: Place, mounting: tuple[str, ...], read_only: bool) -> None:
    """As a container has one: it can't be replaced, and its folder may be read-only."""
    volume, folder = place.folder / "volume.png", place.folder / "folder"
    volume.write_bytes(b"x" * 100_000)
    folder.mkdir()
    (folder / "out.png").touch()
    before = volume.stat().st_ino
    script = f"mount --bind {folder} {folder}; mount --bind {volume} {folder}/out.png; "
    script += f"mount -o remount,bind,ro {folder}; " if read_only else ""
    script += 'exec "$@"'
    done = place.run("--output", "folder/out.png", "--quiet", command=(*mounting, script, "sh"))
    assert (done.returncode, done.stdout) == (0, b"folder/out.png\n"), done.stderr
    assert (volume.stat().st_ino, volume.read_bytes()) == (before, PICTURE)
    assert os.listdir(folder) == ["out.png"]


def test_a_small_disk_takes_what_fits(place: Place, mounting: tuple[str, ...]) -> None:
    script = 'mount -t tmpfs -o size=1m none /mnt; exec "$@"'
    done = place.run("--output", "/mnt/", "--quiet", command=(*mounting, script, "sh"))
    assert (done.returncode, done.stdout) == (0, b"/mnt/made.png\n")
    done = place.run(
        "--output", "/mnt/", "--quiet", command=(*mounting, script, "sh"), server=serve(content=bytes(2 << 20))
    )
    assert done.returncode == 8


@pytest.mark.parametrize(
    ("filename", "subfolder", "asked"),
    [
        ("out_F/x.png", "", "filename=x.png&subfolder=out_F"),
        ("a/b/x.png", "", "filename=x.png&subfolder=a%2Fb"),
        ("b/x.png", "a", "filename=x.png&subfolder=a%2Fb"),
        ("x.png", "a/b", "filename=x.png&subfolder=a%2Fb"),
    ],
)
def test_a_name_with_a_folder_in_it_is_asked_for_in_that_folder(
    place: Place, filename: str, subfolder: str, asked: str
) -> None:
    server = serve(picture(filename, subfolder))
    done = place.run("--output", "made/", "--reporter", "jsonl=run.jsonl", server=server)
    assert (done.returncode, done.stdout) == (0, b"made/x.png\n")
    assert [each for each in server.asked if "/view" in each] == [f"GET /view?{asked}&type=output"]
    (end,) = (line for line in lines((place.folder / "run.jsonl").read_bytes()) if line["type"] == "run_finished")
    assert end["outputs"][0]["filename"] == filename
    assert asked in end["outputs"][0]["url"]


@pytest.mark.parametrize("outputs", [{}, {"3": {"text": ["hello"]}}])
def test_nothing_saved_is_told(place: Place, outputs: dict[str, Any]) -> None:
    done = place.run("--output", "made/", "--json-progress", server=serve(outputs=outputs))
    assert done.returncode == 0
    assert [line["code"] for line in lines(done.stdout) if line["type"] == "warning"] == ["no_outputs"]


# --- one file, one use


READ = ["workflow", "header", "client-cert"]
WRITTEN = ["output", "record", "jsonl", "filelog"]
ALIASES = ["same", "./same", "hard", "link"]


def flag(use: str, path: str) -> list[str]:
    match use:
        case "workflow":
            return ["--workflow", path]
        case "header":
            return ["--header", f"@{path}"]
        case "output" | "record" | "client-cert":
            return [f"--{use}", path]
        case _:
            return ["--reporter", f"{use}={path}"]


@pytest.fixture(scope="module")
def refusing() -> Iterator[Hostile]:
    """A server that must not be asked for anything."""
    with Hostile() as server:
        yield server
    assert server.asked == []


@pytest.mark.parametrize("second", WRITTEN)
@pytest.mark.parametrize("first", [*READ, *WRITTEN])
def test_one_file_has_one_use(place: Place, refusing: Hostile, first: str, second: str) -> None:
    if first == second and first in ("output", "record"):
        pytest.skip("the later flag holds")
    same = place.folder / "same"
    content = json.dumps(WORKFLOW) if first == "workflow" else "X-Header: value\n"
    same.write_text(content)
    os.link(same, place.folder / "hard")
    (place.folder / "link").symlink_to("same")
    alias = ALIASES[(len(first) + len(second)) % len(ALIASES)]
    words = [*flag(first, "same"), *flag(second, alias)]
    if first != "workflow":
        words += ["--workflow", "workflow.json"]
    for extra in ([], ["--no-such-flag"]):
        done = subprocess.run(
            [place.installed.comfyreport, "--server", refusing.url, *words, *extra],
            cwd=place.folder, env=place.installed.environ(), capture_output=True, timeout=LIMIT, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stdout) == (2, b""), done.stderr
        # What is no certificate is told as that.
        assert extra or first == "client-cert" or b" both " in done.stderr
        assert same.read_text() == content
        assert sorted(os.listdir(place.folder)) == ["hard", "link", "same", "workflow.json"]


def test_a_recording_is_not_replayed_into_itself(place: Place) -> None:
    assert place.run("--record", "rec.jsonl", "--quiet").returncode == 0
    before = (place.folder / "rec.jsonl").read_bytes()
    for more in ([], ["--bad"]):
        done = place.installed.run("replay", "rec.jsonl", "--reporter", "jsonl=./rec.jsonl", *more, cwd=place.folder)
        assert done.returncode == 2
    assert (place.folder / "rec.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    "words",
    [
        ["--reporter", "jsonl", "--output", "./same"], ["--reporter", "jsonl", "--record", "same"],
        ["--reporter", "jsonl", "--workflow", "same"],
    ],
)  # fmt: skip
def test_the_file_behind_stdout_has_one_use(place: Place, words: list[str]) -> None:
    same = place.folder / "same"
    same.write_text(json.dumps(WORKFLOW))
    with same.open("ab") as out:
        done = place.run(*words, stdout=out)
    assert (done.returncode, same.read_text()) == (2, json.dumps(WORKFLOW))
    assert b" both use " in done.stderr or b" both write to " in done.stderr


@pytest.mark.parametrize("use", ["workflow", "output", "record", "jsonl"])
def test_a_log_has_the_names_that_it_is_renamed_to(place: Place, use: str) -> None:
    other = place.folder / "run.log.2"
    other.write_text(json.dumps(WORKFLOW))
    words = [*flag(use, "run.log.2"), "--reporter", "filelog=run.log"]
    done = place.run(*words)
    assert (done.returncode, other.read_text()) == (2, json.dumps(WORKFLOW)), done.stderr
    assert b" both " in done.stderr


def test_stdout_has_one_use(place: Place) -> None:
    for words in (["--output", "-", "--json-progress"], ["--record", "/dev/stdout", "--output", "-"]):
        done = place.run(*words)
        assert (done.returncode, done.stdout) == (2, b"")
        assert b"both use stdout" in done.stderr


# --- reporters and recordings


@pytest.mark.parametrize("path", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", "link"])
@pytest.mark.parametrize("name", ["jsonl", "filelog"])
def test_a_reporter_on_stdout_by_its_path(place: Place, name: str, path: str) -> None:
    (place.folder / "link").symlink_to("/dev/fd/1")
    (place.folder / "log").write_bytes(b"")
    with (place.folder / "log").open("ab") as err:
        done = place.run("--reporter", f"{name}={path}", stderr=err)
    assert done.returncode == 0
    told = done.stdout.splitlines()
    assert len(told) > 5
    assert all(line.startswith(b"{") == (name == "jsonl") for line in told)
    assert (place.folder / "log").read_bytes() == b""


def test_a_reporter_on_stderr_appends_to_its_file(place: Place) -> None:
    (place.folder / "log").write_bytes(b"before\n")
    with (place.folder / "log").open("ab") as err:
        done = place.run("--reporter", "jsonl=/dev/stderr", "--output", "out.png", stderr=err)
    first, *told = (place.folder / "log").read_bytes().splitlines()
    assert (done.returncode, done.stdout, first) == (0, b"out.png\n", b"before")
    assert lines(b"\n".join(told))[-1]["type"] == "stream_finished"


def test_a_log_on_a_redirected_stdout_is_not_rotated(place: Place) -> None:
    with (place.folder / "log").open("wb") as out:
        done = place.run("--reporter", "filelog=/dev/stdout,max_bytes=200,backups=1", stdout=out)
    assert done.returncode == 0
    assert b"comfyreport" in (place.folder / "log").read_bytes().splitlines()[0]
    assert sorted(os.listdir(place.folder)) == ["log", "workflow.json"]


@pytest.mark.parametrize("name", ["jsonl", "filelog"])
def test_a_destination_that_is_a_dangling_link(place: Place, name: str) -> None:
    (place.folder / "run.log").symlink_to("volume/run.log")
    done = place.run("--reporter", f"{name}=run.log", "--record", "rec")
    assert done.returncode == 0
    assert (place.folder / "run.log").is_symlink()
    assert len((place.folder / "volume" / "run.log").read_bytes().splitlines()) > 5


def test_a_mounted_log_is_rotated_by_copies(place: Place, mounting: tuple[str, ...]) -> None:
    (place.folder / "volume").touch()
    (place.folder / "run.log").touch()
    script = f'mount --bind {place.folder}/volume {place.folder}/run.log; exec "$@"'
    reporter = "filelog=run.log,max_bytes=400,backups=1"
    done = place.run("--reporter", reporter, command=(*mounting, script, "sh"))
    assert done.returncode == 0, done.stderr
    parts = [(place.folder / name).read_bytes() for name in ("run.log.1", "volume")]
    assert all(0 < len(part) <= 400 for part in parts)
    assert b"Finished: success" in parts[-1]


def test_a_recording_on_stdout(place: Place) -> None:
    done = place.run("--record", "-", "--quiet")
    assert done.returncode == 0
    told = lines(done.stdout)
    assert (told[0]["kind"], told[-1]["note"]) == ("header", "end")
    assert os.listdir(place.folder) == ["workflow.json"]


WANDERER = "import os\nfrom comfyreport import hookimpl\nos.chdir('/')\n"


def test_a_plugin_that_changes_the_folder_moves_nothing(place: Place) -> None:
    (place.folder / "wanderer.py").write_text(WANDERER)
    done = place.run(
        "-p", "wanderer", "--output", "made/", "--record", "rec", "--reporter", "jsonl=run.jsonl",
        "--reporter", "filelog=logs/run.log,max_bytes=500,backups=1", env={"PYTHONPATH": str(place.folder)},
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, b"made/made.png\n"), done.stderr
    for name in ("made/made.png", "rec", "run.jsonl", "logs/run.log", "logs/run.log.1"):
        assert (place.folder / name).stat().st_size > 0
    assert not Path("/made").exists()


# --- printed paths


@pytest.mark.parametrize(
    "env", [{}, {"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}]
)
@pytest.mark.parametrize("folder", [b"caf\xe9", "café".encode(), b"new\xfe\xff"])
def test_a_printed_path_opens(place: Place, folder: bytes, env: dict[str, str]) -> None:
    done = place.run("--output", folder + b"/", "--quiet", env=env, server=serve(picture("画.png")))
    assert done.returncode == 0, done.stderr
    path = done.stdout.removesuffix(b"\n")
    assert path == folder + "/画.png".encode()
    assert Path(os.fsdecode(os.path.join(os.fsencode(place.folder), path))).read_bytes() == PICTURE
    done = place.run("--output", folder + b"/", "--json-progress", env=env)
    (end,) = (line for line in lines(done.stdout) if line["type"] == "run_finished")
    (output,) = end["outputs"]
    expected = folder + b"/made.png"
    assert output["path"] == expected.decode("utf-8", "replace")
    raw = base64.b64decode(output["path_bytes"]) if "path_bytes" in output else output["path"].encode()
    assert raw == expected
    assert ("path_bytes" in output) == (b"caf\xc3" not in folder)
