"""The floor of saving: a script that submits a workflow, waits for its end, and fetches its pictures, four at a time.

`python bare_pictures.py URL WORKFLOW FOLDER`, with the same libraries as `bare.py`.
"""

import sys
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import orjson
import requests
import websocket

CONNECTIONS = 4
_mine = threading.local()


def fetch(url: str, folder: Path, name: str) -> None:
    """Fetch one picture."""
    if not hasattr(_mine, "session"):
        _mine.session = requests.Session()
    answer = _mine.session.get(f"{url}/view", params={"filename": name, "subfolder": "", "type": "output"})
    (folder / name).write_bytes(answer.content)


def main() -> None:
    """Submit, wait for the end, ask history, fetch."""
    url, workflow, out = sys.argv[1:]
    client, prompt_id = uuid.uuid4().hex, str(uuid.uuid4())
    socket = websocket.create_connection(
        f"ws{url[4:]}/ws?clientId={client}", skip_utf8_validation=True, suppress_origin=True
    )
    session = requests.Session()
    body = {"prompt": orjson.loads(Path(workflow).read_bytes()), "client_id": client, "prompt_id": prompt_id}
    session.post(f"{url}/prompt", data=orjson.dumps(body), headers={"Content-Type": "application/json"}).json()
    while True:
        _, data = socket.recv_data()
        message = orjson.loads(data)
        if message["type"] == "executing" and message["data"]["node"] is None:
            break
    made = session.get(f"{url}/history/{prompt_id}").json()[prompt_id]["outputs"]
    names = [picture["filename"] for output in made.values() for picture in output["images"]]
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        list(pool.map(lambda name: fetch(url, Path(out), name), names))
    socket.close()


if __name__ == "__main__":
    main()
