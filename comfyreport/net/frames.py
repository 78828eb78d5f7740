"""websocket-client's frames, for a client that trusts no server: a length is looked at before its payload is read.

A text that is too large to be of use is read past without being held. What is against the protocol, or larger than any
message may be, raises an error, after which the connection is of no more use.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from websocket import ABNF, continuous_frame, frame_buffer

TEXT_LIMIT = 32 * 1024 * 1024
"""Bytes: a longer text message is counted, not kept."""
MESSAGE_LIMIT = 256 * 1024 * 1024
"""Bytes: the largest message that is taken."""
BLOCK = 64 * 1024
"""Bytes that are asked for at once."""

_LONGEST_CONTROL = 125

Message = tuple[bool, bytes]
"""Whether it is text, and its bytes."""


class Skipped(NamedTuple):
    """A text message of *size* bytes that was too large to be kept."""

    size: int


class FrameError(ConnectionError):
    """Why the connection is of no more use, in words for a person."""


class Frames(frame_buffer):
    """Takes frames out of what *receive* gives: up to so many bytes, none at the end of the connection.

    *receive* may raise where there is nothing yet; the next call goes on where that one ended. `size` is how many
    bytes the message has to which the last frame belongs, with those that are skipped.
    """

    def __init__(self, receive: Callable[[int], bytes]) -> None:
        super().__init__(receive, skip_utf8_validation=True)
        self.size = 0
        self._block = b""
        # How much of the block is used up, and what is there of bytes that reach into the next one.
        self._at = 0
        self._begun = bytearray()
        self._text = False
        self._unwanted = 0

    def recv_length(self) -> None:
        """Read a frame's length, and decide whether its payload is wanted."""
        super().recv_length()
        length, (last, rsv1, rsv2, rsv3, opcode, masked, _) = self.length or 0, self.header or (0,) * 7
        if masked or rsv1 or rsv2 or rsv3:
            raise FrameError("a frame that is masked or bears unknown flags")
        if opcode > ABNF.OPCODE_BINARY:
            if opcode not in ABNF.OPCODES or not last or length > _LONGEST_CONTROL:
                raise FrameError(f"a frame of an unknown or wrong kind ({opcode})")
            return
        if opcode != ABNF.OPCODE_CONT:
            self.size, self._text = 0, opcode == ABNF.OPCODE_TEXT
        self.size += length
        if self.size > MESSAGE_LIMIT:
            raise FrameError(f"a message of at least {self.size} bytes came, which is over {MESSAGE_LIMIT}")
        if self._text and self.size > TEXT_LIMIT:
            self._unwanted = length

    def recv_strict(self, bufsize: int) -> bytes:
        """Exactly so many bytes; none of those that aren't wanted."""
        while self._unwanted:
            bufsize = 0
            if self._at == len(self._block):
                self._receive()
            passed = min(self._unwanted, len(self._block) - self._at)
            self._at += passed
            self._unwanted -= passed
        begin, end = self._at, self._at + bufsize
        if end > len(self._block) or self._begun:
            return self._collect(bufsize)
        self._at = end
        return self._block[begin:end]

    def _collect(self, size: int) -> bytes:
        """So many bytes out of several blocks."""
        begun = self._begun
        while True:
            missing = size - len(begun)
            begun += self._block[self._at : self._at + missing]
            self._at = min(self._at + missing, len(self._block))
            if len(begun) == size:
                self._begun = bytearray()
                return bytes(begun)
            self._receive()

    def _receive(self) -> None:
        """The next block, once the last one is used up."""
        block = self.recv(BLOCK)
        if not block:
            raise FrameError("it ended without a close frame")
        self._block, self._at = block, 0


class Parts(continuous_frame):
    """The frames of one message; many small ones cost no more than few large ones."""

    def add(self, frame: ABNF) -> None:
        """Add *frame* to the message."""
        if frame.fin and self.cont_data is None:
            # Most messages are one frame.
            self.cont_data, self.recving_frames = [frame.opcode, frame.data], None
            return
        if not frame.fin and frame.opcode != ABNF.OPCODE_CONT:
            # Bytes would be copied with each frame that is added.
            frame.data = bytearray(frame.data)  # type: ignore[assignment, arg-type]
        super().add(frame)
