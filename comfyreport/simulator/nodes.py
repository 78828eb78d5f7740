"""What a node of each class does while it runs. Waits are in seconds at speed 1 and feel like a fast GPU.

No pixels, models or texts flow between the nodes: a node only takes its time, tells its progress and, if it is an
output, leaves files. The test nodes are listed in the package's docstring.
"""

from __future__ import annotations

import random
import re
import string
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from .graph import Prompt, inputs_of, is_link, sources, upstream
from .media import PREVIEW_JPEG, Picture

if TYPE_CHECKING:
    from .run import Work

STEP_SECONDS = 0.2
DEFAULT_STEPS = 20
SLEEP_TICK = 0.01
"""Seconds between two progress messages of TestSleep (recording u)."""

# The first pattern that is found in the class name counts; a class that none fits takes no time.
_SECONDS = [
    (re.compile(r"UNETLoader|CheckpointLoader|DiffusionModelLoader"), 0.5),
    (re.compile(r"Loader"), 0.3),
    (re.compile(r"TextEncode"), 0.15),
    (re.compile(r"Decode"), 0.4),
    (re.compile(r"Encode|Upscale|Scale|Preprocessor"), 0.15),
    (re.compile(r"^Save|VideoCombine"), 0.1),
]
_SIZED = re.compile(r"Latent|Image|Scale|Video")
"""Classes whose width and height are those of a picture, not of a text encoder or a model."""
JPEG, PNG = 1, 2
"""The picture formats of a binary frame."""


@dataclass(frozen=True, slots=True)
class Result:
    """What a node leaves. `blocked` is the message for the nodes behind an ExecutionBlocker ("" for a silent one);
    `expand` is the graph that takes the node's place, `result` the inner node that stands for the outer one."""

    ui: dict[str, Any] | None = None
    blocked: str | None = None
    expand: Prompt | None = None
    result: str = ""
    display: dict[str, str] | None = None
    """The node that an inner node is shown as, where that isn't the outer one."""


class NodeError(Exception):
    """A node failed; `kind` is the exception type as the server tells it."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


Behaviour = Callable[["Work"], Awaitable["Result | None"]]


def behaviour(class_type: str, node: Any) -> Behaviour:
    """What runs a node of this class."""
    if class_type in _TEST_NODES:
        return _TEST_NODES[class_type]
    if "Sampler" in class_type and {"steps", "sigmas"} & set(inputs_of(node)):
        return _sample
    if class_type == "SaveImageWebsocket":
        return _send_images
    if class_type == "GetImageSize":
        return _image_size
    return _save if class_type.startswith(("Save", "Preview", "VHS_VideoCombine")) else _work


async def _work(work: Work) -> None:
    for pattern, seconds in _SECONDS:
        if pattern.search(work.class_type):
            await work.wait(seconds)
            return
    await work.wait(0)


async def _sample(work: Work) -> None:
    steps = _steps(work)
    await work.wait(STEP_SECONDS)
    for step in range(1, steps + 1):
        await work.wait(STEP_SECONDS)
        await work.progress(step, steps, (JPEG, PREVIEW_JPEG))
    await work.wait(0)


def _steps(work: Work) -> int:
    """Own `steps`, less what an advanced sampler leaves out, or those of the scheduler node behind `sigmas`."""
    if "steps" in work.inputs:
        steps = work.whole("steps", DEFAULT_STEPS)
        return max(min(work.whole("end_at_step", steps), steps) - work.whole("start_at_step", 0), 1)
    link = work.inputs.get("sigmas")
    for node_id in upstream(work.prompt, [link[0]] if is_link(link) else []):
        if "steps" in inputs_of(work.prompt[node_id]):
            return max(work.whole("steps", DEFAULT_STEPS, node_id), 1)
    return DEFAULT_STEPS


async def _send_images(work: Work) -> None:
    """The pictures go out as frames like previews, counted from 0, and no `executed` follows (recording o)."""
    picture, count = _pictures(work)
    data = picture.png()
    for index in range(count):
        await work.wait(0.05)
        await work.progress(index, count, (PNG, data))


async def _image_size(work: Work) -> None:
    picture, count = _pictures(work)
    work.text(f"width: {picture.width}, height: {picture.height}\n batch size: {count}", to_client=False)


def _pictures(work: Work) -> tuple[Picture, int]:
    """What would arrive at an output node: size and number from the nearest node that sets them."""
    size: dict[str, int] = {}
    seed = 0
    for node_id in upstream(work.prompt, [work.node_id]):
        inputs = inputs_of(work.prompt[node_id])
        seed = seed or work.whole("seed", 0, node_id) or work.whole("noise_seed", 0, node_id)
        if _SIZED.search(str(work.prompt[node_id].get("class_type"))):
            for name in {"width", "height", "batch_size"} & set(inputs) - set(size):
                size[name] = work.whole(name, 0, node_id)
    picture = Picture(size.get("width") or 512, size.get("height") or 512, seed, work.prompt_text)
    return picture, max(size.get("batch_size", 1), 1)


async def _save(work: Work) -> Result:
    await _work(work)
    name = work.class_type
    if name == "PreviewAny":
        return Result({"text": [str(work.inputs.get("source", ""))]})
    for kind, suffix, ui_key in _FORMATS:
        if name.startswith(kind):
            return _save_clip(work, suffix, ui_key)
    picture, count = _pictures(work)
    temporary = name.startswith("Preview")
    prefix = f"ComfyUI_temp_{work.session}" if temporary else str(work.inputs.get("filename_prefix", "ComfyUI"))
    files = [work.keep(prefix, "png", picture, temporary=temporary) for _ in range(count)]
    return Result({"images": files})


# Class name, file suffix, key of the output; an empty suffix: by the node's `format`.
_FORMATS = [
    ("SaveAnimatedWEBP", "webp", "images"),
    ("SaveAnimatedPNG", "png", "images"),
    ("SaveWEBM", "webm", "images"),
    ("SaveVideo", "mp4", "images"),
    ("VHS_VideoCombine", "", "gifs"),
    ("SaveAudioMP3", "mp3", "audio"),
    ("SaveAudioOpus", "opus", "audio"),
    ("SaveAudio", "flac", "audio"),
    ("PreviewAudio", "flac", "audio"),
]


def _save_clip(work: Work, suffix: str, ui_key: str) -> Result:
    asked = str(work.inputs.get("format", "video/h264-mp4"))
    if not suffix:
        suffix = next((known for known in ("gif", "webp", "webm") if known in asked), "mp4")
    prefix = str(work.inputs.get("filename_prefix", "ComfyUI"))
    file = work.keep(prefix, suffix, None, temporary=work.class_type.startswith("Preview"))
    if ui_key == "gifs":
        return Result({"gifs": [{**file, "format": asked, "frame_rate": float(work.whole("frame_rate", 8))}]})
    return Result({ui_key: [file], **({"animated": [True]} if ui_key == "images" else {})})


async def _raise(work: Work) -> None:
    kind = work.inputs.get("kind", "runtime")
    if kind == "oom":
        raise NodeError("torch.OutOfMemoryError", "CUDA out of memory. Tried to allocate 20.00 GiB.")
    if kind == "runtime":
        shapes = "mat1 and mat2 shapes cannot be multiplied (77x2048 and 768x320)"
        raise NodeError("RuntimeError", shapes)
    raise NodeError("ValueError", f"raised on request: {kind}")


async def _block(work: Work) -> Result | None:
    if not work.inputs.get("block"):
        return None
    return Result(blocked="Blocked Execution" if work.inputs.get("verbose") else "")


async def _expand(work: Work) -> Result:
    """Two inner nodes: a plain one, then what `what` asks for."""
    classes = {"raise": "ProbeRaise", "output": "PreviewImage"}
    what = str(work.inputs.get("what", "progress"))
    first = {"class_type": "EmptyImage", "inputs": {"width": 16, "height": 16, "batch_size": 1}}
    image = {"images" if what == "output" else "image": ["1", 0]}
    second = {"class_type": classes.get(what, "ProbeProgress"), "inputs": {**image, "count": 4, "delay": 0.1}}
    return Result(expand={"1": first, "2": second}, result="2")


async def _loop(work: Work) -> Result | None:
    """Runs the nodes between the loop's ends again, `remaining` - 1 times, shown as the original ones."""
    opening = work.inputs.get("flow_control")
    if not is_link(opening) or opening[0] not in work.prompt:
        return None
    start = opening[0]
    body = [
        node_id
        for node_id in reversed(list(upstream(work.prompt, sources(work.prompt[work.node_id]))))
        if start in upstream(work.prompt, [node_id]) and node_id != start
    ]
    copies: Prompt = {}
    display: dict[str, str] = {}
    for turn in range(1, work.whole("remaining", 1, start)):
        for node_id in body:
            copy = f"{turn}.{node_id}"
            copies[copy] = {"class_type": work.prompt[node_id]["class_type"], "inputs": {"turn": turn}}
            if len(copies) > 1:
                copies[copy]["inputs"]["after"] = [list(copies)[-2], 0]
            display[copy] = node_id
    return Result(expand=copies, result=list(copies)[-1], display=display) if copies else None


async def _text(work: Work) -> None:
    for index in range(work.whole("count", 1)):
        work.text(str(work.inputs.get("text", "")).format(i=index), to_client=bool(work.inputs.get("to_client")))
        await work.wait(work.real("delay", 0.2))


async def _sleep(work: Work) -> None:
    """Tells the seconds gone by of those asked for."""
    seconds = work.real("seconds", 1.0)
    for tick in range(int(seconds / SLEEP_TICK) + 1):
        await work.progress(tick * SLEEP_TICK, seconds)
        await work.wait(SLEEP_TICK)
    await work.progress(seconds, seconds)


async def _progress(work: Work) -> None:
    count = work.whole("count", 4)
    delay = work.real("delay", 0.05)
    mode = work.inputs.get("mode", "steps")
    steps = range(1, count + 1)
    bars: dict[Any, Sequence[tuple[float, float]]] = {
        "floats": [(step / count, 1.0) for step in steps],
        "growing_total": [(step, count + step - 1) for step in steps],
        "restart": [(step, count) for step in steps] * 3,
        "past_total": [(step, count) for step in range(1, count + 3)],
        "zero_total": [(0, 0), (0, 0)],
        "two_bars": [bar for step in steps for bar in ((step, count), (2 * step, 2 * count))],
    }
    for index, (value, maximum) in enumerate(bars.get(mode) or [(step, count) for step in steps]):
        if mode != "burst" and not (mode == "two_bars" and index % 2):
            await work.wait(delay)
        await work.progress(value, maximum)


async def _output(work: Work) -> Result:
    clip = {"filename": "x.mp4", "subfolder": "", "type": "output", "format": "video/h264-mp4", "frame_rate": 8.0}
    return Result({"text": [str(work.inputs.get("text", ""))], "gifs": [clip], "tags": ["a", "b"]})


_TEST_NODES: dict[str, Behaviour] = {
    "ProbeRaise": _raise,
    "TestExecutionBlocker": _block,
    "ProbeExpand": _expand,
    "TestForLoopClose": _loop,
    "ProbeText": _text,
    "TestSleep": _sleep,
    "ProbeProgress": _progress,
    "ProbeOutput": _output,
}


def session_letters() -> str:
    """The five random letters in the names of temporary files; one set for a server's life."""
    return "".join(random.choices(string.ascii_lowercase, k=5))


def split_prefix(prefix: str) -> tuple[str, str]:
    """Subfolder and start of the file name."""
    path = PurePosixPath(prefix.replace("\\", "/"))
    folder = "" if str(path.parent) == "." else str(path.parent)
    return folder, path.name or "ComfyUI"
