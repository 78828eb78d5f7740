"""Follows one prompt to its verdict: the only wing that decides, waits and acts.

In go a `Run`, the client of its server and the workflow; out come events, and the run's verdict. `loop` is the core: it
takes from one inbox what the socket and HTTP say (`sources`), feeds the `Run`, and submits, polls, cancels and saves.
Nothing in it blocks but the inbox, always with a time limit. `jobs` uses it.
"""
