"""Many runs on the servers there are: which run goes where and when, what became of each, and how to go on later.

In go a plan and the servers; out come the events of all runs as one stream, in a `Session`, and what became of each, to
`Books`. `scheduler` decides, and is pure; `batch` does. `api` and `cli` use it.
"""
