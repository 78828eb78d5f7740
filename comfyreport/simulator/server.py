"""HTTP and WebSocket: every route of the simulated server, each also under /api."""

from __future__ import annotations

import asyncio
import json
import platform
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import BodyPartReader, WSMsgType, web

from .engine import Engine, Stored
from .media import media_type
from .run import Job
from .sockets import FLAGS, MAX_UPLOAD, Sockets, message
from .specs import SPECS, object_info
from .validation import NO_PROMPT

VERSION = "0.3.64"
"""The ComfyUI whose recorded traffic is imitated."""
SERVER_ERROR = "500 Internal Server Error\n\nServer got itself in trouble"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Server:
    """The routes; state lives in the engine, sockets in `sockets`."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.script = engine.script
        self.script.server = self
        self.sockets = Sockets(self.script.outgoing)
        engine.wire = self.sockets
        self.transports: set[asyncio.Transport] = set()
        """The open sockets' connections: what has to be cut when the server dies."""

    def app(self) -> web.Application:
        app = web.Application(middlewares=[self.answer], client_max_size=MAX_UPLOAD)
        routes: list[tuple[str, str, Handler]] = [
            ("GET", "/ws", self.websocket),
            ("GET", "/prompt", self.get_prompt),
            ("POST", "/prompt", self.post_prompt),
            ("GET", "/queue", self.get_queue),
            ("POST", "/queue", self.post_queue),
            ("POST", "/interrupt", self.post_interrupt),
            ("GET", "/history", self.get_history),
            ("POST", "/history", self.post_history),
            ("GET", "/history/{prompt_id}", self.get_history),
            ("GET", "/view", self.get_view),
            ("POST", "/upload/image", self.post_upload),
            ("POST", "/free", self.post_free),
            ("GET", "/system_stats", self.get_system_stats),
            ("GET", "/object_info", self.get_object_info),
            ("GET", "/object_info/{class_type}", self.get_object_info),
        ]
        for method, path, handler in routes:
            app.router.add_route(method, path, handler)
            app.router.add_route(method, f"/api{path}", handler)
        return app

    @web.middleware
    async def answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """The one place that every answer goes through."""
        try:
            return await self.script.answer(request, handler)
        except (ValueError, TypeError, LookupError, AttributeError):
            return web.Response(status=500, text=SERVER_ERROR)
        except ConnectionError:
            # The client has gone before it was answered, or before its socket stood.
            return web.Response(status=503)

    # Sockets

    async def websocket(self, request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        transport = request.transport
        if transport is None:
            return socket
        self.transports.add(transport)
        sid = request.query.get("clientId") or uuid.uuid4().hex
        self.sockets.open(sid, socket)
        try:
            hello = message("status", {"status": self.engine.status(), "sid": sid})
            await self.sockets.deliver(socket, hello)
            shown = self.engine.shown(sid)
            if shown is not None:
                await self.sockets.deliver(socket, message("executing", {"node": shown}))
            self.script.hears(sid)
            await self._read(sid, socket)
        finally:
            self.sockets.close(sid)
            self.transports.discard(transport)
        return socket

    async def _read(self, sid: str, socket: web.WebSocketResponse) -> None:
        """Reads nothing but feature flags, and those only as the first JSON message."""
        first = True
        async for received in socket:
            if received.type is not WSMsgType.TEXT:
                continue
            try:
                data = json.loads(received.data)
            except ValueError:
                continue
            if first and isinstance(data, dict) and data.get("type") == "feature_flags":
                flags = data.get("data")
                self.sockets.set_flags(sid, flags if isinstance(flags, dict) else {})
                await self.sockets.deliver(socket, message("feature_flags", FLAGS))
            first = False

    def cut(self) -> None:
        """Breaks all open sockets off without a close frame, as the death of a real server does."""
        for transport in list(self.transports):
            transport.abort()

    # Prompts and the queue

    async def get_prompt(self, request: web.Request) -> web.StreamResponse:
        return web.json_response(self.engine.status())

    async def post_prompt(self, request: web.Request) -> web.StreamResponse:
        """Nothing is awaited between the queue and the answer: the answer is written before the first message."""
        body = await request.json()
        number = float(body["number"]) if "number" in body else self.engine.number(bool(body.get("front")))
        if "prompt" not in body:
            return web.json_response({"error": NO_PROMPT, "node_errors": {}}, status=400)
        verdict = self.engine.validate(body["prompt"], body.get("partial_execution_targets"))
        if verdict.error is not None:
            return web.json_response({"error": verdict.error, "node_errors": verdict.node_errors}, status=400)
        extra = dict(body.get("extra_data") or {})
        if "client_id" in body:
            extra["client_id"] = body["client_id"]
        own = "prompt_id" not in body or self.script.on("other_id")
        prompt_id = str(uuid.uuid4()) if own else str(body["prompt_id"])
        self.engine.put(Job(number, prompt_id, body["prompt"], extra, verdict.outputs))
        return web.json_response({"prompt_id": prompt_id, "number": number, "node_errors": verdict.node_errors})

    async def get_queue(self, request: web.Request) -> web.StreamResponse:
        return web.json_response(self.engine.queue())

    async def post_queue(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        if body.get("clear"):
            self.engine.clear()
        self.engine.delete(body.get("delete", []))
        return web.Response()

    async def post_interrupt(self, request: web.Request) -> web.StreamResponse:
        text = await request.text()
        self.engine.interrupt(json.loads(text).get("prompt_id") if text else None)
        return web.Response()

    async def get_history(self, request: web.Request) -> web.StreamResponse:
        history = self.engine.history
        prompt_id = request.match_info.get("prompt_id")
        if prompt_id is not None:
            return web.json_response({prompt_id: history[prompt_id]} if prompt_id in history else {})
        last = int(request.query.get("max_items", len(history)))
        return web.json_response(dict(list(history.items())[max(len(history) - last, 0) :]))

    async def post_history(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        if body.get("clear"):
            self.engine.history.clear()
        for prompt_id in body.get("delete", []):
            self.engine.history.pop(prompt_id, None)
        return web.Response()

    async def post_free(self, request: web.Request) -> web.StreamResponse:
        if (await request.json()).get("free_memory"):
            self.engine.cache.clear()
        return web.Response()

    # Files

    async def get_view(self, request: web.Request) -> web.StreamResponse:
        query = request.query
        name = query.get("filename", "")
        if not name or name.startswith("/") or ".." in name:
            return web.Response(status=400)
        stored = self.engine.stored.get((query.get("type", "output"), query.get("subfolder", ""), name))
        if stored is None:
            return web.Response(status=404)
        header = {"Content-Disposition": f'filename="{name}"'}
        return web.Response(body=stored.data(), content_type=media_type(name), headers=header)

    async def post_upload(self, request: web.Request) -> web.StreamResponse:
        """Stores a file; a taken name gets a number, unless the content is the same or `overwrite` is set."""
        fields: dict[str, str] = {}
        name, content = "", b""
        async for part in await request.multipart():
            if not isinstance(part, BodyPartReader):
                continue
            if part.name == "image":
                name, content = part.filename or "", bytes(await part.read())
            else:
                fields[part.name or ""] = await part.text()
        if not name:
            return web.Response(status=400)
        folder, subfolder = fields.get("type", "input"), fields.get("subfolder", "")
        overwrite = fields.get("overwrite") in ("true", "1")
        stem, dot, suffix = name.rpartition(".")
        stored, count = self.engine.stored, 0
        while not overwrite and (folder, subfolder, name) in stored:
            if stored[folder, subfolder, name].content == content:
                break
            count += 1
            name = f"{stem} ({count}){dot}{suffix}"
        stored[folder, subfolder, name] = Stored(content)
        return web.json_response({"name": name, "subfolder": subfolder, "type": folder})

    # About the server

    async def get_system_stats(self, request: web.Request) -> web.StreamResponse:
        memory = {"vram_total": 24 * 2**30, "vram_free": 20 * 2**30}
        device = {"name": "simulated GPU", "type": "cuda", "index": 0, **memory}
        system = {
            "os": platform.system().lower(),
            "ram_total": 32 * 2**30,
            "ram_free": 24 * 2**30,
            "comfyui_version": VERSION,
            "python_version": platform.python_version(),
            "pytorch_version": "simulated",
            "embedded_python": False,
            "argv": ["main.py"],
        }
        device |= {"torch_vram_total": 2 * 2**30, "torch_vram_free": 2**30}
        return web.json_response({"system": system, "devices": [device]})

    async def get_object_info(self, request: web.Request) -> web.StreamResponse:
        info: dict[str, Any] = object_info(sorted(self.engine.given or ()))
        class_type = request.match_info.get("class_type")
        if class_type is not None:
            info = {class_type: info[class_type]} if class_type in SPECS else {}
        return web.json_response(info)
