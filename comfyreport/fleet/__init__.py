"""Many runs through an executor: a pool of processes, or the workers of a Dask cluster, each beside its own server.

`packing` makes a job into an `Assignment`, with all that it needs of this machine; an `engine` hands it to a `worker`,
which makes the run beside its server, tells of it over a `channel`, and gives back an `Outcome`. `fleet.Fleet` makes
that the one stream of the command, in the `ordering` of its time. A prompt is noted before it is submitted, and looked
for before it is submitted again. `command` and `listed` make plans and lists of jobs into a fleet, for `cli` and `api`.
"""
