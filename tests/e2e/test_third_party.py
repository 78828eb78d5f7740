"""A stranger's distribution: built, installed beside the wheel, listed, chosen with destination and option, blocked."""

from __future__ import annotations

import json
import re
import subprocess
import textwrap
import zipfile
from pathlib import Path

import pytest

from tests.e2e.installation import ROOT, Installed, build_wheel, install_wheels

pytestmark = pytest.mark.e2e

PROJECT = """
    [build-system]
    requires = ["setuptools>=64"]
    build-backend = "setuptools.build_meta"

    [project]
    name = "stranger"
    version = "3.2.1"
    dependencies = ["comfyreport"]

    [project.entry-points.comfyreport]
    bell = "stranger:bell"
    broken = "stranger_broken"
    misspelt = "stranger:Misspelt"

    [tool.setuptools]
    py-modules = ["stranger", "stranger_broken"]
"""
MODULE = '''
    from __future__ import annotations

    from comfyreport import RunFinished, Stream, hookimpl


    class Bell:
        def __init__(self, out: Stream, times: int, fail: bool) -> None:
            self.out = out
            self.times = times
            self.fail = fail

        @hookimpl
        def comfyreport_run_finished(self, event: RunFinished) -> None:
            print("a stray print")
            if self.fail:
                raise RuntimeError("the bell is cracked")
            self.out.write("ring " * self.times + event.status + "\\n")


    def bell(out: Stream, *, times: int = 1, fail: bool = False) -> Bell:
        """Ring when a run is over.

        :param times: how often
        """
        return Bell(out, times, fail)


    class Misspelt:
        @hookimpl
        def comfyreport_run_finnished(self) -> None: ...
'''
QUICK = {"COMFYREPORT_SIM_SPEED": "50"}


@pytest.fixture(scope="module")
def stranger(installed: Installed, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """An environment of its own with comfyreport's wheel and the stranger's."""
    folder = tmp_path_factory.mktemp("stranger")
    project = folder / "project"
    project.mkdir()
    (project / "pyproject.toml").write_text(textwrap.dedent(PROJECT), encoding="utf-8")
    (project / "stranger.py").write_text(textwrap.dedent(MODULE), encoding="utf-8")
    (project / "stranger_broken.py").write_text("import a_package_that_nobody_has\n", encoding="utf-8")
    (wheel,) = (installed.root.parent / "wheel").glob("*.whl")
    return install_wheels(folder, f"{wheel}[sim]", str(build_wheel(project, folder / "wheel")))


def run(stranger: Installed, *arguments: str) -> tuple[int, str, str]:
    done = stranger.run(
        "--workflow", ROOT / "workflows" / "sd15-txt2img.json", "--server", "sim", *arguments, env=QUICK
    )
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout, done.stderr


def test_it_is_listed_and_a_broken_one_only_shows_there(stranger: Installed) -> None:
    done = stranger.run("reporters")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert "bell  (stranger 3.2.1)  Ring when a run is over." in lines
    assert "    ,times=a whole number (default 1)" in lines
    index = lines.index("broken  (stranger 3.2.1)")
    assert "No module named 'a_package_that_nobody_has'" in lines[index + 1]
    assert {line.split()[0] for line in lines if not line.startswith(" ")} >= {"console", "jsonl", "quiet", "filelog"}
    listed = {each["name"]: each for each in json.loads(stranger.run("reporters", "--json").stdout)}
    assert listed["bell"]["error"] is None
    assert listed["broken"]["package"] == "stranger 3.2.1"
    assert listed["broken"]["error"]


def test_it_is_chosen_with_a_destination_and_an_option(stranger: Installed) -> None:
    code, out, err = run(stranger, "--reporter", "bell=logs/rings.txt,times=2", "--reporter", "jsonl")
    assert (code, err) == (0, "a stray print\n")
    assert (stranger.folder / "logs" / "rings.txt").read_text(encoding="utf-8") == "ring ring success\n"
    first = json.loads(out.splitlines()[0])
    assert first["reporters"] == ["bell", "jsonl"]


def test_it_can_be_blocked(stranger: Installed) -> None:
    code, out, err = run(stranger, "--reporter", "bell=blocked.txt", "--reporter", "jsonl", "-p", "no:bell")
    assert (code, err) == (0, "")
    assert not (stranger.folder / "blocked.txt").exists()
    assert json.loads(out.splitlines()[0])["reporters"] == ["jsonl"]


def test_it_can_be_the_default(stranger: Installed) -> None:
    done = stranger.run(
        "--workflow",
        ROOT / "workflows" / "sd15-txt2img.json",
        "--server",
        "sim",
        env=QUICK | {"COMFYREPORT_REPORTER": "quiet bell=default.txt,times=3"},
    )
    assert done.returncode == 0
    assert (stranger.folder / "default.txt").read_text(encoding="utf-8") == "ring ring ring success\n"


def test_when_it_fails_the_run_is_fine_and_the_code_is_5(stranger: Installed) -> None:
    code, out, err = run(stranger, "--reporter", "bell=failed.txt,fail=yes", "--reporter", "jsonl")
    assert code == 5
    why = "comfyreport_run_finished raised RuntimeError: the bell is cracked"
    assert f"comfyreport: reporter bell (stranger 3.2.1) failed and was switched off: {why}\n" in err
    end, last = (json.loads(line) for line in out.splitlines()[-2:])
    assert (end["type"], end["status"], end["exit_code"]) == ("run_finished", "success", 0)
    assert (last["exit_code"], last["reporter_failures"]) == (5, [f"bell (stranger 3.2.1): {why}"])


@pytest.mark.parametrize(
    ("spec", "cause"),
    [
        ("broken", "reporter broken of stranger 3.2.1 can't be loaded: ModuleNotFoundError"),
        ("misspelt", "reporter misspelt: there is no hook comfyreport_run_finnished"),
        ("bell", "reporter bell needs a destination"),
        ("bell=x,times=often", "reporter bell: option times is 'often'"),
        ("bel=x", "there is no reporter 'bel'"),
    ],
)
def test_what_cannot_be_used_is_a_usage_error_before_anything_is_submitted(
    stranger: Installed, spec: str, cause: str
) -> None:
    code, out, err = run(stranger, "--reporter", "jsonl", "--reporter", spec)
    assert code == 2
    events = [json.loads(line) for line in out.splitlines()]
    assert [event["type"] for event in events] == ["stream_started", "run_finished", "stream_finished"]
    assert (events[1]["status"], events[1]["submitted"]) == ("usage", "no")
    assert cause in events[1]["error"]["message"]
    assert events[1]["error"]["hint"]
    assert cause in err


def test_the_kit_works_from_the_wheel(stranger: Installed, tmp_path: Path) -> None:
    script = tmp_path / "kit.py"
    script.write_text(
        "from comfyreport.testing import play, recordings\n"
        "from stranger import bell\n"
        "print([play(bell, name, times=2) for name in recordings() if name in ('lost', 'txt2img')])\n",
        encoding="utf-8",
    )
    done = subprocess.run(
        [stranger.python, script], env=stranger.environ(), capture_output=True, encoding="utf-8", timeout=60, check=True
    )
    assert (done.stdout, done.stderr) == (
        "a stray print\na stray print\n['ring ring lost\\n', 'ring ring success\\n']\n",
        "",
    )


def test_the_wheel_takes_no_other_name(installed: Installed) -> None:
    (wheel,) = (installed.root.parent / "wheel").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        tops = {name.partition("/")[0] for name in archive.namelist()}
    assert [top for top in tops if not top.startswith("comfyreport")] == []


@pytest.mark.parametrize("words", [("--workflow", "nope.json"), ("--workflow", "nope.json", "--reporter", "console")])
def test_an_error_that_no_reporter_tells_is_told(stranger: Installed, words: tuple[str, ...]) -> None:
    done = stranger.run(*words, "--reporter", "bell=stderr")
    assert done.returncode == 2
    assert ("ring usage" in done.stderr) == ("console" not in words)
    assert len(re.findall(r"nope\.json|both write to stderr", done.stderr)) == 1
