"""For authors of reporters: play a recorded run through a reporter, without a server, a GPU, or waiting.

    from comfyreport.testing import conforms, play

    assert play(bell, "txt2img", times=2) == "ring ring\\n"
    conforms(bell)

In go a reporter, or its factory, and a recording; out comes what it wrote. Time comes from the recording, so the same
one always gives the same text. A hook that raises raises here. Nothing is loaded until a name is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from comfyreport._lazy import lazy

if TYPE_CHECKING:
    from comfyreport.recording.shipped import load_recording, recordings, stream_of
    from comfyreport.testing.conformance import ConformanceError, conforms
    from comfyreport.testing.harness import FakeStream, play

__getattr__, __dir__ = lazy(
    __name__,
    {
        "comfyreport.recording.shipped": ("load_recording", "recordings", "stream_of"),
        "comfyreport.testing.conformance": ("ConformanceError", "conforms"),
        "comfyreport.testing.harness": ("FakeStream", "play"),
    },
)

__all__ = ["ConformanceError", "FakeStream", "conforms", "load_recording", "play", "recordings", "stream_of"]
