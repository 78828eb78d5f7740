"""Runs workflows from Python. A failed run raises nothing: its end is the `RunFinished` that is returned.

Signals and the file descriptors 0 to 2 are left alone. A KeyboardInterrupt cancels the prompt and is raised again once
both ends are told and the reporters closed, whenever it comes; a second one leaves at once.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from typing import Any, Literal

from comfyreport.access.credentials import Access, certificate_files
from comfyreport.engine.options import RunOptions
from comfyreport.errors import UsageError
from comfyreport.events import RunFinished
from comfyreport.files import Claims
from comfyreport.inputs.local_files import KINDS, Given, Kind, parse_given
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
    asked = {
        "workflow": workflow, "prompt": prompt, "negative": negative, "seed": seed, "steps": steps, "size": size,
        "batch": batch, "model": model, "inputs": inputs, "image": image, "mask": mask, "video": video, "audio": audio,
        "output": output, "overwrite": overwrite, "include_temp": include_temp, "sidecar": sidecar, "server": server,
        "timeout": timeout, "max_eta": max_eta, "expect_outputs": expect_outputs, "record": record, "learn": learn,
        "access": access,
    }  # fmt: skip
    job, error = _ask(asked)
    claims, clash = claim_files(_reads(job), output=output, writes=[("--record", record)])
    return _run("run", job, reporters, timing, (claims, error or clash), quiet=quiet, json_progress=json_progress)


def run_many(
    jobs: Iterable[Mapping[str, Any]],
    *,
    servers: Sequence[str] = (),
    reporters: Iterable[object] | None = None,
    executor: Executor | str | None = None,
    quiet: bool = False,
    json_progress: bool = False,
    keep_going: bool = True,
    retries: int = 2,
    state: str | os.PathLike[str] | None = None,
    manifest: str | os.PathLike[str] | None = None,
    access: Access | None = None,
    timing: Timing | None = None,
) -> Iterator[RunFinished]:
    """Make many runs; their ends, in the order in which they come.

    The runs begin when the iterator is advanced first. Whoever stops iterating cancels what is queued and what runs,
    and so does a KeyboardInterrupt, which is raised once all ends are told; a second one leaves at once.

    :param jobs: what `run_generation` takes of a run, by name: `{"workflow": "a.json", "seed": 7}`.
    :param servers: the servers that make the runs, as `--server` takes them: whichever is free first. With an
        *executor*, the runs go to them by turns, but for those that name their own `server`; where there are none, to
        the server of each worker.
    :param reporters: as `run_generation` has it, like *quiet* and *json_progress*: they are told of all runs.
    :param executor: what makes the runs: a pool, or `dask://HOST:PORT`; None: this process. Then all that isn't set in
        the workflow is the same for all runs.
    :param keep_going: a failure doesn't stop the others; False: what isn't begun by then never is.
    :param retries: how often a run is begun again that was lost with its server, or with its worker.
    :param state: a file for what is done, from which the same call goes on.
    :param manifest: a file for a line of JSON about each run, as it ends.
    :param access: credentials and certificates of runs that have none of their own.
    :raises UsageError: if a job has a name that `run_generation` lacks, or a value that it wouldn't take.
    :raises ReporterError: if a reporter can't be loaded or used as it is given, when the iterator is advanced first.
    """
    from comfyreport.fleet.listed import Listed
    from comfyreport.jobs.many import Many

    if isinstance(servers, str):
        raise UsageError("servers is a text", hint="give a list: servers=['http://127.0.0.1:8188']")
    turns = servers if executor is not None else ()
    asked: list[Job] = []
    for number, each in enumerate(jobs, 1):
        if not isinstance(each, Mapping):
            raise UsageError(f"run {number} is no mapping", hint='give one: {"workflow": "a.json", "seed": 7}')
        turn = {"server": turns[(number - 1) % len(turns)]} if turns else {}
        job, error = _ask({"access": access, **turn, **each}, f"run {number}: ")
        if error is not None:
            raise error
        asked.append(job)
    claims, timing = Claims(), timing or Timing()
    for place in dict.fromkeys(place for job in asked for place in _reads(job)):
        claims = claim_files([place], output=None, claims=claims)[0]
    claims, error = claim_files(
        [],
        output=None,
        writes=[("state", state), ("manifest", manifest), *(("record", job.record) for job in asked)],
        claims=claims,
    )
    if error is not None:
        raise error
    loading = ReporterLoading(reporters, quiet=quiet, json_progress=json_progress, claims=claims)
    listed = Listed(
        jobs=tuple(asked), servers=tuple(servers), executor=executor, keep_going=keep_going, retries=retries,
        state=state, manifest=manifest, timing=timing,
    )  # fmt: skip
    return Many(loading, listed.prepare, server=listed.shown_server, timing=timing).results()


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


_DEFAULTS: Mapping[str, Any] = {
    "workflow": None, "prompt": None, "negative": None, "seed": None, "steps": None, "size": None, "batch": None,
    "model": None, "inputs": None, "image": None, "mask": None, "video": None, "audio": None, "output": None,
    "overwrite": False, "include_temp": False, "sidecar": False, "server": "", "timeout": None, "max_eta": None,
    "expect_outputs": 0, "record": None, "learn": True, "access": None,
}  # fmt: skip
_SETTINGS = ("prompt", "negative", "seed", "steps", "size", "batch", "model")
_OPTIONS = ("timeout", "max_eta", "expect_outputs", "include_temp")
_OWN = ("server", "workflow", "output", "overwrite", "sidecar", "record", "learn", "access")


def _ask(asked: Mapping[str, Any], whose: str = "") -> tuple[Job, UsageError | None]:
    """The job that *asked* is, by the names of `run_generation`, and what is wrong with it.

    :param whose: begins the message.
    """
    unknown = next((name for name in asked if name not in _DEFAULTS), None)
    if unknown is not None or "workflow" not in asked:
        wrong = "it has no workflow" if unknown is None else f"there is no {unknown!r}"
        raise UsageError(f"{whose}{wrong}", hint=f"a run has {', '.join(_DEFAULTS)}")
    values = {**_DEFAULTS, **asked}
    settings = Settings(**{name: values[name] for name in _SETTINGS}, inputs=values["inputs"] or {})
    options = RunOptions(**{name: values[name] for name in _OPTIONS})
    error = _wrong_type(settings, options)
    if error is not None:
        error = UsageError(f"{whose}{error.message}", hint=error.hint)
    files = _given({kind: values[kind] for kind in KINDS})
    return Job(settings=settings, options=options, files=files, **{name: values[name] for name in _OWN}), error


def _wrong_type(settings: Settings, options: RunOptions) -> UsageError | None:
    """The error for an argument of the wrong type, which the command line couldn't have."""
    size = settings.size
    pair = isinstance(size, (tuple, list)) and len(size) == 2 and all(type(side) is int and side > 0 for side in size)
    wrong = {
        "seed": type(settings.seed) is not int and settings.seed not in (None, "random", "keep"),
        "steps": settings.steps is not None and type(settings.steps) is not int,
        "batch": settings.batch is not None and type(settings.batch) is not int,
        "size": size is not None and not pair,
        **{
            name: not isinstance(getattr(settings, name), (str, type(None))) for name in ("prompt", "negative", "model")
        },
        "expect_outputs": type(options.expect_outputs) is not int,
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


def _reads(job: Job) -> list[tuple[str, str | os.PathLike[str]]]:
    """The files that a run reads, with what for."""
    access, workflow = job.access, job.workflow
    certificates = [] if access is None else [access.cacert, *certificate_files(access.client_cert)]
    reads: list[tuple[str, str | os.PathLike[str]]] = [("access", path) for path in dict.fromkeys(certificates) if path]
    named = [] if isinstance(workflow, Mapping) or workflow is None else [workflow]
    return [*reads, *(("--workflow", file) for file in named), *input_reads(job.files, named)]


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
