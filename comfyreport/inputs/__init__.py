"""What goes into a workflow once its server is there: files are uploaded, what was set is checked and typed.

In goes a `Workflow` and a client, out comes the workflow that is submitted, or a usage error that names what doesn't
fit. `engine` calls it just before it submits, on the thread of that call; `jobs` for a dry run.
"""
