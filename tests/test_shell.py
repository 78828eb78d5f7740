"""Words as the system's shell takes them."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import pytest

from comfyreport import shell

# What programs are given, whatever stands in it.
WORDS = [
    "plain-1.2_3",
    "with blank",
    "",
    "a&b|c>d",
    'a "quoted" word',
    "C:\\with blank\\",
    'odd\\"',
    "comma,and@",
    "%PATH%",
]


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """The shells of Windows."""
    monkeypatch.setattr(shell, "os", SimpleNamespace(name="nt"))


@pytest.fixture
def posix(monkeypatch: pytest.MonkeyPatch) -> None:
    """A POSIX shell."""
    monkeypatch.setattr(shell, "os", SimpleNamespace(name="posix"))


@pytest.mark.usefixtures("windows")
@pytest.mark.parametrize(
    ("word", "shown"),
    [
        ("d0a1-4f", "d0a1-4f"),
        ("http://box:8188/comfy", "http://box:8188/comfy"),
        ("made\\sunset.png", "made\\sunset.png"),
        ("http://box/?a=1&b=2", '"http://box/?a=1&b=2"'),
        ("two words", '"two words"'),
        ("two words\\", '"two words\\\\"'),
        ('a "b" & c', '"a ""b"" & c"'),
        ("", '""'),
        ("@file,list", '"@file,list"'),
    ],
)
def test_double_quotes_on_windows(word: str, shown: str) -> None:
    assert shell.quote(word) == shown


@pytest.mark.usefixtures("posix")
def test_single_quotes_elsewhere() -> None:
    assert shell.quote("it's two") == "'it'\"'\"'s two'"


@pytest.mark.skipif(sys.platform != "win32", reason="only Windows has its rules of taking a command line apart")
@pytest.mark.parametrize("word", WORDS)
def test_a_program_is_given_the_word(word: str) -> None:
    command = f'"{sys.executable}" -c "import sys; print(ascii(sys.argv[1]))" {shell.quote(word)}'
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8", check=True)
    assert done.stdout.strip() == ascii(word)


@pytest.mark.usefixtures("windows")
def test_on_windows_a_backslash_is_no_escape() -> None:
    line = r'console filelog=C:\logs\run.log jsonl="C:\my logs\run.jsonl",rate=2 #'
    assert shell.split(line) == ["console", r"filelog=C:\logs\run.log", r"jsonl=C:\my logs\run.jsonl,rate=2", "#"]


@pytest.mark.usefixtures("posix")
def test_elsewhere_it_is_one() -> None:
    assert shell.split(r"console filelog=my\ log 'jsonl=a b' #") == ["console", "filelog=my log", "jsonl=a b", "#"]


@pytest.mark.parametrize("system", ["windows", "posix"])
def test_a_quote_that_is_not_closed(system: str, request: pytest.FixtureRequest) -> None:
    request.getfixturevalue(system)
    with pytest.raises(ValueError, match="No closing quotation"):
        shell.split('console "filelog')
