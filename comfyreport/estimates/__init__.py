"""Estimates: the bars of nodes, what is expected of nodes, and how long the whole run still takes. Pure."""
