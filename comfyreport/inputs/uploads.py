"""Files of this machine on their way into a workflow: which input each is for, sent, named as the server has them."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from comfyreport.errors import UnreachableError, UsageError
from comfyreport.inputs.classes import ask_class
from comfyreport.inputs.loaders import (
    Declared,
    Loader,
    declared_loader,
    find_loader,
    leading_to_outputs,
    loaders,
    no_loader,
    unknown_classes,
)
from comfyreport.inputs.local_files import Given, LocalFile, literal_file, look_at
from comfyreport.net.client import Client
from comfyreport.protocol.downloads import FilePlace
from comfyreport.protocol.statuses import Response
from comfyreport.protocol.uploads import FileChangedError, read_uploaded, upload_body
from comfyreport.saving.names import safe_name
from comfyreport.workflow.files import Workflow
from comfyreport.workflow.graph import Target, inputs_of
from comfyreport.workflow.settings import Setting, nodes_named

_FIELDS = {"type": "input", "subfolder": "", "overwrite": "false"}
_MAX_CLASSES = 50


@dataclass(frozen=True)
class Uploads:
    """What is to be uploaded for a workflow. Nothing is sent yet.

    `placed` have their loader; `open` are those for which the server must say what loads; `literals` are files whose
    path stands in the workflow: they are uploaded if the server has none of that name.
    """

    placed: tuple[tuple[Loader, LocalFile], ...] = ()
    open: tuple[tuple[Given, LocalFile], ...] = ()
    literals: tuple[tuple[Loader, LocalFile], ...] = ()

    def __bool__(self) -> bool:
        return bool(self.placed or self.open or self.literals)


def plan_uploads(workflow: Workflow, files: Iterable[Given], folder: str) -> Uploads:
    """What *files* mean for the workflow; UsageError where one can't be used, or its loader isn't clear.

    :param folder: where relative paths start.
    """
    graph = workflow.graph
    placed: list[tuple[Loader, LocalFile]] = []
    undecided: list[tuple[Given, LocalFile]] = []
    for given in files:
        file = look_at(given, folder)
        given = given._replace(node=inner_node(workflow, given.node))
        loader = find_loader(graph, given.kind, given.node)
        if loader is None:
            undecided.append((given, file))
            continue
        if Target(loader.node, loader.name) in workflow.settings:
            raise UsageError(
                f"--set and --{given.kind} both set {loader.node}.{loader.name}", hint="leave one of them out"
            )
        _add(placed, loader, file)
    taken, reaching = {loader for loader, _ in placed}, leading_to_outputs(graph)
    literals = []
    for loader in loaders(graph):
        value = inputs_of(graph[loader.node]).get(loader.name)
        if loader.node in reaching and loader not in taken and isinstance(value, str):
            found = literal_file(loader.kind, value, folder)
            if found is not None:
                literals.append((loader, found))
    return Uploads(tuple(placed), tuple(undecided), tuple(literals))


def inner_node(workflow: Workflow, node: str) -> str:
    """The node that *node* means: where the editor shows it around others, the one loader whose value it shows."""
    named = nodes_named(workflow.graph, node, workflow.editor_nodes) if node else []
    inside = {
        target_id
        for each in workflow.editor_nodes
        if [each.id] == named
        for targets in each.inputs.values()
        for target_id, _ in targets
    }
    found = [loader.node for loader in loaders(workflow.graph) if loader.node in inside]
    return found[0] if len(found) == 1 else node


def planned(workflow: Workflow, uploads: Uploads) -> Workflow:
    """The workflow as it is if the server gives each file the name that it has here. Nothing is sent.

    Files whose loader only a server can tell, and paths in the workflow, stay as they are.
    """
    return workflow.with_settings(
        {Target(loader.node, loader.name): Setting(_name(file)) for loader, file in uploads.placed}
    )


def upload(client: Client, workflow: Workflow, uploads: Uploads) -> Workflow:
    """The workflow with the names that the server gives the files, which are sent. Blocks.

    Raises UsageError where a file has no place, UnreachableError where the server doesn't take it.
    """
    graph = workflow.graph
    placed = list(uploads.placed)
    for given, file in uploads.open:
        declared = _ask(client, unknown_classes(graph, given.node))
        loader = find_loader(graph, given.kind, given.node, declared)
        if loader is None:
            raise no_loader(graph, given.kind, given.node)
        _add(placed, loader, file)
    taken = {loader for loader, _ in placed}
    placed += [each for each in uploads.literals if each[0] not in taken and not _is_there(client, graph, each[0])]
    sizes = Counter(file.size for _, file in placed)
    names: dict[object, str] = {}
    sent: dict[Target, Setting] = {}
    for loader, file in placed:
        # The same bytes are sent once: those that no other file has as many of aren't looked at.
        key: object = file.path if sizes[file.size] == 1 else _digest(file)
        if key not in names:
            names[key] = _send(client, file)
        sent[Target(loader.node, loader.name)] = Setting(names[key])
    return workflow.with_settings(sent)


def _add(placed: list[tuple[Loader, LocalFile]], loader: Loader, file: LocalFile) -> None:
    other = next((each for known, each in placed if known[:2] == loader[:2]), None)
    if other is not None:
        raise UsageError(
            f"node {loader.node} takes one file, and is given {other.shown} and {file.shown}",
            hint=f"name another node for one of them: --{loader.kind} NODE=FILE",
        )
    placed.append((loader, file))


def _ask(client: Client, classes: list[str]) -> Declared:
    """What the server says of *classes*: those that load files, with the kind and the input."""
    found = {}
    for class_type in classes[:_MAX_CLASSES]:
        loader = declared_loader(ask_class(client, class_type), class_type)
        if loader is not None:
            found[class_type] = loader
    return found


def _is_there(client: Client, graph: dict[str, dict[str, object]], loader: Loader) -> bool:
    """Whether the server has what the loader names; an absolute path is this machine's."""
    value = str(inputs_of(graph[loader.node])[loader.name])
    if os.path.isabs(value):
        return False
    subfolder, _, name = value.rpartition("/")
    try:
        with client.download(FilePlace(name, subfolder, "input")):
            return True
    except UnreachableError as error:
        if error.code != "download_failed" or error.retryable:
            raise
        return False


def _digest(file: LocalFile) -> bytes:
    digest = hashlib.sha256()
    try:
        with open(file.path, "rb") as opened:
            while piece := opened.read(1024 * 1024):
                digest.update(piece)
    except OSError as error:
        raise _unreadable(file, error) from None
    return digest.digest()


def _name(file: LocalFile) -> str:
    return safe_name(os.path.basename(file.path))


def _send(client: Client, file: LocalFile) -> str:
    """Upload a file; what a loader's input has to be for it."""
    name = _name(file)
    try:
        with open(file.path, "rb") as opened:
            body = upload_body(opened, os.fstat(opened.fileno()).st_size, name, _FIELDS)
            answer = client.post("/upload/image", body, timeout=client.timing.submit_timeout)
    except UnreachableError as error:
        error.message = f"{file.shown} was not uploaded: {error.message}"
        raise
    except FileChangedError:
        raise UsageError(f"{file.shown} became shorter while it was uploaded", hint="try again") from None
    except OSError as error:
        raise _unreadable(file, error) from None
    value = read_uploaded(answer.body) if answer.status == 200 else None
    if value is None:
        raise _refused(file, answer, client.address.base)
    return value


def _unreadable(file: LocalFile, error: OSError) -> UsageError:
    return UsageError(
        f"{file.shown} can't be read any more: {error.strerror or error}", hint="check the file, and try again"
    )


def _refused(file: LocalFile, answer: Response, server: str) -> UnreachableError:
    error = answer.as_error(server)
    message, hint, code = error.message, error.hint, error.code
    if answer.status == 413:
        hint = (
            "start ComfyUI with a larger --max-upload-size, raise the limit of the proxy before it "
            "(nginx: client_max_body_size), or make the file smaller"
        )
    elif answer.status == 400:
        code, message = "server_error", "the server refuses it (HTTP 400)"
        hint = "rename the file, or look into the server's log"
    elif answer.status in (404, 405):
        code, message = "server_error", f"the server takes no uploads (HTTP {answer.status})"
        hint = "check the address and its path prefix, or whether the proxy before the server lets uploads pass"
    return UnreachableError(
        f"{file.shown} was not uploaded: {message}", hint=hint, code=code, retryable=error.retryable
    )
