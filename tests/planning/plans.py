"""Plans for tests: of small graphs, with files that are held in memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from comfyreport.errors import UsageError, WorkflowError
from comfyreport.planning.making import make_plan
from comfyreport.planning.plan import Plan, Wanted
from comfyreport.workflow.files import Workflow, from_mapping

Graph = dict[str, dict[str, Any]]

TXT2IMG: Graph = {
    "3": {
        "class_type": "KSampler",
        "inputs": {
            "seed": 100, "steps": 20, "cfg": 8.0, "model": ["4", 0], "positive": ["6", 0], "negative": ["7", 0],
            "latent_image": ["5", 0],
        },
    },
    "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "a.safetensors"}},
    "5": {"class_type": "EmptyLatentImage", "inputs": {"width": 512, "height": 512, "batch_size": 1}},
    "6": {"class_type": "CLIPTextEncode", "_meta": {"title": "Positive"}, "inputs": {"text": "a", "clip": ["4", 1]}},
    "7": {"class_type": "CLIPTextEncode", "_meta": {"title": "Negative"}, "inputs": {"text": "b", "clip": ["4", 1]}},
    "8": {"class_type": "VAEDecode", "inputs": {"samples": ["3", 0], "vae": ["4", 2]}},
    "9": {"class_type": "SaveImage", "inputs": {"images": ["8", 0], "filename_prefix": "x"}},
}  # fmt: skip
# Nothing in it has a seed.
BLUR: Graph = {
    "1": {"class_type": "LoadImage", "inputs": {"image": "example.png"}},
    "2": {"class_type": "ImageBlur", "inputs": {"image": ["1", 0], "blur_radius": 1}},
    "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": "x"}},
}
FILES: Mapping[str, Graph] = {
    "w.json": TXT2IMG,
    "v.json": {**TXT2IMG, "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "b.safetensors"}}},
    "blur.json": BLUR,
}


def load(file: object) -> Workflow:
    """The workflow in one of `FILES`, or a graph."""
    if isinstance(file, Mapping):
        return from_mapping(file)
    if file not in FILES:
        raise WorkflowError(f"{file} doesn't exist", hint="check the path")
    return from_mapping(FILES[str(file)])


def plan_of(wanted: Wanted, *, entropy: int = 1, **files: str) -> Plan:
    """The plan, where *files* hold what is read; their names have `_` for the dot."""

    def read(path: str, limit: int) -> bytes:
        if path.replace(".", "_") not in files:
            raise UsageError(f"{path} can't be read", hint="check the path")
        return files[path.replace(".", "_")].encode()[:limit]

    return make_plan(wanted, load=load, read=read, entropy=entropy)
