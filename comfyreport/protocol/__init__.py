"""ComfyUI's wire as typed data. Pure.

In go text and binary frames of the WebSocket and bodies of HTTP answers, as a server sends them; out come messages
(`messages`, made by `decode`) and facts (`responses`), and the outputs that a node's `ui` tells of (`ui_outputs`).
Nothing here raises for what a server sent, and nothing knows a socket or a clock. `run`, `net` and all above use it.
"""
