"""Carry messages between server and engine as length-prefixed msgpack. Knows nothing of what they say.

A frame is four bytes of length, the largest first, and one msgpack value. The first frame of each side names
the protocol and a digest of all its types, so that two versions never talk past each other.
"""

from __future__ import annotations

import hashlib
import logging
import queue
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Generic, TypeVar

import msgpack

from cynosure.core.errors import EngineDown, WireFault
from cynosure.engine.wire.types import Codec, shown

#: A frame over it is refused, whatever it holds: by the sender with a reason, by the reader by its length.
MAX_FRAME_BYTES = 64 << 20

_PROTOCOL = "cynosure-engine"
_LENGTH = struct.Struct(">I")
_CHUNK = 1 << 18
#: What goes out in one write is cut here, so that joining frames stays cheap.
_MAX_JOINED = 64

_log = logging.getLogger(__name__)

Out = TypeVar("Out")
In = TypeVar("In")


def framed(value: object) -> bytes:
    """One msgpack value as a frame.

    Raises:
        WireFault: it is over `MAX_FRAME_BYTES`, or holds what msgpack has no form for.
    """
    try:
        # Half of a surrogate pair is for whoever reads the text to refuse, with a reason.
        packed = msgpack.packb(value, unicode_errors="surrogatepass")
    except (TypeError, ValueError, OverflowError) as error:
        raise WireFault(f"a message holds what can't be sent: {error}.") from error
    assert packed is not None, "packb gives bytes"
    if len(packed) > MAX_FRAME_BYTES:
        raise WireFault(
            f"a message has {len(packed)} bytes; the limit is {MAX_FRAME_BYTES}. Send less at once."
        )
    return _LENGTH.pack(len(packed)) + packed


class FrameReader:
    """Cuts a stream of bytes into the values of its frames, however they come in."""

    def __init__(self, max_bytes: int = MAX_FRAME_BYTES) -> None:
        """Start with nothing."""
        self._max_bytes = max_bytes
        self._pending = bytearray()

    def feed(self, chunk: bytes) -> Iterator[object]:
        """Take bytes; give each value that is whole now.

        Raises:
            WireFault: a frame is too large, or is no msgpack.
        """
        self._pending += chunk
        start = 0
        while len(self._pending) - start >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._pending, start)
            if length > self._max_bytes:
                raise WireFault(f"a frame of {length} bytes came; the limit is {self._max_bytes}.")
            end = start + _LENGTH.size + length
            if len(self._pending) < end:
                break
            yield _unpacked(bytes(self._pending[start + _LENGTH.size : end]))
            start = end
        del self._pending[:start]


def _unpacked(content: bytes) -> object:
    try:
        return msgpack.unpackb(
            content, use_list=False, unicode_errors="surrogatepass", ext_hook=_refuse_extension
        )
    except WireFault:
        raise
    except Exception as error:
        # msgpack raises ValueError, its own errors, and TypeError for keys that can't be hashed.
        raise WireFault(f"a frame of {len(content)} bytes is no msgpack: {type(error).__name__}.") from error


def _refuse_extension(code: int, _: bytes) -> object:
    raise WireFault(f"a frame holds an extension of type {code}; none is known.")


class Channel(Generic[Out, In]):
    """One end of a connection. Sending never blocks; one thread reads.

    A thread of its own writes: all that is ready goes out in one write, so that the tokens of a step cost one
    and not one each.
    """

    def __init__(self, connection: socket.socket, outgoing: Codec, incoming: Codec) -> None:
        """Take a connected socket, and what either side may say; begin with the greeting."""
        self._socket = connection
        self._outgoing, self._incoming = outgoing, incoming
        self._queue: queue.SimpleQueue[Out | bytes | None] = queue.SimpleQueue()
        self._is_closed = False
        self._queue.put(framed(_greeting(outgoing, incoming)))
        self._writer = threading.Thread(target=self._write_all, name="wire", daemon=True)
        self._writer.start()

    def send(self, message: Out) -> None:
        """Encode a message now and queue it.

        Raises:
            WireFault: it can't be sent: too large, or a number of more than 64 bits.
            EngineDown: the connection has ended.
        """
        frame = framed(self._outgoing.write(message))
        if self._is_closed:
            raise EngineDown("the connection to the engine has ended. Send the request again.")
        self._queue.put(frame)

    def post(self, message: Out) -> None:
        """Queue a message of our own making; the writing thread encodes it. After the end it is dropped."""
        self._queue.put(message)

    def messages(self) -> Iterator[In]:
        """What the other side says, until it ends.

        Raises:
            WireFault: it speaks another version, or what is no message.
        """
        reader, is_greeted = FrameReader(), False
        while True:
            try:
                chunk = self._socket.recv(_CHUNK)
            except OSError:
                chunk = b""
            if not chunk:
                return
            for value in reader.feed(chunk):
                if is_greeted:
                    yield self._incoming.read(value)
                else:
                    self._check_greeting(value)
                    is_greeted = True

    def close(self, wait_s: float = 1.0) -> None:
        """Send what is queued, for so long at most, and end the connection for both sides."""
        self._is_closed = True
        self._queue.put(None)
        if threading.current_thread() is not self._writer:
            self._writer.join(wait_s)
        # The other side may be faster.
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _check_greeting(self, value: object) -> None:
        # What they send is what we read.
        expected = _greeting(self._incoming, self._outgoing)
        if value != expected:
            raise WireFault(
                f"the other process speaks {shown(value) if type(value) is not tuple else value[:2]}, not "
                f"{expected}: another version is installed by now. Start the server again."
            )

    def _write_all(self) -> None:
        while True:
            taken = [self._queue.get()]
            while taken[-1] is not None and len(taken) < _MAX_JOINED and not self._queue.empty():
                taken.append(self._queue.get())
            frames = b"".join(self._framed(message) for message in taken if message is not None)
            try:
                self._socket.sendall(frames)
            except OSError:
                # The reading side of this connection learns it too, and says so.
                self._is_closed = True
                return
            if taken[-1] is None:
                return

    def _framed(self, message: Out | bytes) -> bytes:
        if isinstance(message, bytes):
            return message
        try:
            return framed(self._outgoing.write(message))
        except Exception:
            _log.exception("a message could not be sent")
            return b""


def _greeting(sender: Codec, reader: Codec) -> tuple[str, str]:
    digest = hashlib.sha256(f"{sender.told}\n{reader.told}".encode()).hexdigest()
    return _PROTOCOL, digest[:16]
