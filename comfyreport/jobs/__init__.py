"""What a command or a program asks for, from its asking to its end.

In go a `Job` (a workflow to submit, or the id of a prompt) and the reporters; out come one stream of events, from
`stream_started` to `stream_finished` (`session`), and each run's `RunFinished`, on every path (`job.run_job`). `engine`
follows the prompt; `tracker.ProgressTracker` does so in the background, for programs that iterate over events; `replay`
plays a recording instead. No KeyboardInterrupt cuts a `call.Call` short, with which a program does it, nor `many.Many`,
with which it iterates over many. `api` and `cli` use it.
"""
