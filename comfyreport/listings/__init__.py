"""What the commands that run nothing tell: the installed reporters, what a workflow is made of. As text or JSON.

In goes what was found, out comes a text for stdout; `cli` prints it.
"""
