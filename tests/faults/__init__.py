"""Faults of the server at every moment of a run, played by the simulator: the verdict must be right, and in time."""
