"""The state of one run. Pure: messages and responses go in with their time, events come out.

`Run` is the only model of a run: its nodes, how far they are, its outputs, its verdict, its estimates. It does no I/O
and has no clock, so that a recording makes the same events as the run that was recorded. `engine` feeds it from a
server, `recording` from a file.
"""

from comfyreport.run.run import Run as Run, RunInput as RunInput
