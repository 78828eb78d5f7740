"""What runs a command makes: flags, grids and files of prompts, as a plan that lists them and has checked them all.

In go what the command line or a program asks for; out comes a `Plan`, a sequence of `PlannedRun`, none of which is
submitted before all of them are known to be possible. `api` and `cli` use it, `batch` and `fleet` carry it out.
"""
