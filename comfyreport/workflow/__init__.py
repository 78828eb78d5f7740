"""Workflow files: read, checked, and changed where the user asks for it. Pure, except that it reads files.

In goes a file, or a graph as a Python object; out comes a `Workflow` that can be submitted (`files`), with the places
where a prompt belongs (`prompts`). Whatever can't be used raises `WorkflowError`. `engine`, `recording` and `cli` use
it.
"""
