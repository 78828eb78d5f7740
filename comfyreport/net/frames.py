"""WebSocket messages from a stream of bytes (RFC 6455, section 5), for a client that trusts no server.

What is too large to be of use is read past without being held; what is against the protocol, or larger than any
message may be, raises FrameError, after which the connection is of no more use.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple

TEXT_LIMIT = 32 * 1024 * 1024
"""Bytes: a longer text message is counted, not kept."""
MESSAGE_LIMIT = 256 * 1024 * 1024
"""Bytes: the largest message that is taken."""
BLOCK = 64 * 1024
BATCH = 250
"""Messages that are given together, at most."""

_CONTINUATION, _TEXT, _BINARY, _CLOSE, _PING, _PONG = 0, 1, 2, 8, 9, 10
_LONGEST_CONTROL = 125

# The first byte of a frame that is a whole message, the length that says that two bytes more hold it, and how long
# a head that ends with them is.
_LAST_TEXT, _LAST_BINARY = 0x80 | _TEXT, 0x80 | _BINARY
_TWO_MORE = 126
_SHORT_HEAD = 4


Message = tuple[bool, bytes]
"""Whether it is text, and its bytes."""


class Skipped(NamedTuple):
    """A text message of *size* bytes that was too large to be kept."""

    size: int


class FrameError(ConnectionError):
    """Why the connection is of no more use, in words for a person."""


class Frames:
    """Takes messages out of what *receive* gives: up to so many bytes, none at the end of the connection.

    :param answer: is given each ping's payload, to be sent back.
    """

    def __init__(self, receive: Callable[[int], bytes], answer: Callable[[bytes], object]) -> None:
        self._receive = receive
        self._answer = answer
        self._buffer = bytearray()

    def __iter__(self) -> Iterator[list[Message] | Skipped]:
        """The messages, those together that came together; ends with the server's close frame."""
        while True:
            if whole := self._whole():
                yield whole
                del whole
            message = self._next()
            if message is None:
                return
            yield message if isinstance(message, Skipped) else [message]
            del message

    def _whole(self) -> list[Message]:
        """The messages at the beginning of the buffer that lie in it whole, each in one frame, as nearly all do."""
        found: list[Message] = []
        data, position = bytes(self._buffer), 0
        end = len(data) - _SHORT_HEAD
        while position <= end and len(found) < BATCH:
            first, length, start = data[position], data[position + 1], position + 2
            if length == _TWO_MORE:
                length, start = data[start] << 8 | data[start + 1], start + 2
            elif length > _TWO_MORE:
                break
            if (first != _LAST_TEXT and first != _LAST_BINARY) or start + length > len(data):
                break
            position = start + length
            found.append((first == _LAST_TEXT, data[start:position]))
        del self._buffer[:position]
        return found

    def _next(self) -> Message | Skipped | None:
        """The next message, however it comes; None where the server closes the connection."""
        kind, size = _CONTINUATION, 0
        message = bytearray()
        while True:
            last, opcode, length = self._header()
            if opcode > _BINARY:
                if self._control(opcode, last, length):
                    return None
                continue
            if (opcode == _CONTINUATION) != (kind != _CONTINUATION):
                raise FrameError("a message begins inside another, or goes on without a beginning")
            kind = kind or opcode
            size += length
            if size > MESSAGE_LIMIT:
                raise FrameError(f"a message of at least {size} bytes came, which is over {MESSAGE_LIMIT}")
            if kind == _TEXT and size > TEXT_LIMIT:
                message.clear()
                self._skip(length)
            else:
                self._take(length, message)
            if last:
                return Skipped(size) if len(message) < size else (kind == _TEXT, bytes(message))

    def _header(self) -> tuple[bool, int, int]:
        """Whether a frame is a message's last, its opcode, its length."""
        first, second = self._exactly(2)
        if first & 0x70 or second & 0x80:
            raise FrameError("a frame that is masked or bears unknown flags")
        length = second & 0x7F
        if length == 126:
            (length,) = struct.unpack(">H", self._exactly(2))
        elif length == 127:
            (length,) = struct.unpack(">Q", self._exactly(8))
        return bool(first & 0x80), first & 0x0F, length

    def _control(self, opcode: int, last: bool, length: int) -> bool:
        """Do what a control frame asks for; True where it closes the connection."""
        if opcode not in (_CLOSE, _PING, _PONG) or not last or length > _LONGEST_CONTROL:
            raise FrameError(f"a frame of an unknown or wrong kind ({opcode})")
        payload = self._exactly(length)
        if opcode == _PING:
            self._answer(payload)
        return opcode == _CLOSE

    # --- bytes

    def _some(self, most: int) -> bytes:
        data = self._receive(most)
        if not data:
            raise FrameError("it ended without a close frame")
        return data

    def _exactly(self, length: int) -> bytes:
        while len(self._buffer) < length:
            self._buffer += self._some(BLOCK)
        data = bytes(self._buffer[:length])
        del self._buffer[:length]
        return data

    def _take(self, length: int, message: bytearray) -> None:
        """Move *length* bytes to the end of *message*."""
        piece: bytes | bytearray = self._buffer[:length]
        del self._buffer[: len(piece)]
        while True:
            message += piece
            length -= len(piece)
            if not length:
                return
            piece = self._some(min(length, BLOCK))

    def _skip(self, length: int) -> None:
        skipped = min(length, len(self._buffer))
        del self._buffer[:skipped]
        while length := length - skipped:
            skipped = len(self._some(min(length, BLOCK)))
