"""The last steps of a workflow before it is submitted: those that need the server."""

from __future__ import annotations

from comfyreport.inputs.checking import check_settings
from comfyreport.inputs.uploads import Uploads, upload
from comfyreport.net.client import Client
from comfyreport.workflow.files import Workflow


def finish(client: Client, workflow: Workflow, uploads: Uploads) -> Workflow:
    """The workflow as it is submitted. Blocks; UsageError where it can't be, UnreachableError where nothing answers."""
    return upload(client, check_settings(client, workflow), uploads)
