"""The floor: a script that submits a workflow and follows it, with the same libraries and nothing else.

`python bare.py URL WORKFLOW OUT` writes a line for each progress message, as a client must do something with them.
"""

import sys
import uuid

import orjson
import requests
import websocket


def main() -> None:
    """Submit, receive and parse to the end, ask history."""
    url, workflow, out = sys.argv[1:]
    client, prompt_id = uuid.uuid4().hex, str(uuid.uuid4())
    socket = websocket.create_connection(
        f"ws{url[4:]}/ws?clientId={client}", skip_utf8_validation=True, suppress_origin=True
    )
    session = requests.Session()
    with open(workflow, "rb") as file:
        body = {"prompt": orjson.loads(file.read()), "client_id": client, "prompt_id": prompt_id}
    session.post(f"{url}/prompt", data=orjson.dumps(body), headers={"Content-Type": "application/json"}).json()
    with open(out, "wb") as lines:
        while True:
            _, data = socket.recv_data()
            message = orjson.loads(data)
            kind, content = message["type"], message["data"]
            if kind == "progress":
                lines.write(
                    orjson.dumps({"step": content["value"], "max_steps": content["max"], "node": content["node"]})
                )
                lines.write(b"\n")
                lines.flush()
            elif kind == "executing" and content["node"] is None:
                break
    session.get(f"{url}/history/{prompt_id}").json()
    socket.close()


if __name__ == "__main__":
    main()
