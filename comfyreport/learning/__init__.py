"""Learned durations: what drives a node's time, what was seen of it, and what is expected of the next run."""
