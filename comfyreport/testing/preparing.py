"""Do the hooks of a plugin of `-p` keep what they promise: flags that clash with none, workflows that can be sent?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from comfyreport.errors import ReporterError, UsageError
from comfyreport.flags.arguments import ArgumentsError, build_parser, parse
from comfyreport.flags.plugin_flags import Flags, parsed
from comfyreport.jobs.preparing import PREPARE_HOOK, Options, call_prepare, options_of
from comfyreport.reporting.plugins import Reporter
from comfyreport.reporting.validation import Hook
from comfyreport.testing.samples import EVIL
from comfyreport.workflow.files import from_mapping

_SERVER = "http://127.0.0.1:8188"


def sample_workflows() -> Iterator[tuple[str, dict[str, Any]]]:
    """Workflows as people have them, by a title: what stands in inputs may be anything that JSON can hold."""
    texts = {"clip": ["1", 1], "text": "a __colour__ fox, 20 % of it {red|blue}"}
    yield (
        "a picture from text",
        {
            "1": _node("CheckpointLoaderSimple", ckpt_name="a.safetensors"),
            "2": _node("CLIPTextEncode", **texts),
            "3": _node("EmptyLatentImage", width=512, height=512, batch_size=1),
            "4": _node("KSampler", model=["1", 0], positive=["2", 0], latent_image=["3", 0], seed=5, steps=20, cfg=7.5),
            "5": _node("SaveImage", images=["4", 0], filename_prefix="made"),
        },
    )
    odd = {"text": None, "steps": "20", "width": ["9", 0], "height": True, "seed": -1.5, "nested": {"list": [1, [2]]}}
    yield (
        "inputs of other types",
        {"a:1": _node("Unknown", **odd), "9": _node("Unknown", text=["a:1", 0], seed=["nowhere", 7])},
    )
    yield "a node without inputs", {"1": {"class_type": "SaveImage"}}
    yield "no text and an empty one", {"1": _node("KSampler", seed=0), "2": _node("CLIPTextEncode", text="")}
    yield "huge numbers", {"1": _node("KSampler", seed=2**64 - 1, steps=10**30, width=10**30, height=-1)}
    evil = {"class_type": EVIL, "inputs": {"text": EVIL, EVIL: EVIL}, "_meta": {"title": EVIL}}
    yield "hostile texts", {EVIL: evil}
    yield "hundreds of nodes", {str(number): _node("CLIPTextEncode", **texts) for number in range(500)}


def _node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


def faults(hooks: Mapping[str, Hook], name: str, flags: Sequence[str]) -> Iterator[tuple[str, str]]:
    """What is wrong, and on which workflow it showed.

    :param flags: the plugin's own flags, as words of a command line.
    """
    try:
        options = _options(hooks, name, flags)
    except ReporterError as error:
        yield f"{error.message} ({error.hint})", ""
        return
    except ArgumentsError as error:
        yield f"its flags can't be parsed: {error}", " ".join(flags) or "no flag given"
        return
    hook = hooks.get(PREPARE_HOOK)
    if hook is None:
        return
    for title, graph in sample_workflows():
        # Twice: what it keeps of one run must not hurt the next.
        for _ in range(2):
            try:
                call_prepare(hook, name, from_mapping(graph), options)
            except ReporterError as error:
                yield error.message, f"the workflow with {title}"
                break
            except UsageError as error:
                if isinstance(error.__cause__, UsageError) and not str(error.__cause__).strip():
                    yield "it refuses a workflow without saying why", f"the workflow with {title}"
                    break


def _options(hooks: Mapping[str, Hook], name: str, words: Sequence[str]) -> Options:
    flags = Flags(build_parser("run"))
    for ask in flags.ask([Reporter(name, None, hooks, "", None)]):
        ask()
    arguments = parsed(lambda: parse("run", ["--workflow", "x.json", *words], flags.parser), flags)
    return options_of(arguments, _SERVER)
