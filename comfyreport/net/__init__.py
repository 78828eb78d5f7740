"""One server over HTTP and WebSocket, and nothing else of the network anywhere.

`client.Client` is HTTP with one server, `websocket` its socket; `address` and `access` are where it is and how to get
in, `recorder.Recorder` the tap that all that crosses the wire passes. Errors of the network come out as
`UnreachableError`, in words for a person (`failures`), and no secret comes out at all (`redaction`). `engine` calls it;
its modules are imported one by one, for an address needs no network library.
"""
