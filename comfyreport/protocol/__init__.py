"""ComfyUI's wire as typed data. Pure.

In go text and binary frames of the WebSocket and bodies of HTTP responses, as a server sends them; out come messages
(`messages`, made by `decode`, of which `merging` leaves out what later ones say again), responses (`responses`), and
the outputs that a node's `ui` lists (`ui_outputs`).
Only `decode.loads` raises for what a server sent, and nothing here uses a socket or a clock. `run`, `net` and all
above use it.
"""
