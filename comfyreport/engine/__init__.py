"""Follows one prompt to its verdict: the only wing that decides, waits and acts.

In go a `Job` (`job`) and the reporters; out come events, to `reporting`, and the run's end. `loop` is the core: it
takes from one inbox what the socket and HTTP say (`sources`), feeds the `Run`, and asks, cancels and saves. `session`
is the stream of a command around it, `tracker` the same for programs that iterate. `api`, `cli` and `recording` use it.
"""
