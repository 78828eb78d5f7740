"""Recordings of real traffic: written, read, made into events, and the ones that ship with the package.

In goes what crosses the wire, which `recorder` writes to a file; or such a file, or the name of a shipped one
(`shipped`); out come the events of the run that was recorded (`player`). `jobs` records and replays; `testing` and
`cli` use it too.
"""
