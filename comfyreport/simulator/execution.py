"""The execution of one prompt, message by message. Their order is the recorded one."""

from __future__ import annotations

import asyncio
from typing import Any

from comfyreport.sim_nodes.graph import ExecutionList, inputs_of, is_link, signatures, sources
from comfyreport.sim_nodes.node_classes import is_output

from .nodes import NodeError, NodeResult, node_function
from .running_prompt import NodeContext, PromptInterrupted, RunningPrompt

OOM_TIPS = (
    "This error means you ran out of memory on your GPU.\n\n"
    "TIPS: If the workflow worked before you might have accidentally set the batch_size to a large number."
)


class Execution:
    """`cache` has the results of the prompt before, by signature."""

    def __init__(self, running: RunningPrompt, cache: dict[str, NodeResult]) -> None:
        self._running = running
        self._prompt = running.prompt
        self._cache = cache
        self._signatures = signatures(running.item.prompt)
        for signature in set(cache) - set(self._signatures.values()):
            # What the new prompt doesn't have leaves the cache at its start (recordings f and n).
            del cache[signature]
        self._results: dict[str, NodeResult] = {}
        self._executed: list[str] = []
        self._expanded: dict[str, str] = {}
        """The nodes that have become inner ones, each with the inner node whose result is its own."""
        self._tasks: dict[str, asyncio.Task[NodeResult | None]] = {}
        """The asynchronous nodes at work."""
        self._execution_list = ExecutionList(
            running.prompt, lambda node_id: node_id in self._results or self._cached(node_id) is not None
        )

    def _cached(self, node_id: str) -> NodeResult | None:
        return self._cache.get(self._signatures.get(node_id, ""))

    async def execute(self) -> str:
        """Runs the prompt and returns history's `status_str`."""
        running = self._running
        running.add_message("execution_start", {})
        cached = [node_id for node_id in running.item.prompt if self._cached(node_id) is not None]
        running.add_message("execution_cached", {"nodes": cached})
        for output in running.item.outputs_to_execute:
            self._execution_list.add(output)
        current = ""
        try:
            while self._execution_list:
                for node_id, task in self._tasks.items():
                    if task.done():
                        self._execution_list.resume(node_id)
                next_node = self._execution_list.next_node()
                if next_node is None:
                    await asyncio.wait(self._tasks.values(), return_when=asyncio.FIRST_COMPLETED)
                    continue
                current = next_node
                await self._execute_node(current)
        except PromptInterrupted:
            running.add_message("execution_interrupted", self._node_details(current), broadcast=True)
            return "error"
        except (NodeError, ArithmeticError, LookupError, TypeError, ValueError, AttributeError) as error:
            running.add_message("execution_error", self._error_details(current, error))
            return "error"
        finally:
            running.last_node_id = None
            await self._cancel_tasks()
        running.add_message("execution_success", {})
        return "success"

    async def _cancel_tasks(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _execute_node(self, node_id: str) -> None:
        """Starts a node, or goes on with one whose task or inner nodes are done."""
        if node_id in self._tasks:
            self._add_result(node_id, self._tasks.pop(node_id).result())
            return
        if node_id in self._expanded:
            self._finish(node_id, NodeResult(blocked=self._results[self._expanded[node_id]].blocked))
            return
        cached = self._cached(node_id)
        if cached is not None:
            self._send_executed(node_id, cached)
            self._finish(node_id, cached)
            return
        self._start(node_id)
        await self._running.reach(node_id, 0)
        if self._is_blocked(node_id):
            self._finish(node_id, NodeResult(blocked=""))
            return
        context = NodeContext(self._running, node_id)
        run = node_function(context.class_type, self._prompt.nodes[node_id])
        if context.is_async:
            # Its first messages come before the next node's: the task gets its first turn here.
            self._tasks[node_id] = asyncio.ensure_future(run(context))
            self._execution_list.suspend(node_id)
            await asyncio.sleep(0)
            return
        self._running.no_sync_node.clear()
        result = await run(context)
        self._running.no_sync_node.set()
        self._add_result(node_id, result)

    def _add_result(self, node_id: str, result: NodeResult | None) -> None:
        result = result or NodeResult()
        if result.expand:
            self._expand(node_id, result)
            return
        if result.ui is not None:
            self._send_executed(node_id, result)
        self._finish(node_id, result)

    def _start(self, node_id: str) -> None:
        running = self._running
        running.state(node_id).update(value=0.0, max=1.0, state="running")
        running.send_progress_state()
        running.last_node_id = self._prompt.ids(node_id).display
        data = {"node": node_id, "display_node": running.last_node_id, "prompt_id": running.item.prompt_id}
        running.send_to_client("executing", data)
        running.check_interrupted()

    def _finish(self, node_id: str, result: NodeResult) -> None:
        state = self._running.state(node_id)
        state.update(value=state["max"], state="finished")
        self._running.send_progress_state()
        self._results[node_id] = result
        if self._cached(node_id) is None:
            self._executed.append(node_id)
            if node_id in self._signatures:
                self._cache[self._signatures[node_id]] = result
        self._execution_list.complete(node_id)

    def _send_executed(self, node_id: str, result: NodeResult) -> None:
        if result.ui is not None:
            self._running.add_output(node_id, result.ui)
        data = {"node": node_id, "display_node": self._prompt.ids(node_id).display, "output": result.ui}
        self._running.send_to_client("executed", {**data, "prompt_id": self._running.item.prompt_id})

    def _is_blocked(self, node_id: str) -> bool:
        """Whether a node is behind a blocker, and doesn't run. A verbose blocker is reported once, as an
        execution_error that ends nothing and that history doesn't keep (recording d5)."""
        results = [self._results.get(source) or self._cached(source) for source in sources(self._prompt.nodes[node_id])]
        reasons = [result.blocked for result in results if result is not None and result.blocked is not None]
        if reasons and reasons[0]:
            data = {
                "prompt_id": self._running.item.prompt_id,
                **self._node_details(node_id),
                "exception_message": f"Execution Blocked: {reasons[0]}",
                "exception_type": "ExecutionBlocked",
                "traceback": [],
                "current_inputs": [],
                "current_outputs": [],
            }
            self._running.send_to_client("execution_error", data)
        return bool(reasons)

    def _expand(self, node_id: str, result: NodeResult) -> None:
        """Puts inner nodes in the place of this one, which stays `running` until they are done (recording k6)."""
        graph = result.expand or {}
        inner_ids = self._prompt.expand(node_id, graph, result.display or {})
        self._expanded[node_id] = inner_ids[result.result]
        outputs = [inner_ids[inner] for inner, node in graph.items() if is_output(node["class_type"])]
        self._execution_list.require(node_id, [inner_ids[result.result], *outputs])

    def _node_details(self, node_id: str) -> dict[str, Any]:
        """Errors of inner nodes are blamed on the outer one, but `executed` has their own ids."""
        real = self._prompt.ids(node_id).real
        return {"node_id": real, "node_type": self._prompt.class_type(real), "executed": list(self._executed)}

    def _error_details(self, node_id: str, error: Exception) -> dict[str, Any]:
        exception_type = error.exception_type if isinstance(error, NodeError) else type(error).__name__
        location = f'File "simulator/{self._prompt.class_type(node_id)}.py", line 1, in run'
        return {
            **self._node_details(node_id),
            "exception_message": f"{error}\n{OOM_TIPS if exception_type == 'torch.OutOfMemoryError' else ''}",
            "exception_type": exception_type,
            "traceback": [f'  {location}\n    raise {exception_type}("{error}")\n'],
            "current_inputs": {
                name: ["tensor([[[0.5000, 0.5000, 0.5000]]])" if is_link(value) else str(value)]
                for name, value in inputs_of(self._prompt.nodes[node_id]).items()
            },
            "current_outputs": list(self._prompt.nodes),
        }
