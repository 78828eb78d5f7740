"""The editor's format turned into the API format, as ComfyUI's own front end does it when it queues a prompt. Pure.

In goes the content of a workflow file that the editor saved and a server's `/object_info`; out comes the prompt, with
what the editor shows and a prompt lacks (`EditorNode`), or a `WorkflowError` that names the node that stood in the way.
There is no partial result: a graph that can't be converted as the front end would have is refused. `workflow` and what
is above it use it.

The rules are those of ComfyUI_frontend 1.27 and later: src/utils/executionUtil.ts (graphToPrompt),
src/lib/litegraph/src/subgraph/ExecutableNodeDTO.ts (links), src/services/litegraphService.ts (what a class looks like).
"""

from comfyreport.workflow.convert.conversion import Converted, EditorNode, convert

__all__ = ["Converted", "EditorNode", "convert"]
