"""How good the estimates of a whole run are: `python -m tests.benchmarks.estimates` prints it.

Recordings of runs (`tests/recordings/timings`) and invented ones (`invented`) are played in the order in which one user
made them, each with what was learned from those before it (`memory`). What each event told (`playing`) is measured
against what came true (`figures`), side by side with what others would have told at the same moment (`baselines`).
"""
