"""What a server says of one node class."""

from __future__ import annotations

from urllib.parse import quote

from comfyreport.net.client import Client
from comfyreport.protocol.messages import Json


def ask_class(client: Client, class_type: str) -> Json:
    """The body of `/object_info/CLASS`, which is empty where the server lacks the class. Raises UnreachableError."""
    return client.get(f"/object_info/{quote(class_type, safe='')}").body
