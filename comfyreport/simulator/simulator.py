"""The simulator: a simulated server in a thread of its own."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import threading
import time
from collections.abc import Callable, Collection
from functools import partial
from types import TracebackType

from aiohttp import web

from comfyreport.sim_nodes.settings import VERSION, Settings

from .faults import Breakpoint, Fault, Script
from .prompt_worker import PromptWorker
from .server import Server

SHUTDOWN_SECONDS = 0.2
"""How long an answer in progress may still take when the server stops."""

TURN = 0.1
"""How long `serve` may take to hear a signal."""


class Simulator:
    """A simulated ComfyUI, which takes any workflow in API format.

        with Simulator(speed=10) as simulator:
            requests.post(f"{simulator.url}/prompt", json={"prompt": workflow, "client_id": "me"})

    `port` 0 takes a free one. All waits are divided by `speed`. The rest is what `Settings` has: which `version` of
    ComfyUI it resembles, whether samplers send `previews` by themselves, which `files` it has, and whether it is
    `strict` about those and about node classes.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        speed: float = 1.0,
        previews: bool = True,
        files: Collection[str] | None = None,
        strict: bool = False,
        version: str = VERSION,
    ) -> None:
        if not speed > 0:
            raise ValueError(f"speed must be greater than 0, not {speed}")
        self.url = ""
        self._host = host
        self._port = port
        self._speed = speed
        self._script = Script(speed, self._begin_fault)
        self.settings = Settings(version=version, previews=previews, files=files, strict=strict)
        self._new_worker = partial(PromptWorker, self._script, self.settings)
        self._worker = self._new_worker()
        self._server: Server
        self._restart_after: float | None = None
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopped: asyncio.Event

    def start(self) -> str:
        """Returns the base URL once the server is listening; OSError if it can't."""
        ready: concurrent.futures.Future[str] = concurrent.futures.Future()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._serve(ready)), name="comfyreport-simulator", daemon=True
        )
        self._thread.start()
        try:
            self.url = ready.result()
        except (OSError, OverflowError):
            self._thread.join()
            self._thread = None
            raise
        return self.url

    def stop(self) -> None:
        """Ends the server at once, as SIGTERM ends a real one: connections are cut without a close frame."""
        thread, self._thread = self._thread, None
        if thread is None or self._loop is None:
            return
        with contextlib.suppress(RuntimeError):  # a fault has ended it
            self._loop.call_soon_threadsafe(self._end, None)
        thread.join()

    def pause_at(self, point: str, step: float = 0) -> Breakpoint:
        """Makes the worker stop, once, when node `point` has reported `step` (0: that it has started), or at one of
        the points `BEFORE_HISTORY` and `BETWEEN_PROMPTS`. The returned breakpoint says when that point is `reached`
        and lets the worker go on with `release()`."""
        added = Breakpoint(point, step)
        self._script.breakpoints.append(added)
        return added

    def play(self, *faults: Fault) -> Script:
        """Lets things go wrong, each at its moment; returns the script, which says what happened when."""
        self._script.play(faults)
        return self._script

    def prompt_status(self, prompt_id: str) -> str:
        """Where a prompt is in truth: `pending`, `running`, `nowhere`, or how history says that it ended: `success`,
        `error`, `interrupted`."""
        return self._worker.prompt_status(prompt_id)

    def __enter__(self) -> Simulator:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # In the event loop alone

    def _end(self, restart_after: float | None) -> None:
        """Ends the server; started again after so many seconds, if any."""
        self._restart_after = restart_after
        self._stopped.set()

    def _begin_fault(self, fault: Fault) -> None:
        """Does what a fault does to the server when it begins."""
        if fault.kind in ("dropped", "reconnect_refused", "deaf_socket"):
            self._server.cut_sockets()
        elif fault.kind == "prompt_lost":
            self._worker.lose_prompt()
        elif fault.kind == "interrupted":
            self._worker.interrupt(None)
        elif fault.kind == "killed":
            self._end(None)
        elif fault.kind == "restarted":
            self._end(fault.seconds / self._speed)
        elif fault.kind == "foreign_prompts":
            asyncio.get_running_loop().call_soon(self._send_foreign_status)

    def _send_foreign_status(self) -> None:
        if self._script.active("foreign_prompts"):
            self._worker.send_status()
            asyncio.get_running_loop().call_later(1 / self._speed, self._send_foreign_status)

    async def _serve(self, ready: concurrent.futures.Future[str]) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopped = asyncio.Event()
        try:
            await self._serve_once(ready.set_result)
        except (OSError, OverflowError) as error:
            if ready.done():
                raise
            ready.set_exception(error)
            return
        while self._restart_after is not None:
            self._stopped.clear()
            delay, self._restart_after = self._restart_after, None
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._stopped.wait(), delay)
            if not self._stopped.is_set():
                self._script.breakpoints.clear()
                self._worker = self._new_worker()
                await self._serve_once(lambda url: None)

    async def _serve_once(self, on_ready: Callable[[str], None]) -> None:
        """Serves until the end of one server; `on_ready` is given the base URL."""
        server = self._server = Server(self._worker)
        runner = web.AppRunner(server.app(), handle_signals=False, access_log=None, shutdown_timeout=SHUTDOWN_SECONDS)
        await runner.setup()
        assert runner.server is not None
        try:
            listener = await asyncio.get_running_loop().create_server(runner.server, self._host, self._port)
            self._port = listener.sockets[0].getsockname()[1]
            tasks = [asyncio.ensure_future(self._worker.run()), asyncio.ensure_future(server.sockets.publish_loop())]
            on_ready(f"http://{self._host}:{self._port}")
            await self._stopped.wait()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await close_listener(listener)
        finally:
            server.cut_sockets()
            await runner.cleanup()


async def close_listener(listener: asyncio.Server) -> None:
    """Stops listening. What has just been accepted still gets to its protocol, which takes two turns of the event loop;
    a listener that is closed in between loses it, and never closes it (python/cpython#109564)."""
    for socket in listener.sockets:
        with contextlib.suppress(NotImplementedError):  # the event loop of Windows
            asyncio.get_running_loop().remove_reader(socket.fileno())
    for _ in range(2):
        await asyncio.sleep(0)
    listener.close()


def serve(port: int, speed: float, announce: Callable[[str], None], *, strict: bool = False) -> None:
    """Serves until KeyboardInterrupt, or until something else (SystemExit from a signal handler) is raised in this
    thread. `announce` is told the base URL once the server is listening."""
    with Simulator(port=port, speed=speed, strict=strict) as simulator:
        try:
            announce(simulator.url)
            while True:
                # Not without a limit: on Windows no signal but Ctrl-C would be heard.
                time.sleep(TURN)
        except KeyboardInterrupt:
            return
