"""A Storage SCP (PS3.4 annex B) that hands datasets on as they come: a part at a time, none of them decoded or held in memory.

It speaks as much of PS3.7 and PS3.8 as a move destination needs: C-STORE and C-ECHO, over every presentation context proposed.
"""

from __future__ import annotations

import logging
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from typing import Protocol

from dimse.association import MAXIMUM_PDU

_LOG = logging.getLogger("pipeline.receive")

# PDU types (PS3.8 9.3.1).
_ASSOCIATE_RQ, _ASSOCIATE_AC, _ASSOCIATE_RJ, _P_DATA, _RELEASE_RQ, _RELEASE_RP, _ABORT = range(1, 8)
_LARGEST_REQUEST = 1 << 20
_HEADER = struct.Struct(">BxI")
# Presentation data value: length, context, message control header (PS3.8 9.3.5.1, annex E.2).
_PDV = struct.Struct(">IBB")
_IS_COMMAND, _IS_LAST = 1, 2
# Command fields and elements (PS3.7 annex E).
_C_STORE_RQ, _C_STORE_RSP, _C_ECHO_RQ, _C_ECHO_RSP = 0x0001, 0x8001, 0x0030, 0x8030
_SOP_CLASS, _COMMAND, _MESSAGE, _RESPONDED, _DATA_SET, _STATUS, _SOP_INSTANCE = (
    0x0002,
    0x0100,
    0x0110,
    0x0120,
    0x0800,
    0x0900,
    0x1000,
)
_NO_DATA_SET = 0x0101
_ROOT = "2.25.130318446474386287214943016303447523457"


class Incoming(Protocol):
    """Where one dataset goes while it comes."""

    def write(self, part: memoryview) -> None:
        """Take a part. It is only lent."""

    def finish(self) -> int:
        """Take it as whole, and return the status of the C-STORE (PS3.4 B.2.3)."""

    def abandon(self) -> None:
        """Forget it: it broke off."""


class _BrokenError(Exception):
    """The peer broke the protocol or the connection: the association is aborted."""


class StorageSCP:
    """Listens, and gives each association a thread of its own."""

    def __init__(
        self,
        title: str,
        callers: tuple[str, ...],
        begin: Callable[[str, str, str], Incoming],
        seconds: float,
        most_associations: int = 64,
    ) -> None:
        """`begin` is called with SOP class, SOP instance and transfer syntax of what comes; no `callers` are all."""
        self._title = title
        self._callers = callers
        self._begin = begin
        self._timeout = struct.pack("ll", int(seconds), int(seconds % 1 * 1_000_000))
        self._places = threading.BoundedSemaphore(most_associations)

    def listen(self, host: str, port: int) -> None:
        """Take associations from now on; raise OSError where the port is taken."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=family, backlog=64)
        threading.Thread(target=self._accept, args=(listener,), name="scp", daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError as error:
                _LOG.warning("an association could not be accepted: %s", error)
                continue
            threading.Thread(target=self._serve, args=(connection,), name="association", daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        has_place = self._places.acquire(blocking=False)
        try:
            with connection:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                # Not settimeout: with it the kernel would not wait until a whole PDU is there.
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, self._timeout)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, self._timeout)
                _Conversation(connection, self._title, self._callers, self._begin, has_place).run()
        except OSError as error:
            _LOG.warning("an association broke: %s", error)
        finally:
            if has_place:
                self._places.release()


class _Conversation:
    """One association, from its request to its release."""

    def __init__(
        self,
        connection: socket.socket,
        title: str,
        callers: tuple[str, ...],
        begin: Callable[[str, str, str], Incoming],
        has_place: bool,
    ) -> None:
        self._connection = connection
        self._title = title
        self._callers = callers
        self._begin = begin
        self._has_place = has_place
        self._buffer = memoryview(bytearray(MAXIMUM_PDU))
        self._calling = self._called = ""
        self._syntaxes: dict[int, str] = {}
        """Transfer syntaxes by presentation context."""
        self._command = b""
        self._fields: dict[int, bytes] = {}
        self._incoming: Incoming | None = None

    def run(self) -> None:
        try:
            if self._associate():
                while self._take():
                    pass
        except (_BrokenError, struct.error, ValueError, IndexError) as error:
            _LOG.warning("association of %s aborted: %s", self._calling, error or type(error).__name__)
            # Source: the service provider; reason: unexpected or invalid PDU (PS3.8 9.3.8).
            self._connection.sendall(_HEADER.pack(_ABORT, 4) + bytes((0, 0, 2, 2)))
        finally:
            if self._incoming:
                self._incoming.abandon()

    def _read(self, into: memoryview) -> None:
        done = 0
        while done < len(into):
            try:
                count = self._connection.recv_into(into[done:], 0, socket.MSG_WAITALL)
            except BlockingIOError:
                raise _BrokenError("silence") from None
            if not count:
                raise _BrokenError("the connection ended")
            done += count

    def _read_header(self) -> tuple[int, int]:
        header = memoryview(bytearray(_HEADER.size))
        self._read(header)
        kind, length = _HEADER.unpack(header)
        return kind, length

    def _associate(self) -> bool:
        """Answer the request for an association (PS3.8 9.3.2, 9.3.3, 9.3.4); return whether it was accepted."""
        kind, length = self._read_header()
        if kind != _ASSOCIATE_RQ or not 68 <= length <= _LARGEST_REQUEST:
            raise _BrokenError(f"not a request for an association (PDU type {kind}, {length} bytes)")
        request = bytearray(length)
        self._read(memoryview(request))
        self._called, self._calling = (bytes(request[start : start + 16]).decode("ascii", "replace").strip() for start in (4, 20))
        rejection = self._rejection()
        if rejection:
            self._connection.sendall(_HEADER.pack(_ASSOCIATE_RJ, 4) + bytes((0, *rejection)))
            return False
        contexts = b""
        for item, content in _items(memoryview(request)[68:]):
            if item == 0x20:
                contexts += self._agree(content)
        user = _item(0x51, struct.pack(">I", MAXIMUM_PDU)) + _item(0x52, _ROOT.encode()) + _item(0x55, b"DICOMWEB_SITE")
        application = _item(0x10, b"1.2.840.10008.3.1.1.1")
        answer = bytes(request[:68]) + application + contexts + _item(0x50, user)
        self._connection.sendall(_HEADER.pack(_ASSOCIATE_AC, len(answer)) + answer)
        return True

    def _rejection(self) -> tuple[int, int, int] | None:
        """Return result, source and reason (PS3.8 table 9-21) of why the association is rejected, or nothing."""
        if not self._has_place:
            return 2, 3, 2
        if self._called != self._title:
            return 1, 1, 7
        if self._callers and self._calling not in self._callers:
            return 1, 1, 3
        return None

    def _agree(self, content: memoryview) -> bytes:
        """Accept a presentation context in the first transfer syntax that it proposes: the sender's own."""
        number = content[0]
        names = [(item, _text(value)) for item, value in _items(content[4:])]
        syntax = next((name for item, name in names if item == 0x40), "")
        self._syntaxes[number] = syntax
        return _item(0x21, bytes((number, 0, 0, 0)) + _item(0x40, syntax.encode()))

    def _take(self) -> bool:
        """Take one PDU; return whether another may follow."""
        kind, length = self._read_header()
        if kind == _P_DATA and length <= len(self._buffer):
            content = self._buffer[:length]
            self._read(content)
            while content:
                size, context, control = _PDV.unpack_from(content)
                if not 2 <= size <= len(content) - 4:
                    raise _BrokenError("a presentation data value longer than its PDU")
                self._take_value(context, control, content[_PDV.size : 4 + size])
                content = content[4 + size :]
            return True
        if kind == _RELEASE_RQ:
            self._connection.sendall(_HEADER.pack(_RELEASE_RP, 4) + bytes(4))
            return False
        if kind == _ABORT:
            return False
        raise _BrokenError(f"PDU type {kind} of {length} bytes")

    def _take_value(self, context: int, control: int, value: memoryview) -> None:
        if context not in self._syntaxes:
            raise _BrokenError(f"presentation context {context} was not agreed on")
        if control & _IS_COMMAND:
            self._command += bytes(value)
            if control & _IS_LAST:
                self._fields, self._command = _elements(self._command), b""
                self._begin_message(context)
            return
        if self._incoming is None:
            raise _BrokenError("a dataset without its command")
        self._incoming.write(value)
        if control & _IS_LAST:
            incoming, self._incoming = self._incoming, None
            self._answer(context, _C_STORE_RSP, incoming.finish())

    def _begin_message(self, context: int) -> None:
        command = _number(self._fields.get(_COMMAND))
        if command == _C_ECHO_RQ:
            self._answer(context, _C_ECHO_RSP, 0)
        elif command == _C_STORE_RQ and _number(self._fields.get(_DATA_SET)) != _NO_DATA_SET and self._incoming is None:
            sop_class, instance = (_text(self._fields.get(tag, b"")) for tag in (_SOP_CLASS, _SOP_INSTANCE))
            self._incoming = self._begin(sop_class, instance, self._syntaxes[context])
        else:
            raise _BrokenError(f"command 0x{command:04X} where C-STORE and C-ECHO are served")

    def _answer(self, context: int, command: int, status: int) -> None:
        """Send a response (PS3.7 9.3.1.2, 9.3.5.2)."""
        elements = b""
        for tag, value in (
            (_SOP_CLASS, self._fields.get(_SOP_CLASS, b"")),
            (_COMMAND, struct.pack("<H", command)),
            (_RESPONDED, self._fields.get(_MESSAGE, b"\0\0")),
            (_DATA_SET, struct.pack("<H", _NO_DATA_SET)),
            (_STATUS, struct.pack("<H", status)),
            (_SOP_INSTANCE, self._fields.get(_SOP_INSTANCE, b"")),
        ):
            if value:
                elements += struct.pack("<HHI", 0, tag, len(value)) + value
        message = struct.pack("<HHII", 0, 0, 4, len(elements)) + elements
        value = _PDV.pack(len(message) + 2, context, _IS_COMMAND | _IS_LAST) + message
        self._connection.sendall(_HEADER.pack(_P_DATA, len(value)) + value)


def _items(content: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Yield the items of an association's PDU: type and content."""
    while content:
        kind, length = struct.unpack_from(">BxH", content)
        if length > len(content) - 4:
            raise _BrokenError("an item longer than its PDU")
        yield kind, content[4 : 4 + length]
        content = content[4 + length :]


def _item(kind: int, content: bytes) -> bytes:
    return struct.pack(">BxH", kind, len(content)) + content


def _elements(command: bytes) -> dict[int, bytes]:
    """Return the elements of a command set, which is in implicit VR little endian (PS3.7 6.3.1), by their numbers in group 0000."""
    found = {}
    at = 0
    while at < len(command):
        group, number, length = struct.unpack_from("<HHI", command, at)
        if group or length > len(command) - at - 8:
            raise _BrokenError("a command set that can't be read")
        found[number] = command[at + 8 : at + 8 + length]
        at += 8 + length
    return found


def _number(value: bytes | None) -> int:
    return struct.unpack("<H", value)[0] if value and len(value) == 2 else 0


def _text(value: bytes | memoryview) -> str:
    return bytes(value).decode("ascii", "replace").rstrip("\0 ")
