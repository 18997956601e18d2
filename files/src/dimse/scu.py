"""A requester of associations (PS3.7, PS3.8) for C-ECHO, C-FIND, C-GET, C-MOVE and C-STORE.

What comes by C-GET is handed on as it comes, a part at a time, none of it decoded or held in memory.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

from dimse.part10 import even
from dimse.upper_layer import (
    APPLICATION_CONTEXT,
    ASSOCIATE_AC,
    ASSOCIATE_RJ,
    ASSOCIATE_RQ,
    C_CANCEL,
    C_ECHO,
    C_FIND,
    C_GET,
    C_MOVE,
    COMMAND,
    DATA_SET,
    DESTINATION,
    ITEM_ABSTRACT,
    ITEM_AGREED,
    ITEM_APPLICATION,
    ITEM_EXTENDED,
    ITEM_PROPOSED,
    ITEM_ROLE,
    ITEM_SYNTAX,
    ITEM_USER,
    NO_DATA_SET,
    RELEASE_RQ,
    RESPONDED,
    Begin,
    BrokenError,
    Conversation,
    Fields,
    NotAgreedError,
    Response,
    item,
    items,
    text,
    user_information,
)

VERIFICATION = "1.2.840.10008.1.1"
STUDY_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
STUDY_ROOT_MOVE = "1.2.840.10008.5.1.4.1.2.2.2"
STUDY_ROOT_GET = "1.2.840.10008.5.1.4.1.2.2.3"

PENDING = frozenset({0xFF00, 0xFF01})
CANCELLED = 0xFE00

# PS3.8 table 9-21, by source and reason.
_REASONS = {
    (1, 2): "it doesn't support the application context",
    (1, 3): "it doesn't know the calling AE title",
    (1, 7): "it has another AE title",
    (2, 2): "it has another version of the protocol",
    (3, 1): "it has too much to do",
    (3, 2): "it has too many associations",
}
_CONNECT_SECONDS = 10


class RejectedError(BrokenError):
    """The peer rejected the association; `is_transient` where it may take one later."""

    def __init__(self, reason: str, is_transient: bool) -> None:
        super().__init__(reason)
        self.is_transient = is_transient


class UnreachableError(BrokenError):
    """Nothing listens at the peer's address."""


@dataclass(frozen=True)
class Proposal:
    """A presentation context to propose: a SOP class with transfer syntaxes, the one wanted most first.

    `is_received`: its instances are to be sent to the requester (role selection, PS3.7 D.3.3.4), as C-GET needs it.
    `is_fuzzy`: names are to be matched fuzzily, where the peer can (extended negotiation, PS3.4 C.5.1.1).
    """

    sop_class: str
    syntaxes: tuple[str, ...]
    is_received: bool = False
    is_fuzzy: bool = False


class Requester(Conversation):
    """An association that was asked for. One request at a time; `cancel` and `close` may come from another thread."""

    def __init__(self, connection: socket.socket, seconds: float, begin: Begin | None) -> None:
        super().__init__(connection, seconds, begin)
        self._closed = threading.Event()
        self.is_fuzzy = False
        """Whether the peer agreed on fuzzy matching of names (PS3.4 C.5.1.1)."""

    def agree(self, called: str, calling: str, proposals: Sequence[Proposal]) -> None:
        """Have the association accepted; raise RejectedError, or BrokenError where it doesn't come to an answer."""
        contexts = further = b""
        proposed: dict[int, str] = {}
        for index, proposal in enumerate(proposals):
            context = 2 * index + 1
            proposed[context] = proposal.sop_class
            content = bytes((context, 0, 0, 0)) + item(ITEM_ABSTRACT, proposal.sop_class.encode())
            content += b"".join(item(ITEM_SYNTAX, syntax.encode()) for syntax in proposal.syntaxes)
            contexts += item(ITEM_PROPOSED, content)
        for sop_class in dict.fromkeys(proposal.sop_class for proposal in proposals if proposal.is_received):
            further += item(ITEM_ROLE, struct.pack(">H", len(sop_class)) + sop_class.encode() + b"\0\1")
        for sop_class in (proposal.sop_class for proposal in proposals if proposal.is_fuzzy):
            further += item(ITEM_EXTENDED, struct.pack(">H", len(sop_class)) + sop_class.encode() + b"\0\0\1")
        titles = called.encode("ascii", "replace").ljust(16)[:16] + calling.encode("ascii", "replace").ljust(16)[:16]
        application = item(ITEM_APPLICATION, APPLICATION_CONTEXT.encode())
        self._send(ASSOCIATE_RQ, b"\0\1\0\0" + titles + bytes(32) + application + contexts + user_information(further))
        kind, length = self._read_header()
        answer = self._read_association(length)
        if kind == ASSOCIATE_RJ and length == 4:
            _, result, source, reason = answer
            raise RejectedError(_REASONS.get((source, reason), "it gives no reason"), result == 2)
        if kind != ASSOCIATE_AC or length < 68:
            raise BrokenError(f"the association was answered by a PDU of type {kind}")
        self._read_answer(memoryview(answer)[68:], proposed)

    def _read_answer(self, content: memoryview, proposed: dict[int, str]) -> None:
        for kind, value in items(content):
            if kind == ITEM_AGREED and value[0] in proposed and value[2] == 0:
                context = value[0]
                syntax = next((text(name) for what, name in items(value[4:]) if what == ITEM_SYNTAX), "")
                self._syntaxes[context] = syntax
                self._agreed.setdefault(proposed[context], []).append(context)
            elif kind == ITEM_USER:
                for what, detail in self._read_user_information(value):
                    if what == ITEM_EXTENDED:
                        length = struct.unpack_from(">H", detail)[0]
                        self.is_fuzzy = bytes(detail[2 + length :])[2:3] == b"\1"

    def echo(self) -> int:
        """Return the status of a C-ECHO (PS3.7 9.1.5)."""
        self._request(VERIFICATION, C_ECHO)
        return self._final().status

    def find(self, identifier: Callable[[str], bytes]) -> Generator[Response]:
        """Yield the answers to a C-FIND (PS3.4 C.4.1), the last one without an identifier.

        `identifier` encodes it in the transfer syntax that it is given. Who stops taking answers cancels.
        """
        self._request(STUDY_ROOT_FIND, C_FIND, identifier)
        yield from self._responses_with_cancellation()

    def get(self, identifier: Callable[[str], bytes]) -> Generator[Response]:
        """Yield the answers to a C-GET (PS3.4 C.4.3), while what it asks for comes to `begin`."""
        self._request(STUDY_ROOT_GET, C_GET, identifier)
        yield from self._responses_with_cancellation()

    def move(self, identifier: Callable[[str], bytes], destination: str, message: int) -> Generator[Response]:
        """Yield the answers to a C-MOVE (PS3.4 C.4.2) of that Message ID."""
        self._request(STUDY_ROOT_MOVE, C_MOVE, identifier, {DESTINATION: even(destination, b" ")}, message)
        yield from self._responses_with_cancellation()

    def _request(
        self,
        sop_class: str,
        command: int,
        identifier: Callable[[str], bytes] | None = None,
        further: Fields | None = None,
        message: int | None = None,
    ) -> None:
        context = next(iter(self._agreed.get(sop_class, [])), None)
        if context is None:
            raise NotAgreedError(f"SOP class {sop_class} isn't served")
        content = identifier(self._syntaxes[context]) if identifier else None
        self._send_request(sop_class, context, command, further or {}, message, is_bare=content is None)
        if content is not None:
            self._send_dataset(context, [content], self._most)

    def _responses_with_cancellation(self) -> Generator[Response]:
        while True:
            response = self._next()
            if response.status not in PENDING:
                self._pending = None
                yield response
                return
            try:
                yield response
            except GeneratorExit:
                self._drain()
                raise

    def _drain(self) -> None:
        """Cancel, and take what still comes until the peer has noticed."""
        self.cancel()
        while self._next().status in PENDING:
            pass
        self._pending = None

    @property
    def is_idle(self) -> bool:
        """Return whether nothing is being asked."""
        return self._pending is None and not self._closed.is_set()

    def cancel(self) -> None:
        """Ask the peer to stop what it is doing (C-CANCEL, PS3.7 9.3.2.3)."""
        pending = self._pending
        if pending:
            context, message = pending
            command = {COMMAND: struct.pack("<H", C_CANCEL), RESPONDED: struct.pack("<H", message)}
            self._send_command(context, command | {DATA_SET: struct.pack("<H", NO_DATA_SET)})

    def close(self) -> None:
        """Release the association where it is idle, else abort it."""
        if self._closed.is_set():
            return
        is_idle = self.is_idle
        self._closed.set()
        with contextlib.suppress(BrokenError):
            if is_idle:
                self._send(RELEASE_RQ, bytes(4))
                while self._take():
                    pass
            else:
                self.abort()
        # Wakes whoever reads from it.
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)
        self._connection.close()
        self._forget()

    def is_quiet(self) -> bool:
        """Return whether the peer neither ended the association nor said anything since the last answer."""
        return not self._is_readable()


def associate(
    host: str,
    port: int,
    called: str,
    calling: str,
    proposals: Sequence[Proposal],
    seconds: float,
    begin: Begin | None = None,
) -> Requester:
    """Return an association; raise UnreachableError, RejectedError, or BrokenError where it doesn't come to an answer."""
    try:
        connection = socket.create_connection((host, port), timeout=min(seconds, _CONNECT_SECONDS))
    except OSError as error:
        raise UnreachableError(error.strerror or str(error) or "no answer") from None
    connection.settimeout(None)
    made = Requester(connection, seconds, begin)
    try:
        made.agree(called, calling, proposals)
    except BaseException as error:
        made.abort()
        connection.close()
        if isinstance(error, (struct.error, IndexError, ValueError)):
            raise BrokenError(f"the association was answered by what can't be read ({error})") from None
        raise
    return made
