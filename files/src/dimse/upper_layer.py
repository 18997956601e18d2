"""The upper layer (PS3.8) and the messages over it (PS3.7). Datasets pass as bytes, in parts: pynetdicom makes objects of them."""

from __future__ import annotations

import contextlib
import itertools
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from dimse.part10 import IMPLEMENTATION_NAME, IMPLEMENTATION_UID, even

# The largest PDU that DCMTK, and so Orthanc, takes.
MAXIMUM_PDU = 131072
MOST_CONTEXTS = 128
"""Presentation contexts of one association: odd numbers of one byte (PS3.8 9.3.2.2)."""

# PDU types (PS3.8 9.3.1).
ASSOCIATE_RQ, ASSOCIATE_AC, ASSOCIATE_RJ, P_DATA, RELEASE_RQ, RELEASE_RP, ABORT = range(1, 8)
APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"
# Items of an association's PDUs (PS3.8 9.3.2, annex D).
ITEM_APPLICATION, ITEM_PROPOSED, ITEM_AGREED, ITEM_ABSTRACT, ITEM_SYNTAX, ITEM_USER = 0x10, 0x20, 0x21, 0x30, 0x40, 0x50
ITEM_MAXIMUM, ITEM_IMPLEMENTATION, ITEM_ROLE, ITEM_VERSION, ITEM_EXTENDED = 0x51, 0x52, 0x54, 0x55, 0x56

# Commands, and their elements of group 0000 (PS3.7 annex E).
C_STORE, C_GET, C_FIND, C_MOVE, C_ECHO, C_CANCEL = 0x0001, 0x0010, 0x0020, 0x0021, 0x0030, 0x0FFF
RESPONSE = 0x8000
SOP_CLASS, COMMAND, MESSAGE, RESPONDED, DESTINATION, PRIORITY, DATA_SET, STATUS = (
    0x0002,
    0x0100,
    0x0110,
    0x0120,
    0x0600,
    0x0700,
    0x0800,
    0x0900,
)
ERROR_COMMENT, SOP_INSTANCE, REMAINING, COMPLETED, FAILED, WARNINGS, ORIGINATOR_TITLE, ORIGINATOR_MESSAGE = (
    0x0902,
    0x1000,
    0x1020,
    0x1021,
    0x1022,
    0x1023,
    0x1030,
    0x1031,
)
NO_DATA_SET, HAS_DATA_SET = 0x0101, 0x0001

_HEADER = struct.Struct(">BxI")
# Presentation data value: length, context, message control header (PS3.8 9.3.5.1, annex E.2).
_PDV = struct.Struct(">IBB")
_IS_COMMAND, _IS_LAST = 1, 2
_LARGEST_REQUEST = 1 << 20
# Orthanc lists the instances that it couldn't send in a command set.
_LARGEST_COMMAND = 1 << 20
_MOST_FRAGMENTS = 4096
# Who negotiates nothing else has one request under way at a time (PS3.7 D.3.3.3), and maybe cancels it.
_MOST_REQUESTS = 16
_CLOSING_SECONDS = 5
# An identifier is some attributes: one that is larger is something else.
_LARGEST_IDENTIFIER = 1 << 22


class BrokenError(Exception):
    """The peer broke the protocol or the connection, or was silent for too long: the association is over."""


class SilentError(BrokenError):
    """The peer said nothing for too long."""


class NotAgreedError(BrokenError):
    """The presentation context that is needed was not agreed on."""


class Incoming(Protocol):
    """Where one dataset goes while it comes."""

    def write(self, part: memoryview) -> None:
        """Take a part. It is only lent."""

    def finish(self) -> int:
        """Take it as whole, and return the status of the C-STORE (PS3.4 B.2.3)."""

    def abandon(self) -> None:
        """Forget it: it broke off."""


@dataclass(frozen=True)
class Begun:
    """What a C-STORE says of the instance that begins to come; `originator` is the Message ID of the C-MOVE that asked for it."""

    sop_class: str
    uid: str
    syntax: str
    originator: int = 0


Begin = Callable[[Begun], Incoming]
Fields = dict[int, bytes]


@dataclass(frozen=True)
class Response:
    """A response message: its command set, and the identifier that came with it in a transfer syntax."""

    fields: Fields
    identifier: bytes
    syntax: str

    @property
    def status(self) -> int:
        """Return its status (PS3.7 annex C)."""
        return number(self.fields.get(STATUS))

    def count(self, element: int) -> int | None:
        """Return a number of sub-operations, None where it isn't told."""
        return number(self.fields[element]) if element in self.fields else None

    @property
    def comment(self) -> str:
        """Return what it says in words."""
        return text(self.fields.get(ERROR_COMMENT, b""))


@dataclass(frozen=True)
class Request:
    """A request with an identifier, which is in a transfer syntax."""

    context: int
    fields: Fields
    identifier: bytes
    syntax: str

    @property
    def message(self) -> int:
        """Return its Message ID."""
        return number(self.fields.get(MESSAGE))


class Conversation:
    """One association over a connection, whoever asked for it. It takes instances in and gives responses out."""

    def __init__(self, connection: socket.socket, seconds: float, begin: Begin | None) -> None:
        """`seconds` of silence end it; `begin` is called for each C-STORE that comes, none is served without."""
        self._connection = connection
        self.begin = begin
        self._buffer = memoryview(bytearray(MAXIMUM_PDU))
        self._sending = threading.Lock()
        self._syntaxes: dict[int, str] = {}
        """Transfer syntaxes by presentation context."""
        self._agreed: dict[str, list[int]] = {}
        """Presentation contexts by SOP class."""
        self._most = MAXIMUM_PDU
        """Bytes of a PDU that the peer takes."""
        self._messages = itertools.count(1)
        self._pending: tuple[int, int] | None = None
        """Context and Message ID of what was asked, and isn't answered."""
        self.was_answered = False
        """Whether the peer has said anything to the last request."""
        self._served: frozenset[int] = frozenset()
        """Commands with an identifier that are served."""
        self._requests: deque[Request] = deque()
        self._cancelled: set[int] = set()
        """Message IDs of requests that the peer wants no more of."""
        self._command = bytearray()
        self._fragments = 0
        self._fields: Fields = {}
        self._incoming: Incoming | None = None
        self._identifier: bytearray | None = None
        self._responses: deque[Response] = deque()
        self.is_waited_for: Callable[[], bool] = lambda: False
        """Whether silence is no matter now: what was asked for may come by another association."""
        self._seconds = seconds
        self._deadline: float | None = None
        """When what is being read must be there, by time.monotonic()."""
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._wait_at_most(socket.SO_RCVTIMEO, seconds)
        self._wait_at_most(socket.SO_SNDTIMEO, seconds)

    def _wait_at_most(self, option: int, seconds: float) -> None:
        # Not settimeout: with it the kernel would not wait until a whole PDU is there.
        timeout = struct.pack("ll", int(seconds), int(seconds % 1 * 1_000_000))
        self._connection.setsockopt(socket.SOL_SOCKET, option, timeout)

    @contextlib.contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """Have what is read be there within so many seconds, however often the peer says something; raise SilentError else."""
        self._deadline = time.monotonic() + seconds
        self._wait_at_most(socket.SO_RCVTIMEO, min(seconds, self._seconds))
        try:
            yield
        finally:
            self._deadline = None
            self._wait_at_most(socket.SO_RCVTIMEO, self._seconds)

    def _read(self, into: memoryview) -> None:
        done = 0
        while done < len(into):
            if self._deadline is not None and time.monotonic() > self._deadline:
                raise SilentError("silence")
            try:
                count = self._connection.recv_into(into[done:], 0, socket.MSG_WAITALL)
            except BlockingIOError:
                if self.is_waited_for():
                    continue
                raise SilentError("silence") from None
            except OSError as error:
                raise BrokenError(error.strerror or str(error)) from None
            if not count:
                raise BrokenError("the connection ended")
            done += count

    def _read_header(self) -> tuple[int, int]:
        header = memoryview(bytearray(_HEADER.size))
        self._read(header)
        kind, length = _HEADER.unpack(header)
        return kind, length

    def _read_association(self, length: int) -> bytearray:
        """Return the body of a PDU that begins or refuses an association."""
        if length > _LARGEST_REQUEST:
            raise BrokenError(f"a PDU of {length} bytes")
        content = bytearray(length)
        self._read(memoryview(content))
        return content

    def _send(self, kind: int, content: bytes) -> None:
        try:
            with self._sending:
                self._connection.sendall(_HEADER.pack(kind, len(content)) + content)
        except BlockingIOError:
            raise SilentError("silence") from None
        except OSError as error:
            raise BrokenError(error.strerror or str(error)) from None

    def abort(self, source: int = 0, reason: int = 0) -> None:
        """Say that the association is over (PS3.8 9.3.8), if anybody still listens, and forget what was coming."""
        with contextlib.suppress(BrokenError):
            self._send(ABORT, bytes((0, 0, source, reason)))
        self._forget()

    def _await_close(self) -> None:
        """Have the peer close the connection, as it must after what ends an association; wait only a moment (PS3.8 9.2, Sta13).

        Were it closed here at once, the peer could find it closed before it has read why.
        """
        with contextlib.suppress(OSError):
            self._connection.settimeout(_CLOSING_SECONDS)
            end = time.monotonic() + _CLOSING_SECONDS
            while time.monotonic() < end and self._connection.recv(4096):
                continue

    def _forget(self) -> None:
        incoming, self._incoming = self._incoming, None
        if incoming:
            incoming.abandon()

    def _take(self) -> bool:
        """Take one PDU; return whether another may follow."""
        kind, length = self._read_header()
        if kind == P_DATA and length <= len(self._buffer):
            content = self._buffer[:length]
            self._read(content)
            while content:
                size, context, control = _PDV.unpack_from(content)
                if not 2 <= size <= len(content) - 4:
                    raise BrokenError("a presentation data value longer than its PDU")
                self._take_value(context, control, content[_PDV.size : 4 + size])
                content = content[4 + size :]
            return True
        if kind == RELEASE_RQ:
            self._send(RELEASE_RP, bytes(4))
            return False
        if kind in (ABORT, RELEASE_RP):
            return False
        raise BrokenError(f"PDU type {kind} of {length} bytes")

    def _take_value(self, context: int, control: int, value: memoryview) -> None:
        if context not in self._syntaxes:
            raise BrokenError(f"presentation context {context} was not agreed on")
        if control & _IS_COMMAND:
            self._command += value
            self._fragments += 1
            if len(self._command) > _LARGEST_COMMAND or self._fragments > _MOST_FRAGMENTS:
                raise BrokenError("a command set that has no end")
            if control & _IS_LAST:
                self._fields = elements(bytes(self._command))
                self._command.clear()
                self._fragments = 0
                self._begin_message(context)
        elif self._incoming:
            self._incoming.write(value)
            if control & _IS_LAST:
                incoming, self._incoming = self._incoming, None
                self._answer(context, C_STORE, incoming.finish())
        elif self._identifier is not None:
            self._identifier += value
            if len(self._identifier) > _LARGEST_IDENTIFIER:
                raise BrokenError("an identifier that has no end")
            if control & _IS_LAST:
                identifier, self._identifier = bytes(self._identifier), None
                if number(self._fields.get(COMMAND)) & RESPONSE:
                    self._responses.append(Response(self._fields, identifier, self._syntaxes[context]))
                else:
                    if len(self._requests) >= _MOST_REQUESTS:
                        raise BrokenError("more requests than are answered at once")
                    self._requests.append(Request(context, self._fields, identifier, self._syntaxes[context]))
        else:
            raise BrokenError("a dataset without its command")

    def _begin_message(self, context: int) -> None:
        command = number(self._fields.get(COMMAND))
        has_data = number(self._fields.get(DATA_SET)) != NO_DATA_SET
        if self._incoming or self._identifier is not None:
            raise BrokenError(f"command 0x{command:04X} within a dataset")
        if command == C_ECHO:
            self._answer(context, C_ECHO, 0)
        elif command == C_STORE and has_data and self.begin:
            sop_class, instance = (text(self._fields.get(tag, b"")) for tag in (SOP_CLASS, SOP_INSTANCE))
            originator = number(self._fields.get(ORIGINATOR_MESSAGE))
            self._incoming = self.begin(Begun(sop_class, instance, self._syntaxes[context], originator))
        elif command == C_CANCEL and self._served:
            self._cancelled.add(number(self._fields.get(RESPONDED)))
        elif command in self._served and has_data:
            self._identifier = bytearray()
        elif command & RESPONSE and self._pending:
            if has_data:
                self._identifier = bytearray()
            else:
                self._responses.append(Response(self._fields, b"", self._syntaxes[context]))
        else:
            raise BrokenError(f"command 0x{command:04X}, which is not served")

    def _answer(self, context: int, command: int, status: int) -> None:
        """Send a response (PS3.7 9.3.1.2, 9.3.5.2)."""
        self._send_command(
            context,
            {
                SOP_CLASS: self._fields.get(SOP_CLASS, b""),
                COMMAND: struct.pack("<H", command | RESPONSE),
                RESPONDED: self._fields.get(MESSAGE, b"\0\0"),
                DATA_SET: struct.pack("<H", NO_DATA_SET),
                STATUS: struct.pack("<H", status),
                SOP_INSTANCE: self._fields.get(SOP_INSTANCE, b""),
            },
        )

    def store(
        self, sop_class: str, uid: str, syntax: str, parts: Iterable[bytes], originator: tuple[str, int] | None = None
    ) -> Response:
        """Send an instance as it is, and return the answer (PS3.4 B.2.3). Raises NotAgreedError where its syntax isn't taken.

        `originator` is AE title and Message ID of the C-MOVE that asked for it.
        """
        context = next((each for each in self._agreed.get(sop_class, []) if self._syntaxes[each] == syntax), None)
        if context is None:
            raise NotAgreedError(f"SOP class {sop_class} in transfer syntax {syntax} isn't taken")
        further = {SOP_INSTANCE: even(uid, b"\0")}
        if originator:
            further |= {ORIGINATOR_TITLE: even(originator[0], b" "), ORIGINATOR_MESSAGE: struct.pack("<H", originator[1])}
        self._send_request(sop_class, context, C_STORE, further, None)
        self._send_dataset(context, parts, self._most)
        return self._final()

    def taken_syntaxes(self, sop_class: str) -> list[str]:
        """Return the transfer syntaxes in which instances of a SOP class can be sent."""
        return [self._syntaxes[context] for context in self._agreed.get(sop_class, [])]

    def _send_request(
        self, sop_class: str, context: int, command: int, further: Fields, message: int | None, is_bare: bool = False
    ) -> None:
        chosen = message or next(self._messages) % 0xFFFF + 1
        self._pending = (context, chosen)
        self.was_answered = False
        fields = {
            SOP_CLASS: even(sop_class, b"\0"),
            COMMAND: struct.pack("<H", command),
            MESSAGE: struct.pack("<H", chosen),
            PRIORITY: b"" if is_bare else b"\0\0",
            DATA_SET: struct.pack("<H", NO_DATA_SET if is_bare else HAS_DATA_SET),
        }
        self._send_command(context, fields | further)

    def _next(self) -> Response:
        while not self._responses:
            if not self._take():
                raise BrokenError("the peer ended the association")
        self.was_answered = True
        response = self._responses.popleft()
        if self._pending and number(response.fields.get(RESPONDED)) != self._pending[1]:
            raise BrokenError("an answer to something that wasn't asked")
        return response

    def _final(self) -> Response:
        response = self._next()
        self._pending = None
        return response

    def _is_readable(self) -> bool:
        """Return whether the peer has said something, or ended the association."""
        try:
            self._connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            pass
        return True

    def _read_user_information(self, content: memoryview) -> Iterator[tuple[int, memoryview]]:
        """Note how large a PDU the peer takes, and yield the other items that say what it is (PS3.7 annex D)."""
        for what, detail in items(content):
            if what == ITEM_MAXIMUM and len(detail) == 4:
                # 0: as large as one likes.
                self._most = min(struct.unpack(">I", detail)[0] or MAXIMUM_PDU, MAXIMUM_PDU)
            else:
                yield what, detail

    def _send_command(self, context: int, fields: Fields) -> None:
        """Send a command set: implicit VR little endian, by tag (PS3.7 6.3.1). Elements without a value are left out."""
        body = b"".join(struct.pack("<HHI", 0, tag, len(value)) + value for tag, value in sorted(fields.items()) if value)
        message = struct.pack("<HHII", 0, 0, 4, len(body)) + body
        self._send(P_DATA, _PDV.pack(len(message) + 2, context, _IS_COMMAND | _IS_LAST) + message)

    def _send_dataset(self, context: int, parts: Iterable[bytes], most: int) -> None:
        """Send a dataset in PDUs of `most` bytes at most."""
        room = most - _PDV.size
        waiting: bytes | None = None
        for part in parts:
            for start in range(0, len(part), room):
                if waiting is not None:
                    self._send(P_DATA, _PDV.pack(len(waiting) + 2, context, 0) + waiting)
                waiting = part[start : start + room]
        self._send(P_DATA, _PDV.pack(len(waiting or b"") + 2, context, _IS_LAST) + (waiting or b""))


def items(content: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Yield the items of an association's PDU: type and content."""
    while content:
        kind, length = struct.unpack_from(">BxH", content)
        if length > len(content) - 4:
            raise BrokenError("an item longer than its PDU")
        yield kind, content[4 : 4 + length]
        content = content[4 + length :]


def item(kind: int, content: bytes) -> bytes:
    """Return an item of an association's PDU."""
    return struct.pack(">BxH", kind, len(content)) + content


def user_information(further: bytes = b"") -> bytes:
    """Return the item that says what this implementation is (PS3.7 annex D), with `further` items in it."""
    told = item(ITEM_MAXIMUM, struct.pack(">I", MAXIMUM_PDU)) + item(ITEM_IMPLEMENTATION, IMPLEMENTATION_UID.encode())
    return item(ITEM_USER, told + further + item(ITEM_VERSION, IMPLEMENTATION_NAME.encode()))


def elements(command: bytes) -> Fields:
    """Return the elements of a command set, by their numbers in group 0000.

    Orthanc puts the list of instances that it couldn't send (0008,0058) there, too: what is of other groups is left out.
    """
    found = {}
    at = 0
    while at < len(command):
        group, element, length = struct.unpack_from("<HHI", command, at)
        if length > len(command) - at - 8:
            raise BrokenError("a command set that can't be read")
        if group == 0:
            found[element] = command[at + 8 : at + 8 + length]
        at += 8 + length
    return found


def number(value: bytes | None) -> int:
    """Return a US of a command set, 0 where there is none."""
    return int(struct.unpack("<H", value)[0]) if value and len(value) == 2 else 0


def text(value: bytes | memoryview) -> str:
    """Return a text of a command set or an item, without its padding."""
    return bytes(value).decode("ascii", "replace").rstrip("\0 ")
