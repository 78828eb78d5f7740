"""The console of Windows, by the system's own calls. Imported only there, and only where something is a terminal."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
import time
from collections.abc import Callable
from ctypes import wintypes

ESCAPES = 0x0004
"""The bit of a mode with which a console obeys escape sequences: ENABLE_VIRTUAL_TERMINAL_PROCESSING."""

_CLOSING = (2, 5, 6)
"""CTRL_CLOSE_EVENT, CTRL_LOGOFF_EVENT, CTRL_SHUTDOWN_EVENT."""

_GRANTED_SECONDS = 10.0
"""More than the system waits for a process that is told of one of them."""


def get_mode(descriptor: int) -> int | None:
    """The mode of the console that *descriptor* leads to; None where it leads to none."""
    if sys.platform != "win32":
        return None
    import msvcrt

    mode = wintypes.DWORD()
    with contextlib.suppress(OSError):
        handle = wintypes.HANDLE(msvcrt.get_osfhandle(descriptor))
        if ctypes.windll.kernel32.GetConsoleMode(handle, ctypes.byref(mode)):
            return mode.value
    return None


def set_mode(descriptor: int, mode: int) -> bool:
    """Set the mode of the console that *descriptor* leads to; False where it refuses."""
    if sys.platform != "win32":
        return False
    import msvcrt

    with contextlib.suppress(OSError):
        handle = wintypes.HANDLE(msvcrt.get_osfhandle(descriptor))
        return bool(ctypes.windll.kernel32.SetConsoleMode(handle, wintypes.DWORD(mode)))
    return False


def switch_on_escapes(descriptor: int, changes: contextlib.ExitStack) -> bool:
    """Whether the console obeys escape sequences, now that it was told to; closing *changes* puts its mode back."""
    mode = get_mode(descriptor)
    if mode is None or mode & ESCAPES:
        return mode is not None
    if not set_mode(descriptor, mode | ESCAPES):
        return False
    # Another descriptor of it: the one that was given may be closed by then.
    own = os.dup(descriptor)
    changes.callback(os.close, own)
    changes.callback(set_mode, own, mode)
    return True


def on_close(tell: Callable[[], object]) -> Callable[[], object]:
    """Call *tell* once the console's window is closed or its user logs off; what is returned undoes that.

    The process then has the five seconds that the system grants: without this, it would end at once.
    """
    if sys.platform != "win32":
        return lambda: None

    def handle(event: int) -> bool:
        if event in _CLOSING:
            tell()
            # The system ends the process when this returns.
            time.sleep(_GRANTED_SECONDS)
        return False

    handler = ctypes.WINFUNCTYPE(wintypes.BOOL, wintypes.DWORD)(handle)
    ctypes.windll.kernel32.SetConsoleCtrlHandler(handler, True)
    return lambda: ctypes.windll.kernel32.SetConsoleCtrlHandler(handler, False)
