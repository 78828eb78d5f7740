"""One server over HTTP and WebSocket, and nothing else of the network anywhere.

`client.Client` is HTTP with one server, `websocket.Socket` its socket; `connection` makes what both of them run over.
All that crosses the wire passes a tap. Errors of the network come out as `UnreachableError`, in words for a person
(`failures`), and no secret comes out at all. `engine` calls it.
"""
