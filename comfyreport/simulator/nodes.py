"""What a node of each class does while it runs. Waits are in seconds at speed 1 and feel like a fast GPU.

No pixels, models or texts flow between the nodes: a node only takes its time, reports its progress and, if it is an
output, leaves files. Samplers count their steps, loaders and decoders take time without a word, classes named Save… or
Preview… (and VHS_VideoCombine) are outputs and leave real files. Nodes to try failures with, which pass on what they
are given (docs/servers.md tells of them):

* `SimulateError` (message): fails. `SimulateOutOfMemory`: fails as a GPU does whose memory is full.
* `SimulateBlock` (message, "" for a silent one): blocks the nodes behind it, as an ExecutionBlocker does.

Test nodes of the recordings, by class name:

* `ProbeRaise` (kind `runtime`, `oom` or another): fails.
* `TestExecutionBlocker` (block, verbose): blocks the nodes behind it.
* `ProbeExpand` (what `progress`, `raise` or `output`): becomes two inner nodes. `TestForLoopOpen` (remaining) and
  `TestForLoopClose`: the nodes between them run again as inner ones.
* `TestSleep` (seconds): runs beside others of its class.
* `ProbeText` (text with `{i}`, count, delay, to_client): sends text frames. `GetImageSize` sends one to everybody.
* `ProbeProgress` (mode `steps`, `floats`, `growing_total`, `restart`, `past_total`, `zero_total`, `two_bars` or
  `burst`, count, delay): odd progress bars.
* `ProbeOutput`: outputs of several kinds.

Other classes (StubImage, TestVariadicAverage, …) do nothing, quickly.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from comfyreport.sim_nodes.graph import Prompt, inputs_of, is_link, sources, upstream
from comfyreport.sim_nodes.media import PREVIEW_JPEG, Image
from comfyreport.sim_nodes.node_classes import MEDIA_FORMATS, MODEL_PREVIEWS, MODEL_SAVERS

from .running_prompt import NodeContext
from .sockets import JPEG, PNG

STEP_SECONDS = 0.2
DEFAULT_STEPS = 20
SLEEP_TICK = 0.01
"""Seconds between two progress messages of TestSleep (recording u)."""

# The first pattern that is found in the class name counts; a class that none fits takes no time.
_DURATIONS = [
    (re.compile(r"UNETLoader|CheckpointLoader|DiffusionModelLoader"), 0.5),
    (re.compile(r"Loader"), 0.3),
    (re.compile(r"TextEncode"), 0.15),
    (re.compile(r"Decode"), 0.4),
    (re.compile(r"Encode|Upscale|Scale|Preprocessor"), 0.15),
    (re.compile(r"^Save|VideoCombine"), 0.1),
]
_SIZED_CLASSES = re.compile(r"Latent|Image|Scale|Video")
"""Classes whose width and height are those of an image, not of a text encoder or a model."""


@dataclass(frozen=True, slots=True)
class NodeResult:
    """What a node leaves. `blocked` is the message for the nodes behind an ExecutionBlocker ("" for a silent one);
    `expand` is the graph that takes the node's place, `result` the inner node that stands for the outer one."""

    ui: dict[str, Any] | None = None
    blocked: str | None = None
    expand: Prompt | None = None
    result: str = ""
    display: dict[str, str] | None = None
    """The node that an inner node is shown as, where that isn't the outer one."""


class NodeError(Exception):
    """A node failed; `exception_type` is the name that messages have."""

    def __init__(self, exception_type: str, message: str) -> None:
        super().__init__(message)
        self.exception_type = exception_type


NodeFunction = Callable[[NodeContext], Awaitable[NodeResult | None]]


def node_function(class_type: str, node: Any) -> NodeFunction:
    """What runs a node of this class."""
    if class_type in _TEST_NODES:
        return _TEST_NODES[class_type]
    if "Sampler" in class_type and {"steps", "sigmas"} & set(inputs_of(node)):
        return _sample
    if class_type == "SaveImageWebsocket":
        return _send_images
    if class_type == "GetImageSize":
        return _image_size
    return _save if class_type.startswith(("Save", "Preview", "VHS_VideoCombine")) else _take_time


async def _take_time(context: NodeContext) -> None:
    for pattern, seconds in _DURATIONS:
        if pattern.search(context.class_type):
            await context.wait(seconds)
            return
    await context.wait(0)


async def _sample(context: NodeContext) -> None:
    steps = _sampler_steps(context)
    await context.wait(STEP_SECONDS)
    for step in range(1, steps + 1):
        await context.wait(STEP_SECONDS)
        await context.progress(step, steps, (JPEG, PREVIEW_JPEG))
    await context.wait(0)


def _sampler_steps(context: NodeContext) -> int:
    """Own `steps`, less what an advanced sampler leaves out, or those of the scheduler node behind `sigmas`."""
    if "steps" in context.inputs:
        steps = context.int_input("steps", DEFAULT_STEPS)
        return max(min(context.int_input("end_at_step", steps), steps) - context.int_input("start_at_step", 0), 1)
    link = context.inputs.get("sigmas")
    for node_id in upstream(context.prompt, [link[0]] if is_link(link) else []):
        if "steps" in inputs_of(context.prompt[node_id]):
            return max(context.int_input("steps", DEFAULT_STEPS, node_id), 1)
    return DEFAULT_STEPS


async def _send_images(context: NodeContext) -> None:
    """The images go out as frames like previews, counted from 0, and no `executed` follows (recording o)."""
    image, count = _images(context)
    data = image.png()
    for index in range(count):
        await context.wait(0.05)
        await context.progress(index, count, (PNG, data))


async def _image_size(context: NodeContext) -> None:
    image, count = _images(context)
    context.send_text(f"width: {image.width}, height: {image.height}\n batch size: {count}", to_client=False)


def _images(context: NodeContext) -> tuple[Image, int]:
    """What would arrive at an output node: size and number from the nearest node that sets them."""
    size: dict[str, int] = {}
    seed = 0
    for node_id in upstream(context.prompt, [context.node_id]):
        inputs = inputs_of(context.prompt[node_id])
        seed = seed or context.int_input("seed", 0, node_id) or context.int_input("noise_seed", 0, node_id)
        if _SIZED_CLASSES.search(str(context.prompt[node_id].get("class_type"))):
            for name in {"width", "height", "batch_size"} & set(inputs) - set(size):
                size[name] = context.int_input(name, 0, node_id)
    image = Image(size.get("width") or 512, size.get("height") or 512, seed, context.submitted_prompt)
    return image, max(size.get("batch_size", 1), 1)


async def _save(context: NodeContext) -> NodeResult:
    await _take_time(context)
    name = context.class_type
    if name in MODEL_SAVERS or name in MODEL_PREVIEWS:
        return _save_model(context)
    if name == "PreviewAny":
        return NodeResult({"text": [str(context.inputs.get("source", ""))]})
    for class_name, suffix, ui_key in MEDIA_FORMATS:
        if name.startswith(class_name):
            return _save_media(context, suffix, ui_key)
    image, count = _images(context)
    temporary = name.startswith("Preview")
    prefix = context.files.temp_prefix if temporary else str(context.inputs.get("filename_prefix", "ComfyUI"))
    files = [context.files.save(prefix, "png", image, temporary=temporary) for _ in range(count)]
    return NodeResult({"images": files})


def _save_model(context: NodeContext) -> NodeResult:
    """The file is told as a string, without its folder (recording p33)."""
    name = context.class_type
    if name in MODEL_PREVIEWS:
        prefix, suffix, temporary = MODEL_PREVIEWS[name]
        return NodeResult({"result": [context.files.save_preview(prefix, suffix, temporary=temporary), None, []]})
    prefix = str(context.inputs.get("filename_prefix", "3d/ComfyUI"))
    file = context.files.save(prefix, MODEL_SAVERS[name], temporary=False, mark="")
    path = "/".join(part for part in (file["subfolder"], file["filename"]) if part)
    return NodeResult({"result": [path, None, []]})


def _save_media(context: NodeContext, suffix: str, ui_key: str) -> NodeResult:
    video_format = str(context.inputs.get("format", "video/h264-mp4"))
    if not suffix:
        suffix = next((known for known in ("gif", "webp", "webm") if known in video_format), "mp4")
    prefix = str(context.inputs.get("filename_prefix", "ComfyUI"))
    file = context.files.save(prefix, suffix, temporary=context.class_type.startswith("Preview"))
    if ui_key == "gifs":
        frame_rate = float(context.int_input("frame_rate", 8))
        return NodeResult({"gifs": [{**file, "format": video_format, "frame_rate": frame_rate}]})
    return NodeResult({ui_key: [file], **({"animated": [True]} if ui_key == "images" else {})})


async def _fail(context: NodeContext) -> None:
    raise NodeError("RuntimeError", str(context.inputs.get("message") or "failed on request"))


async def _run_out_of_memory(context: NodeContext) -> None:
    raise NodeError("torch.OutOfMemoryError", "CUDA out of memory. Tried to allocate 20.00 GiB.")


async def _block_all(context: NodeContext) -> NodeResult:
    return NodeResult(blocked=str(context.inputs.get("message", "blocked on request")))


async def _raise(context: NodeContext) -> None:
    kind = context.inputs.get("kind", "runtime")
    if kind == "oom":
        await _run_out_of_memory(context)
    if kind == "runtime":
        raise NodeError("RuntimeError", "mat1 and mat2 shapes cannot be multiplied (77x2048 and 768x320)")
    raise NodeError("ValueError", f"raised on request: {kind}")


async def _block(context: NodeContext) -> NodeResult | None:
    if not context.inputs.get("block"):
        return None
    return NodeResult(blocked="Blocked Execution" if context.inputs.get("verbose") else "")


async def _expand(context: NodeContext) -> NodeResult:
    """Two inner nodes: a plain one, then what `what` asks for."""
    classes = {"raise": "ProbeRaise", "output": "PreviewImage"}
    what = str(context.inputs.get("what", "progress"))
    first = {"class_type": "EmptyImage", "inputs": {"width": 16, "height": 16, "batch_size": 1}}
    image = {"images" if what == "output" else "image": ["1", 0]}
    second = {"class_type": classes.get(what, "ProbeProgress"), "inputs": {**image, "count": 4, "delay": 0.1}}
    return NodeResult(expand={"1": first, "2": second}, result="2")


async def _loop(context: NodeContext) -> NodeResult | None:
    """Runs the nodes between the loop's ends again, `remaining` - 1 times, shown as the original ones."""
    opening = context.inputs.get("flow_control")
    if not is_link(opening) or opening[0] not in context.prompt:
        return None
    start = opening[0]
    body = [
        node_id
        for node_id in reversed(list(upstream(context.prompt, sources(context.prompt[context.node_id]))))
        if start in upstream(context.prompt, [node_id]) and node_id != start
    ]
    copies: Prompt = {}
    display: dict[str, str] = {}
    for turn in range(1, context.int_input("remaining", 1, start)):
        for node_id in body:
            copy = f"{turn}.{node_id}"
            copies[copy] = {"class_type": context.prompt[node_id]["class_type"], "inputs": {"turn": turn}}
            if len(copies) > 1:
                copies[copy]["inputs"]["after"] = [list(copies)[-2], 0]
            display[copy] = node_id
    return NodeResult(expand=copies, result=list(copies)[-1], display=display) if copies else None


async def _text(context: NodeContext) -> None:
    for index in range(context.int_input("count", 1)):
        text = str(context.inputs.get("text", "")).format(i=index)
        context.send_text(text, to_client=bool(context.inputs.get("to_client")))
        await context.wait(context.float_input("delay", 0.2))


async def _sleep(context: NodeContext) -> None:
    """Its progress is the seconds gone by, of those to sleep."""
    seconds = context.float_input("seconds", 1.0)
    for tick in range(int(seconds / SLEEP_TICK) + 1):
        await context.progress(tick * SLEEP_TICK, seconds)
        await context.wait(SLEEP_TICK)
    await context.progress(seconds, seconds)


async def _progress(context: NodeContext) -> None:
    count = context.int_input("count", 4)
    delay = context.float_input("delay", 0.05)
    mode = context.inputs.get("mode", "steps")
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
            await context.wait(delay)
        await context.progress(value, maximum)


async def _output(context: NodeContext) -> NodeResult:
    clip = {"filename": "x.mp4", "subfolder": "", "type": "output", "format": "video/h264-mp4", "frame_rate": 8.0}
    return NodeResult({"text": [str(context.inputs.get("text", ""))], "gifs": [clip], "tags": ["a", "b"]})


_TEST_NODES: dict[str, NodeFunction] = {
    "SimulateError": _fail,
    "SimulateOutOfMemory": _run_out_of_memory,
    "SimulateBlock": _block_all,
    "ProbeRaise": _raise,
    "TestExecutionBlocker": _block,
    "ProbeExpand": _expand,
    "TestForLoopClose": _loop,
    "ProbeText": _text,
    "TestSleep": _sleep,
    "ProbeProgress": _progress,
    "ProbeOutput": _output,
}
