"""Starts, stops, kills and freezes a real ComfyUI on the loopback interface."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType

import requests

from tests.e2e.comfyui_env import Environment, clean_environ

HOST = "127.0.0.1"
NODE_PACK = Path(__file__).resolve().parent / "node_pack"
CHECKPOINT_NAME = "tiny_sd15.safetensors"
PARENT_VARIABLE = "COMFYREPORT_TEST_PARENT"  # read by the node pack: the server ends with its starter
FOLDERS = ("models/checkpoints", "custom_nodes", "input", "output", "temp", "user")


class ServerStartError(Exception):
    """The server didn't start; the message ends with the last lines of its log."""


def free_port() -> int:
    """A port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
    return port


def poll(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Wait until the condition holds, at most so long."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {seconds:g} s")
        time.sleep(0.05)


class ComfyUI:
    """One server process with a base directory of its own.

    The base directory is kept at the end, with the log: whoever gave it removes it.
    """

    def __init__(
        self,
        environment: Environment,
        base: Path,
        *,
        checkpoint: Path | None = None,
        previews: bool = True,
        arguments: Sequence[str] = (),
        start_seconds: float = 120.0,
    ) -> None:
        self.environment = environment
        self.base = base.resolve()
        self.port = free_port()
        self.url = f"http://{HOST}:{self.port}"
        self.log = self.base / "server.log"
        self.start_seconds = start_seconds
        self.started_in: float | None = None
        self._previews = previews
        self._arguments = tuple(arguments)
        self._process: subprocess.Popen[bytes] | None = None
        self._frozen = False
        self._lay_out(checkpoint)

    def _lay_out(self, checkpoint: Path | None) -> None:
        """Make the base directory: its folders, the node pack, the checkpoint."""
        for folder in FOLDERS:
            (self.base / folder).mkdir(parents=True, exist_ok=True)
        shutil.copytree(
            NODE_PACK,
            self.base / "custom_nodes" / "comfyreport_node_pack",
            ignore=shutil.ignore_patterns("__pycache__"),
            dirs_exist_ok=True,
        )
        # ComfyUI's own SaveImageWebsocket, which a base directory of one's own leaves out.
        shutil.copy(self.environment.comfyui / "custom_nodes" / "websocket_image_save.py", self.base / "custom_nodes")
        if checkpoint is not None:
            (self.base / "models" / "checkpoints" / CHECKPOINT_NAME).symlink_to(checkpoint)

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The server's process, also after its end."""
        if self._process is None:
            raise RuntimeError("the server was never started")
        return self._process

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def command(self) -> list[str]:
        """The command line of the server."""
        return [
            str(self.environment.python),
            str(self.environment.comfyui / "main.py"),
            *("--listen", HOST, "--port", str(self.port)),
            *("--base-directory", str(self.base)),
            *("--database-url", f"sqlite:///{self.base / 'comfyui.db'}"),
            *("--preview-method", "latent2rgb" if self._previews else "none"),
            *("--cpu", "--disable-api-nodes", "--disable-auto-launch"),
            *self._arguments,
        ]

    def start(self) -> ComfyUI:
        """Start the process and wait until it answers."""
        if self.running:
            raise RuntimeError("the server is running already")
        environ = clean_environ() | {
            PARENT_VARIABLE: str(os.getpid()),
            "HF_HUB_OFFLINE": "1",
            "PYTHONUNBUFFERED": "1",
        }
        began = time.monotonic()
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command(),
                cwd=self.base,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._frozen = False
        try:
            poll(self._answers_or_ended, self.start_seconds, "the server's first answer")
        except BaseException:
            self.kill()
            raise
        if not self.running:
            raise ServerStartError(f"ComfyUI ended with code {self.process.returncode}:\n{self.log_tail()}")
        self.started_in = time.monotonic() - began
        return self

    def _answers_or_ended(self) -> bool:
        """Whether the wait for the server's start is over."""
        return not self.running or self.answers()

    def answers(self, seconds: float = 2.0) -> bool:
        """Whether the server answers within so long."""
        try:
            with requests.Session() as session:
                session.trust_env = False
                return session.get(f"{self.url}/system_stats", timeout=seconds).ok
        except requests.RequestException:
            return False

    def log_tail(self, lines: int = 30) -> str:
        """The last lines of the server's log."""
        text = self.log.read_text(encoding="utf-8", errors="replace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-lines:])

    def freeze(self) -> None:
        """Stop the process where it stands; its sockets stay open."""
        os.kill(self.pid, signal.SIGSTOP)
        self._frozen = True

    def thaw(self) -> None:
        """Let a frozen process go on."""
        if self._frozen and self.running:
            os.kill(self.pid, signal.SIGCONT)
        self._frozen = False

    def kill(self) -> None:
        """End the process at once, as a crash would."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait(timeout=30)
        self._frozen = False

    def stop(self) -> None:
        """End the process politely, then by force; does nothing if it has ended."""
        self.thaw()
        if not self.running:
            return
        self.process.terminate()
        try:
            self.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self.kill()

    def restart(self) -> ComfyUI:
        """End the process, if it still runs, and start another on the same port."""
        self.kill()
        return self.start()

    def __enter__(self) -> ComfyUI:
        return self if self.running else self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
