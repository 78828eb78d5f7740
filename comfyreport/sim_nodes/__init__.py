"""What the simulated ComfyUI knows of nodes: classes and inputs, links, caching, and the files that nodes leave.

A workflow in API format goes in, whether it is accepted comes out, and the order in which its nodes run. It imports
nothing of the rest of the package; the simulator alone uses it. How the real server behaves was observed.
"""
