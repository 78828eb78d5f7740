"""A simulated ComfyUI: the same answers and messages as a real one (0.3.64), without models or a GPU.

    with Simulator(speed=10) as simulator:
        requests.post(f"{simulator.url}/prompt", json={"prompt": workflow, "client_id": "me"})

It takes any workflow in API format. Samplers count their steps, loaders and decoders take time without a word,
classes named Save… or Preview… (and VHS_VideoCombine) are outputs and leave real files. Inputs are checked for the
few classes that `/object_info` tells. Test nodes, by class name:

* `ProbeRaise` (kind `runtime`, `oom` or another): fails.
* `TestExecutionBlocker` (block, verbose): blocks the nodes behind it.
* `ProbeExpand` (what `progress`, `raise` or `output`): becomes two inner nodes. `TestForLoopOpen` (remaining) and
  `TestForLoopClose`: the nodes between them run again as inner ones.
* `TestSleep` (seconds): runs beside others of its class.
* `ProbeText` (text with `{i}`, count, delay, to_client): sends text frames. `GetImageSize` sends one to everybody.
* `ProbeProgress` (mode `steps`, `floats`, `growing_total`, `restart`, `past_total`, `zero_total`, `two_bars` or
  `burst`, count, delay): odd progress bars.
* `ProbeOutput`: outputs of several kinds.
* Any class whose name ends in `NotInstalled`: doesn't exist.

Other classes (StubImage, TestVariadicAverage, …) do nothing, quickly.

How the real server behaves was observed; where a docstring names a recording, it is that file of tests/recordings.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import threading
from collections.abc import Callable, Collection
from functools import partial
from types import TracebackType

try:
    from aiohttp import web
except ImportError as missing:
    raise ImportError("the simulator needs aiohttp: pip install 'comfyreport[sim]'", name="aiohttp") from missing

from .engine import NEXT, SUCCESS, Engine, Hold
from .faults import KINDS, MOMENTS, Fault, Kind, Moment, Script
from .server import Server

__all__ = ["KINDS", "MOMENTS", "NEXT", "SUCCESS", "Fault", "Hold", "Kind", "Moment", "Script", "Simulator", "serve"]

SHUTDOWN_SECONDS = 0.2
"""How long an answer in progress may still take when the server stops."""


class Simulator:
    """A simulated server in a thread of its own.

    `port` 0 takes a free one. All waits are divided by `speed`. `previews` is the server's --preview-method.
    `files` are the model and input files that it has; None: every one that a workflow asks for.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        speed: float = 1.0,
        previews: bool = True,
        files: Collection[str] | None = None,
    ) -> None:
        if not speed > 0:
            raise ValueError(f"speed must be greater than 0, not {speed}")
        self.url = ""
        self._host = host
        self._port = port
        self._script = Script(speed)
        self._script.end = self._end
        self._new_engine = partial(Engine, self._script, speed=speed, previews=previews, files=files)
        self._engine = self._new_engine()
        self._again: float | None = None
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

    def hold(self, moment: str, step: float = 0) -> Hold:
        """Makes the worker wait, once, when node `moment` has told `step` (0: that it has started), or at one of the
        moments `SUCCESS` and `NEXT`. The returned hold says when that point is `reached` and lets the worker go on
        with `release()`."""
        hold = Hold(moment, step)
        self._engine.holds.append(hold)
        return hold

    def play(self, *faults: Fault) -> Script:
        """Lets things go wrong, each at its moment; returns the script, which says what happened when."""
        self._script.play(faults)
        return self._script

    def fate(self, prompt_id: str) -> str:
        """Where a prompt is in truth: `pending`, `running`, `nowhere`, or history's end: `success`, `error`,
        `interrupted`."""
        return self._engine.fate(prompt_id)

    def __enter__(self) -> Simulator:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _end(self, again: float | None) -> None:
        """Ends the server; started again after so many seconds, if any. In the event loop alone."""
        self._again = again
        self._stopped.set()

    async def _serve(self, ready: concurrent.futures.Future[str]) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopped = asyncio.Event()
        try:
            await self._life(ready.set_result)
        except (OSError, OverflowError) as error:
            if ready.done():
                raise
            ready.set_exception(error)
            return
        while self._again is not None:
            self._stopped.clear()
            again, self._again = self._again, None
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._stopped.wait(), again)
            if not self._stopped.is_set():
                self._engine = self._new_engine()
                await self._life(lambda url: None)

    async def _life(self, told: Callable[[str], None]) -> None:
        """Serves until the end of one server; *told* is given the base URL."""
        server = Server(self._engine)
        runner = web.AppRunner(server.app(), handle_signals=False, access_log=None, shutdown_timeout=SHUTDOWN_SECONDS)
        await runner.setup()
        tasks: list[asyncio.Future[None]] = []
        site = web.TCPSite(runner, self._host, self._port)
        try:
            await site.start()
            self._port = runner.addresses[0][1]
            tasks += [asyncio.ensure_future(self._engine.work()), asyncio.ensure_future(server.sockets.publish())]
            told(f"http://{self._host}:{self._port}")
            await self._stopped.wait()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            with contextlib.suppress(RuntimeError):  # it could not be started
                await site.stop()
            server.cut()
            await runner.cleanup()


def serve(port: int, speed: float, announce: Callable[[str], None]) -> None:
    """Serves until KeyboardInterrupt, or until something else (SystemExit from a signal handler) is raised in this
    thread. `announce` is told the base URL once the server is listening."""
    with Simulator(port=port, speed=speed) as simulator:
        try:
            announce(simulator.url)
            threading.Event().wait()
        except KeyboardInterrupt:
            return
