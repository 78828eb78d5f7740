"""Requests under a script of faults: each is recorded, and answered as well as the faults let it be."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from aiohttp import web

from .faults import TICK_SECONDS, RequestRecord, Script

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def answer(script: Script, request: web.Request, handler: Handler) -> web.StreamResponse:
    if not script.playing:
        return await handler(request)
    path = request.path.removeprefix("/api")
    if script.server_dead:
        return _abort(request)
    if path == "/ws":
        refused = script.active("reconnect_refused")
        return web.Response(status=502, text="502 Bad Gateway") if refused else await handler(request)
    record = RequestRecord(request.method, path, time.time())
    script.requests.append(record)
    try:
        is_submission = (request.method, path) == ("POST", "/prompt")
        if is_submission:
            script.reach("post")
            await script.wait_while("slow_validation")
        if not await _can_answer(script, request):
            return _abort(request)
        if path.startswith(("/history", "/jobs")) and request.method == "GET" and script.active("history_500"):
            return web.Response(status=500, text="500 Internal Server Error")
        response = await handler(request)
        if is_submission:
            await script.wait_while("early_frames")
            if script.active("answer_lost") or script.server_dead:
                return _abort(request)
        return response
    finally:
        record.ended = time.time()


async def _can_answer(script: Script, request: web.Request) -> bool:
    """Waits while nothing is answered; False if the server is dead by then, or the client has gone."""
    while script.active("http_hangs", "frozen") and not script.server_dead:
        if request.transport is None or request.transport.is_closing():
            return False
        await asyncio.sleep(TICK_SECONDS)
    return not script.server_dead


def _abort(request: web.Request) -> web.StreamResponse:
    """The end of a request whose connection is cut instead of answered."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=503)
