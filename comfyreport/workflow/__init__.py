"""Workflow files: read, checked, and changed where the user asks for it. Pure but for the reading.

In goes a file, or a graph of Python's own; out comes a `Workflow` that can be submitted (`files`), with the places
where a prompt belongs (`prompts`). Whatever can't be used raises `WorkflowError`. `engine`, `recording` and `cli` use
it.
"""
