"""The jobs of a newer server, `/api/jobs`: what its queue and history hold, in another form (recording j33)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .prompt_worker import PromptWorker

Job = dict[str, Any]

STATUSES = ("pending", "in_progress", "completed", "failed", "cancelled")
_ENDS = ("execution_success", "execution_error", "execution_interrupted")
_PREVIEWABLE = frozenset({"images", "video", "audio", "3d", "text"})
_MODEL_SUFFIXES = (".obj", ".fbx", ".gltf", ".glb", ".usdz")


class BadQueryError(Exception):
    """A query that is refused; the message is what the answer says."""


def find(worker: PromptWorker, job_id: str) -> Job | None:
    """One job with all that is known of it; None where the server has none of that id."""
    if job_id in worker.history:
        entry = worker.history[job_id]
        _, _, prompt, extra_data, _ = entry["prompt"]
        job = _ended(entry)
        job["outputs"] = {node: _normal_outputs(ui) for node, ui in entry["outputs"].items()}
        job["execution_status"] = entry["status"]
        job["workflow"] = {"prompt": prompt, "extra_data": extra_data}
        return job
    return next((job for job in _queued(worker) if job["id"] == job_id), None)


def listing(worker: PromptWorker, query: Mapping[str, str]) -> dict[str, Any]:
    """The answer of `GET /api/jobs`."""
    statuses = _statuses(query.get("status"))
    limit, offset = _number(query, "limit"), _number(query, "offset") or 0
    by, order = query.get("sort_by", "created_at").lower(), query.get("sort_order", "desc").lower()
    if by not in ("created_at", "execution_duration"):
        raise BadQueryError("sort_by must be 'created_at' or 'execution_duration'")
    if order not in ("asc", "desc"):
        raise BadQueryError("sort_order must be 'asc' or 'desc'")
    every = [*_queued(worker), *map(_ended, worker.history.values())]
    jobs = [job for job in every if job["status"] in statuses]
    if query.get("workflow_id"):
        jobs = [job for job in jobs if job.get("workflow_id") == query["workflow_id"]]
    jobs.sort(key=_duration if by == "execution_duration" else lambda job: job["create_time"], reverse=order == "desc")
    page = jobs[offset:] if limit is None else jobs[offset : offset + limit]
    more = offset + len(page) < len(jobs)
    return {"jobs": page, "pagination": {"offset": offset, "limit": limit, "total": len(jobs), "has_more": more}}


def _statuses(text: str | None) -> list[str]:
    names = [name.strip().lower() for name in (text or "").split(",") if name.strip()]
    wrong = [name for name in names if name not in STATUSES]
    if wrong:
        valid = ", ".join(STATUSES)
        raise BadQueryError(f"Invalid status value(s): {', '.join(wrong)}. Valid values: {valid}")
    return names or list(STATUSES)


def _number(query: Mapping[str, str], name: str) -> int | None:
    if name not in query:
        return None
    try:
        value = int(query[name])
    except ValueError:
        raise BadQueryError(f"{name} must be an integer") from None
    if name == "limit" and value <= 0:
        raise BadQueryError("limit must be a positive integer")
    return max(value, 0)


def _duration(job: Job) -> int:
    return int(job.get("execution_end_time", 0) - job.get("execution_start_time", 0))


def _queued(worker: PromptWorker) -> Iterator[Job]:
    running = [] if worker.running is None else [worker.running.item]
    for status, items in (("in_progress", running), ("pending", worker.pending)):
        for item in items:
            yield _job(item.as_list(), status, {"outputs_count": 0, "previewable_outputs_count": 0})


def _ended(entry: Mapping[str, Any]) -> Job:
    """A job of history, without its outputs."""
    messages = dict(entry["status"]["messages"])
    end = next((name for name in _ENDS if name in messages), "")
    failed = "cancelled" if end == "execution_interrupted" else "failed"
    status = "failed" if entry["status"]["status_str"] == "error" else "completed"
    status = failed if status == "failed" else status
    count, shown = _count(entry["outputs"])
    about: Job = {"execution_start_time": messages.get("execution_start", {}).get("timestamp")}
    about["execution_end_time"] = messages.get(end, {}).get("timestamp")
    about["execution_error"] = messages.get("execution_error")
    about |= {"outputs_count": count, "previewable_outputs_count": len(shown)}
    about["preview_output"] = next((each for each in shown if each.get("type") == "output"), next(iter(shown), None))
    return _job(entry["prompt"], status, about)


def _job(item: list[Any], status: str, about: Job) -> Job:
    """What all jobs have; what has no value is left out."""
    number, prompt_id, _, extra_data, _ = item
    workflow = extra_data.get("extra_pnginfo", {}).get("workflow", {})
    job = {"id": prompt_id, "status": status, "priority": number, "create_time": extra_data.get("create_time", 0)}
    job |= about | {"workflow_id": workflow.get("id")}
    return {name: value for name, value in job.items() if value is not None}


def _count(outputs: Mapping[str, Any]) -> tuple[int, list[dict[str, Any]]]:
    """How many files there are, and those that can be shown."""
    count, shown = 0, []
    for node_id, ui in outputs.items():
        for key, items in _normal_outputs(ui).items():
            for item in items if key != "animated" and isinstance(items, list) else []:
                if isinstance(item, dict):
                    count += 1
                    if key in _PREVIEWABLE or str(item.get("format", "")).startswith(("video/", "audio/")) or _3d(item):
                        shown.append({**item, "nodeId": node_id, "mediaType": item.get("mediaType", key)})
    return count, shown


def _3d(item: Mapping[str, Any]) -> bool:
    return str(item.get("filename", "")).lower().endswith(_MODEL_SUFFIXES)


def _normal_outputs(ui: Mapping[str, Any]) -> dict[str, Any]:
    """The outputs of a node, where a 3D file that is told as a string is an object, in words that `/view` refuses."""
    return {
        key: [_normal(item) for item in items if item is not None] if isinstance(items, list) else items
        for key, items in ui.items()
    }


def _normal(item: Any) -> Any:
    if isinstance(item, str) and item.lower().endswith(_MODEL_SUFFIXES):
        return {"filename": item, "type": "output", "subfolder": "", "mediaType": "3d"}
    return item
