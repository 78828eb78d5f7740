"""What the commands that run nothing tell: reporters, what a workflow is made of, what runs took. As text or JSON.

In goes what was found, out comes a text for stdout; `cli` prints it.
"""
