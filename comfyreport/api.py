"""Runs workflows from Python. A failed run raises nothing: its end is the `RunFinished` that is returned.

Signals and the file descriptors 0 to 2 are left alone. A KeyboardInterrupt cancels the prompt and is raised again once
both ends are told and the reporters closed, whenever it comes; a second one leaves at once.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from comfyreport.access.credentials import Access, certificate_files
from comfyreport.engine.options import RunOptions
from comfyreport.errors import UsageError
from comfyreport.events import RunFinished
from comfyreport.files import Claims
from comfyreport.inputs.local_files import Given, Kind, parse_given
from comfyreport.jobs.call import Call
from comfyreport.jobs.file_claims import claim_files, input_reads
from comfyreport.jobs.job import Job
from comfyreport.jobs.session import ReporterLoading
from comfyreport.timing import Timing
from comfyreport.workflow.settings import Settings

InputFiles = str | os.PathLike[str] | Mapping[str, str | os.PathLike[str]]


def run_generation(
    workflow: str | os.PathLike[str] | Mapping[str, Any],
    *,
    prompt: str | None = None,
    negative: str | None = None,
    seed: int | Literal["random", "keep"] | None = None,
    steps: int | None = None,
    size: tuple[int, int] | None = None,
    batch: int | None = None,
    model: str | None = None,
    inputs: Mapping[str, Any] | None = None,
    image: InputFiles | None = None,
    mask: InputFiles | None = None,
    video: InputFiles | None = None,
    audio: InputFiles | None = None,
    output: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    include_temp: bool = False,
    sidecar: bool = False,
    server: str = "",
    reporters: Iterable[object] | None = None,
    quiet: bool = False,
    json_progress: bool = False,
    timeout: float | None = None,
    max_eta: float | None = None,
    expect_outputs: int = 0,
    record: str | os.PathLike[str] | None = None,
    learn: bool = True,
    access: Access | None = None,
    timing: Timing | None = None,
) -> RunFinished:
    """Submit a workflow, follow it to its end, save what it made.

    :param workflow: a file, as ComfyUI saves or exports it, its content, or a picture, a video or a sound that ComfyUI
        made.
    :param prompt: the text of the positive prompt. It and the next six are found by following the graph from the
        outputs; what isn't clear is a usage error that lists the candidates.
    :param negative: the text of the negative prompt.
    :param seed: the seed of all samplers; "random": a new one; "keep": as in the workflow.
    :param steps: steps of the samplers.
    :param size: width and height in pixels.
    :param batch: how many at once.
    :param model: the main model, as the server names its file.
    :param inputs: more inputs to set: values by NODE.INPUT, where NODE is an id, or a title or class that one node has.
    :param image: a file to upload for the node that loads a picture, as `--image` takes it; a mapping names several
        nodes, by ids, titles or classes. *mask*, *video* and *audio* likewise.
    :param output: a file, a folder or a template for the outputs; without it they stay on the server.
    :param overwrite: replace files that are there, whatever their names.
    :param include_temp: temporary outputs are results as others are.
    :param sidecar: write a file of JSON beside each output: what made it, and how to make it again.
    :param server: as `--server` takes it; empty: `COMFYREPORT_SERVER`, else http://127.0.0.1:8188.
    :param reporters: reporters as `--reporter` takes them, or objects; instead of the default one, unless each is a
        `+NAME`.
    :param quiet: tell errors only.
    :param json_progress: JSON lines on stdout.
    :param timeout: limit for the whole run in seconds.
    :param max_eta: the prompt is cancelled early where earlier runs say that it won't be done so many seconds after
        the start.
    :param expect_outputs: fewer files than these make a success partial.
    :param record: a file for what crosses the wire.
    :param learn: use how long nodes took in earlier runs, and keep how long they take in this one.
    :param access: credentials and certificates; None: the token in `COMFYREPORT_TOKEN`, if there is one.
    :param timing: waits and time limits; None: the defaults of `Timing`.
    :raises ReporterError: if a reporter can't be loaded or used as it is given.
    """
    options = RunOptions(
        timeout=timeout, max_eta=max_eta, expect_outputs=expect_outputs, include_temp=include_temp
    )  # fmt: skip
    files = _given({"image": image, "mask": mask, "video": video, "audio": audio})
    settings = Settings(
        prompt=prompt, negative=negative, seed=seed, steps=steps, size=size, batch=batch, model=model,
        inputs=inputs or {},
    )  # fmt: skip
    job = Job(
        server=server, workflow=workflow, settings=settings, files=files, output=output, overwrite=overwrite,
        sidecar=sidecar, record=record, learn=learn, access=access,
        options=options,
    )  # fmt: skip
    claims, error = claim_files(_reads(access, workflow, files), output=output, writes=[("--record", record)])
    claimed = claims, _wrong_type(settings, options) or error
    return _run("run", job, reporters, timing, claimed, quiet=quiet, json_progress=json_progress)


def wait_for_completion(
    prompt_id: str,
    *,
    server: str = "",
    client_id: str = "",
    output: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    include_temp: bool = False,
    sidecar: bool = False,
    reporters: Iterable[object] | None = None,
    quiet: bool = False,
    json_progress: bool = False,
    timeout: float | None = None,
    max_eta: float | None = None,
    learn: bool = True,
    access: Access | None = None,
    timing: Timing | None = None,
) -> RunFinished:
    """Follow a prompt that was submitted already, to its end.

    :param client_id: the `client_id` that it was submitted with. Without it the server tells hardly anything over
        the socket, and the end is learned by asking.
    :param output: as `run_generation` has it, like *overwrite*, *include_temp*, *sidecar* and *learn*.
    :raises ReporterError: if a reporter can't be loaded or used as it is given.
    """
    job = Job(
        server=server,
        prompt_id=prompt_id,
        client_id=client_id,
        output=output,
        overwrite=overwrite,
        sidecar=sidecar,
        learn=learn,
        access=access,
        options=RunOptions(timeout=timeout, max_eta=max_eta, include_temp=include_temp),
    )
    claimed = claim_files([], output=output)
    return _run("attach", job, reporters, timing, claimed, quiet=quiet, json_progress=json_progress)


def _wrong_type(settings: Settings, options: RunOptions) -> UsageError | None:
    """The error for an argument of the wrong type, which the command line couldn't have."""
    size = settings.size
    pair = isinstance(size, (tuple, list)) and len(size) == 2 and all(type(side) is int and side > 0 for side in size)
    wrong = {
        "seed": type(settings.seed) is not int and settings.seed not in (None, "random", "keep"),
        "steps": settings.steps is not None and type(settings.steps) is not int,
        "batch": settings.batch is not None and type(settings.batch) is not int,
        "size": size is not None and not pair,
        "inputs": not isinstance(settings.inputs, Mapping),
        "timeout": options.timeout is not None and not isinstance(options.timeout, (int, float)),
        "max_eta": options.max_eta is not None and not isinstance(options.max_eta, (int, float)),
    }
    name = next((name for name, is_wrong in wrong.items() if is_wrong), None)
    return UsageError(f"{name} has the wrong type", hint=f"see run_generation's {name}") if name else None


def _given(values: Mapping[Kind, InputFiles | None]) -> tuple[Given, ...]:
    """The files for loaders, each for a node."""
    given: list[Given] = []
    for kind, value in values.items():
        if isinstance(value, str):
            given.append(parse_given(kind, value))
        elif value is not None:
            nodes = value if isinstance(value, Mapping) else {"": value}
            given += [Given(kind, node, os.fspath(path), os.fspath(path)) for node, path in nodes.items()]
    return tuple(given)


def _reads(
    access: Access | None, workflow: str | os.PathLike[str] | Mapping[str, Any], files: tuple[Given, ...]
) -> list[tuple[str, str | os.PathLike[str]]]:
    """The files that a run reads, with what for."""
    certificates = [] if access is None else [access.cacert, *certificate_files(access.client_cert)]
    reads: list[tuple[str, str | os.PathLike[str]]] = [("access", path) for path in dict.fromkeys(certificates) if path]
    named = [] if isinstance(workflow, Mapping) or workflow is None else [workflow]
    return [*reads, *(("--workflow", file) for file in named), *input_reads(files, named)]


def _run(
    command: str,
    job: Job,
    reporters: Iterable[object] | None,
    timing: Timing | None,
    claimed: tuple[Claims, UsageError | None],
    *,
    quiet: bool,
    json_progress: bool,
) -> RunFinished:
    claims, error = claimed
    loading = ReporterLoading(reporters, quiet=quiet, json_progress=json_progress, claims=claims)
    return Call(command, job, loading, timing or Timing(), error).run()
