"""HTTP and WebSocket: every route of the simulated server, each also under /api."""

from __future__ import annotations

import asyncio
import json
import platform
import time
import uuid
from typing import Any

from aiohttp import BodyPartReader, WSMsgType, web

from comfyreport.sim_nodes.media import media_type
from comfyreport.sim_nodes.node_classes import NODE_CLASSES, node_replacements, object_info
from comfyreport.sim_nodes.validation import INVALID_PROMPT_ID, NO_PROMPT, is_job_id

from . import jobs
from .faults import TICK_SECONDS
from .http_faults import Handler, answer
from .prompt_worker import PromptWorker
from .running_prompt import QueueItem
from .sockets import FEATURE_FLAGS, MAX_UPLOAD, message

SENSITIVE_KEYS = ("auth_token_comfy_org", "api_key_comfy_org")
"""Keys of API nodes, which a newer server tells nobody."""
SERVER_ERROR = "500 Internal Server Error\n\nServer got itself in trouble"


class Server:
    """The routes; the state lives in the worker."""

    def __init__(self, worker: PromptWorker) -> None:
        self.worker = worker
        self.settings = worker.settings
        self.sockets = worker.sockets
        self.script = worker.script
        self.transports: set[asyncio.Transport] = set()
        """The open sockets' connections: what has to be cut when the server dies."""

    def app(self) -> web.Application:
        app = web.Application(middlewares=[self.middleware], client_max_size=MAX_UPLOAD)
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
        newer: list[tuple[str, str, Handler]] = [
            # Before the one that takes any id.
            ("POST", "/jobs/cancel", self.post_jobs_cancel),
            ("POST", "/jobs/{job_id}/cancel", self.post_job_cancel),
            ("GET", "/jobs", self.get_jobs),
            ("GET", "/jobs/{job_id}", self.get_job),
        ]
        if self.settings.newer:
            routes.append(("GET", "/node_replacements", self.get_node_replacements))
            for method, path, handler in newer:
                app.router.add_route(method, f"/api{path}", handler)
        for method, path, handler in routes:
            app.router.add_route(method, path, handler)
            app.router.add_route(method, f"/api{path}", handler)
        return app

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """The one place that every answer goes through."""
        try:
            return await answer(self.script, request, handler)
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
            status = message("status", {"status": self.worker.status(), "sid": sid})
            await self.sockets.deliver(socket, status)
            last_node_id = self.worker.last_node_id(sid)
            if last_node_id is not None:
                await self.sockets.deliver(socket, message("executing", {"node": last_node_id}))
            deaf = self.script.active("deaf_socket")
            if deaf is not None:
                # As on the real server: there the old socket's end takes the new one from the table, soon or later.
                asyncio.get_running_loop().call_later(deaf.step * TICK_SECONDS, self.sockets.close, sid)
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
                self.sockets.set_feature_flags(sid, flags if isinstance(flags, dict) else {})
                await self.sockets.deliver(socket, message("feature_flags", self._feature_flags()))
            first = False

    def cut_sockets(self) -> None:
        """Breaks all open sockets off without a close frame, as the death of a real server does."""
        for transport in list(self.transports):
            transport.abort()

    # Prompts and the queue

    async def get_prompt(self, request: web.Request) -> web.StreamResponse:
        return web.json_response(self.worker.status())

    async def post_prompt(self, request: web.Request) -> web.StreamResponse:
        """Nothing is awaited between the queue and the answer: the answer is written before the first message."""
        body = await request.json()
        number = float(body["number"]) if "number" in body else self.worker.next_number(bool(body.get("front")))
        if "prompt" not in body:
            return web.json_response({"error": NO_PROMPT, "node_errors": {}}, status=400)
        if self._wrong_id(body):
            return web.json_response({"error": INVALID_PROMPT_ID, "node_errors": {}}, status=400)
        validation = self.worker.validate(body["prompt"], body.get("partial_execution_targets"))
        if validation.error is not None:
            return web.json_response({"error": validation.error, "node_errors": validation.node_errors}, status=400)
        extra_data = dict(body.get("extra_data") or {})
        if "client_id" in body:
            extra_data["client_id"] = body["client_id"]
        given = body.get("prompt_id", "") if self.settings.newer else str(body.get("prompt_id", ""))
        prompt_id = str(uuid.uuid4()) if not given or self.script.active("other_id") else given
        if self.settings.newer:
            extra_data["create_time"] = int(time.time() * 1000)
            for key in SENSITIVE_KEYS:
                extra_data.pop(key, None)
        self.worker.put(QueueItem(number, prompt_id, body["prompt"], extra_data, validation.outputs))
        return web.json_response({"prompt_id": prompt_id, "number": number, "node_errors": validation.node_errors})

    def _wrong_id(self, body: dict[str, Any]) -> bool:
        """Whether a newer server refuses the id that the client has chosen for its prompt."""
        given = body.get("prompt_id")
        return self.settings.newer and given is not None and not is_job_id(given)

    async def get_queue(self, request: web.Request) -> web.StreamResponse:
        return web.json_response(self.worker.queue())

    async def post_queue(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        if body.get("clear"):
            self.worker.clear()
        self.worker.delete(body.get("delete", []))
        return web.Response()

    async def post_interrupt(self, request: web.Request) -> web.StreamResponse:
        text = await request.text()
        self.worker.interrupt(json.loads(text).get("prompt_id") if text else None)
        return web.Response()

    async def get_history(self, request: web.Request) -> web.StreamResponse:
        history = self.worker.history
        prompt_id = request.match_info.get("prompt_id")
        if prompt_id is not None:
            return web.json_response({prompt_id: history[prompt_id]} if prompt_id in history else {})
        last = int(request.query.get("max_items", len(history)))
        return web.json_response(dict(list(history.items())[max(len(history) - last, 0) :]))

    async def post_history(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        if body.get("clear"):
            self.worker.history.clear()
        for prompt_id in body.get("delete", []):
            self.worker.history.pop(prompt_id, None)
        return web.Response()

    async def post_free(self, request: web.Request) -> web.StreamResponse:
        if (await request.json()).get("free_memory"):
            self.worker.cache.clear()
        return web.Response()

    # Jobs

    async def get_jobs(self, request: web.Request) -> web.StreamResponse:
        try:
            return web.json_response(jobs.listing(self.worker, request.query))
        except jobs.BadQueryError as error:
            return web.json_response({"error": str(error)}, status=400)

    async def get_job(self, request: web.Request) -> web.StreamResponse:
        job = jobs.find(self.worker, request.match_info["job_id"])
        if job is None:
            return web.json_response({"error": "Job not found"}, status=404)
        return web.json_response(job)

    async def post_job_cancel(self, request: web.Request) -> web.StreamResponse:
        return web.json_response({"cancelled": self.worker.cancel(request.match_info["job_id"])})

    async def post_jobs_cancel(self, request: web.Request) -> web.StreamResponse:
        try:
            body = await request.json()
        except ValueError:
            return web.json_response({"error": "Request body must be valid JSON"}, status=400)
        ids = body.get("job_ids") if isinstance(body, dict) else None
        if not isinstance(ids, list):
            return web.json_response({"error": "job_ids must be a list"}, status=400)
        invalid = [each if isinstance(each, str) else repr(each) for each in ids if not is_job_id(each)]
        if invalid:
            answer = {"error": "job_ids contains invalid id(s)", "invalid_ids": invalid}
            return web.json_response(answer, status=400)
        # All of them, however the first one went.
        cancelled = [self.worker.cancel(each) for each in ids]
        return web.json_response({"cancelled": any(cancelled)})

    # Files

    async def get_view(self, request: web.Request) -> web.StreamResponse:
        query = request.query
        name = query.get("filename", "")
        if not name or name.startswith("/") or ".." in name:
            return web.Response(status=400)
        name = name.rpartition("/")[2]
        content = self.worker.files.read(query.get("type", "output"), query.get("subfolder", ""), name)
        if content is None:
            return web.Response(status=404)
        header = {"Content-Disposition": f'filename="{name}"'}
        return web.Response(body=content, content_type=media_type(name), headers=header)

    async def post_upload(self, request: web.Request) -> web.StreamResponse:
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
        name = self.worker.files.upload(folder, subfolder, name, content, overwrite=overwrite)
        return web.json_response({"name": name, "subfolder": subfolder, "type": folder})

    # About the server

    async def get_system_stats(self, request: web.Request) -> web.StreamResponse:
        memory = {"vram_total": 24 * 2**30, "vram_free": 20 * 2**30}
        device = {"name": "simulated GPU", "type": "cuda", "index": 0, **memory}
        system = {
            "os": platform.system().lower(),
            "ram_total": 32 * 2**30,
            "ram_free": 24 * 2**30,
            "comfyui_version": self.settings.version,
            "python_version": platform.python_version(),
            "pytorch_version": "simulated",
            "embedded_python": False,
            "argv": ["main.py"],
        }
        device |= {"torch_vram_total": 2 * 2**30, "torch_vram_free": 2**30}
        return web.json_response({"system": system, "devices": [device]})

    def _feature_flags(self) -> dict[str, Any]:
        """The answer to a client's flags."""
        if not self.settings.newer:
            return FEATURE_FLAGS
        more = {"supports_model_type_tags": True, "extension": {"manager": {"supports_v4": True}}}
        return FEATURE_FLAGS | more | {"node_replacements": True, "assets": False}

    async def get_node_replacements(self, request: web.Request) -> web.StreamResponse:
        return web.json_response(node_replacements())

    async def get_object_info(self, request: web.Request) -> web.StreamResponse:
        info: dict[str, Any] = object_info(self.worker.files.present)
        class_type = request.match_info.get("class_type")
        if class_type is not None:
            info = {class_type: info[class_type]} if class_type in NODE_CLASSES else {}
        return web.json_response(info)
