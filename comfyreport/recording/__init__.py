"""Recordings of real traffic: read, played again as events, and the ones that ship with the package.

In goes a file that `--record` wrote, or the name of a shipped one (`shipped`); out come the events of the run that was
recorded (`player`), at its own pace or another (`replay`). Writing one is the task of `net.recorder`. `testing` and
`cli` use it.
"""
