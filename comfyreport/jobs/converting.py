"""What the editor saved becomes a prompt before there is a run: by what the job's server declares of its classes."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from typing import TYPE_CHECKING, Any, TypeVar

from comfyreport.access.address import parse_address
from comfyreport.access.credentials import Access
from comfyreport.errors import UnreachableError, WorkflowError
from comfyreport.inputs.info_cache import InfoCache
from comfyreport.inputs.object_info import ObjectInfo
from comfyreport.learning.store import cache_folder
from comfyreport.net.client import Client
from comfyreport.timing import Timing
from comfyreport.workflow.files import Converter

# Loaded where there is something to convert.
if TYPE_CHECKING:
    from comfyreport.workflow.convert import Converted

_Result = TypeVar("_Result")


def info_of(client: Client, folder: str, *, anew: bool = False) -> ObjectInfo:
    """What *client*'s server declares; where that is kept is seen from *folder*."""
    kept_in = cache_folder(os.environ, folder)
    return ObjectInfo(client, None if kept_in is None else InfoCache(kept_in), anew=anew)


def converter(server: str, access: Access, timing: Timing, folder: str, *, wait: float = 0.0) -> Converter:
    """What converts for *server*, which is asked only where there is something to convert.

    :param wait: seconds for the server to come up.
    """

    def convert_ui(ui: Mapping[str, Any]) -> Converted:
        with closing(Client(parse_address(server), timing=timing, access=access)) as client:
            info = info_of(client, folder)
            try:
                _waiting(info.classes, timing, wait)
                return info.convert(ui)
            except UnreachableError as error:
                raise unasked(error) from error

    return convert_ui


def no_conversion(ui: Mapping[str, Any]) -> Converted:
    """For a workflow that was read, and converted, before."""
    raise AssertionError("a workflow was to be converted when it was read")


def unasked(error: UnreachableError) -> UnreachableError:
    """*error* where it keeps a workflow from being converted."""
    return UnreachableError(
        f"{error.message}; the workflow is in the editor's format, and only its server can say how to convert it",
        hint=error.hint,
        code=error.code,
        retryable=error.retryable,
        sent=False,
    )


def convert_for_simulator(ui: Mapping[str, Any]) -> Converted:
    """What the simulator would be sent; of most classes it knows no inputs."""
    from comfyreport.sim_nodes.node_classes import object_info
    from comfyreport.workflow.convert import convert

    try:
        return convert(ui, object_info(None))
    except WorkflowError as error:
        raise WorkflowError(
            f"{error.message} (the simulator knows the inputs of a few classes alone)",
            hint="convert it for a real server, and give the simulator what comes out: comfyreport convert FILE -o "
            "PROMPT.json --server URL (or --object-info FILE)",
        ) from error


def _waiting(ask: Callable[[], _Result], timing: Timing, wait: float) -> _Result:
    """What *ask* returns; it is asked again for *wait* seconds while the server may be coming up."""
    end, pause = time.monotonic() + wait, timing.reconnect_first
    while True:
        try:
            return ask()
        except UnreachableError as error:
            # A proxy may answer 404 or show a page for a server that is still starting.
            left = end - time.monotonic()
            if left <= 0 or not (error.retryable or error.code == "not_comfyui"):
                raise
        time.sleep(min(pause, left))
        pause = min(2 * pause, timing.reconnect_max)
