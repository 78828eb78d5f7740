"""What is kept of many runs: the state file, with which a command goes on later, the manifest, and what failed.

In go the attempts as they begin and the ends of runs; out comes what is left to do. `Books` is what whoever makes runs
sees of it; `batch`, `fleet` and `listings` use it. It knows no server and no session.
"""
