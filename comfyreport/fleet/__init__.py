"""Many runs through an executor: a pool of processes, or the workers of a Dask cluster, each beside its own server.

In go a plan and a `concurrent.futures.Executor`; workers run jobs and send back their events and ends, which become one
stream in the `Session` of the command that was called. `api` and `cli` use it.
"""
