"""A headless Chromium, driven over its DevTools protocol; for tests of what a browser makes of a page."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import requests
import websocket

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome", "msedge")
_PATIENCE = 60.0


def find() -> str | None:
    """Where a Chromium is, if there is one; `COMFYREPORT_TEST_CHROMIUM` names another."""
    named = os.environ.get("COMFYREPORT_TEST_CHROMIUM")
    return named or next(filter(None, map(shutil.which, NAMES)), None)


class Page:
    """One tab: what it loads, what its console says, what a script in it finds."""

    def __init__(self, url: str) -> None:
        self._socket = websocket.create_connection(url, timeout=_PATIENCE, suppress_origin=True)
        self._ids = itertools.count(1)
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self._loaded = False
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def close(self) -> None:
        """Leave the tab."""
        self._socket.close()

    def call(self, method: str, **parameters: Any) -> Any:
        """The answer to one command of the protocol; what happens meanwhile is noted."""
        number = next(self._ids)
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv())
            if message.get("id") == number:
                assert "error" not in message, message
                return message["result"]
            self._note(message)

    def _note(self, message: dict[str, Any]) -> None:
        about = message.get("params", {})
        if message["method"] == "Network.requestWillBeSent":
            self.requests.append(about["request"]["url"])
        elif message["method"] == "Page.loadEventFired":
            self._loaded = True
        elif message["method"] == "Log.entryAdded":
            self.complaints.append(about["entry"]["text"])
        elif message["method"] in ("Runtime.exceptionThrown", "Runtime.consoleAPICalled"):
            self.complaints.append(json.dumps(about))

    def open(self, url: str, *, width: int = 1100, height: int = 900, dark: bool = False) -> None:
        """Load *url* in a window of that size, and wait until it is there."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self._loaded = False
        self.call("Page.navigate", url=url)
        while not self._loaded:
            self._note(json.loads(self._socket.recv()))

    def ask(self, script: str) -> Any:
        """The value of an expression in the page."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True, userGesture=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def until(self, script: str) -> None:
        """Wait until an expression in the page is true."""
        deadline = time.monotonic() + _PATIENCE
        while not self.ask(script):
            assert time.monotonic() < deadline, script

    def press(self, key: str, text: str = "") -> None:
        """Press one key, as a person does."""
        code = {"Tab": 9, "Enter": 13, "Escape": 27}[key]
        about = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **about)
        self.call("Input.dispatchKeyEvent", type="keyUp", **about)

    def hover(self, selector: str) -> None:
        """Move the mouse onto the middle of an element."""
        place = self.ask(
            f"(box => [box.x + box.width / 2, box.y + box.height / 2])"
            f"(document.querySelector({json.dumps(selector)}).getBoundingClientRect())"
        )
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=place[0], y=place[1])


@contextlib.contextmanager
def browser(program: str) -> Iterator[Page]:
    """A Chromium with one tab. It has no network but this machine's."""
    with tempfile.TemporaryDirectory(prefix="comfyreport-chromium-", ignore_cleanup_errors=True) as folder:
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-dev-shm-usage"]
        flags += ["--disable-background-networking", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]
        flags += ["--remote-debugging-port=0", f"--user-data-dir={folder}", "about:blank"]
        with open(os.devnull, "w") as nowhere:
            process = subprocess.Popen(
                [program, *flags], stdout=nowhere, stderr=nowhere, start_new_session=os.name != "nt"
            )
        try:
            page = Page(_tab(Path(folder), process))
            try:
                yield page
            finally:
                page.close()
        finally:
            _end(process)


def _tab(folder: Path, process: subprocess.Popen[bytes]) -> str:
    """The address of the only tab, which the browser tells once it listens."""
    place, deadline = folder / "DevToolsActivePort", time.monotonic() + _PATIENCE
    while not (place.is_file() and "\n" in place.read_text()):
        assert process.poll() is None, "Chromium doesn't start here"
        assert time.monotonic() < deadline
        time.sleep(0.05)
    port = place.read_text().split("\n")[0]
    with requests.Session() as session:
        session.trust_env = False
        while True:
            tabs = [tab for tab in session.get(f"http://127.0.0.1:{port}/json/list").json() if tab["type"] == "page"]
            if tabs:
                return str(tabs[0]["webSocketDebuggerUrl"])
            assert time.monotonic() < deadline


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the browser with the processes that it has started."""
    if os.name == "nt":
        process.kill()
    else:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()
