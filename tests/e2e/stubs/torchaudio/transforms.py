"""The name that ComfyUI imports from here while it starts."""


class MelScale:
    """Not there: no model of these tests needs it."""

    def __init__(self, *args, **kwargs):
        raise NotImplementedError("a stub of torchaudio has no MelScale")
