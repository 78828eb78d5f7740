"""Test nodes for a ComfyUI: each does one thing that a follower of its progress must cope with.

Every node passes its image on, so that they can be put between any image and a SaveImage.
Results are cached like those of any node: change an input to make one run again.
"""

import os
import threading
import time

from .failing import NODES as FAILING
from .progress import NODES as PROGRESS
from .structure import NODES as STRUCTURE

NODE_CLASS_MAPPINGS = {node.__name__: node for node in (*PROGRESS, *FAILING, *STRUCTURE)}
NODE_DISPLAY_NAME_MAPPINGS = {name: "Report " + name.removeprefix("Report") for name in NODE_CLASS_MAPPINGS}

PARENT_VARIABLE = "COMFYREPORT_TEST_PARENT"


def _leave_with_parent(parent):
    """End this server when the process that started it is gone."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)


if os.environ.get(PARENT_VARIABLE):
    threading.Thread(target=_leave_with_parent, args=(int(os.environ[PARENT_VARIABLE]),), daemon=True).start()
