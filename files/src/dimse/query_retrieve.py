"""A Query/Retrieve SCP (PS3.4 annex C): C-FIND, C-GET and C-MOVE over what is held."""

from __future__ import annotations

import logging
import socket
import struct
import time
from collections.abc import Sequence

from dimse.holding import (
    IDENTIFIER_MISMATCH,
    PENDING,
    REFUSED,
    SOME_FAILED,
    SUCCESS,
    UNABLE_TO_PERFORM,
    UNKNOWN_DESTINATION,
    Held,
    Holding,
    IdentifierError,
    failed_list,
)
from dimse.part10 import EXPLICIT, IMPLICIT, even
from dimse.scu import CANCELLED, Proposal, associate
from dimse.upper_layer import (
    C_FIND,
    C_GET,
    C_MOVE,
    COMMAND,
    COMPLETED,
    DATA_SET,
    DESTINATION,
    ERROR_COMMENT,
    FAILED,
    HAS_DATA_SET,
    MESSAGE,
    MOST_CONTEXTS,
    NO_DATA_SET,
    REMAINING,
    RESPONDED,
    RESPONSE,
    SOP_CLASS,
    STATUS,
    WARNINGS,
    Begin,
    BrokenError,
    Conversation,
    Request,
    number,
    text,
)

_LOG = logging.getLogger("dimse.retrieve")


class QueryRetrieve(Conversation):
    """An association that was accepted, over which what is held may be searched for and retrieved."""

    def __init__(self, connection: socket.socket, seconds: float, begin: Begin | None, title: str, holding: Holding | None) -> None:
        """`title` is its own AE title; nothing is searched for or retrieved without a `holding`."""
        super().__init__(connection, seconds, begin)
        self._title = title
        self._calling = ""
        self._holding = holding
        self._served = frozenset({C_FIND, C_GET, C_MOVE}) if holding else frozenset()

    def serve_requests(self) -> None:
        """Answer the requests that have come whole."""
        while self._requests and self._holding:
            request = self._requests.popleft()
            command = number(request.fields.get(COMMAND))
            begun = time.monotonic()
            status = {C_FIND: self._find, C_GET: self._get, C_MOVE: self._move}[command](request, self._holding)
            name = {C_FIND: "C-FIND", C_GET: "C-GET", C_MOVE: "C-MOVE"}[command]
            _LOG.info("%s of %s status=0x%04X ms=%.0f", name, self._calling, status, (time.monotonic() - begun) * 1000)
            self._cancelled.discard(request.message)

    def _is_cancelled(self, request: Request) -> bool:
        while self._is_readable() and request.message not in self._cancelled:
            if not self._take():
                raise BrokenError("the peer ended the association")
        return request.message in self._cancelled

    def _find(self, request: Request, holding: Holding) -> int:
        """Answer a C-FIND (PS3.4 C.4.1); return its final status."""
        status, comment = SUCCESS, ""
        try:
            for found in holding.find(request):
                if self._is_cancelled(request):
                    status = CANCELLED
                    break
                self._respond(request, PENDING, identifier=found)
        except IdentifierError as error:
            status, comment = IDENTIFIER_MISMATCH, str(error)
        self._respond(request, status, comment=comment)
        return status

    def _get(self, request: Request, holding: Holding) -> int:
        """Answer a C-GET (PS3.4 C.4.3); return its final status."""
        try:
            instances = holding.instances(request)
        except IdentifierError as error:
            return self._refuse(request, error)
        return self._retrieve(request, instances, self, None)

    def _refuse(self, request: Request, error: IdentifierError) -> int:
        self._respond(request, IDENTIFIER_MISMATCH, comment=str(error))
        return IDENTIFIER_MISMATCH

    def _move(self, request: Request, holding: Holding) -> int:
        """Answer a C-MOVE (PS3.4 C.4.2); return its final status."""
        title = text(request.fields.get(DESTINATION, b""))
        address = holding.address(title)
        if address is None:
            self._respond(request, UNKNOWN_DESTINATION, comment=f"{title} is not known here"[:64])
            return UNKNOWN_DESTINATION
        try:
            instances = holding.instances(request)
            kinds = dict.fromkeys((each.sop_class, each.syntax) for each in instances)
            proposals = [Proposal(sop_class, (syntax,)) for sop_class, syntax in kinds]
            # What a destination doesn't take as it is stored, it may take without compression.
            proposals += [Proposal(sop_class, (EXPLICIT, IMPLICIT)) for sop_class in dict.fromkeys(kind[0] for kind in kinds)]
            if not proposals:
                return self._retrieve(request, instances, self, None)
            destination = associate(*address, title, self._title, proposals[:MOST_CONTEXTS], self._seconds)
        except IdentifierError as error:
            return self._refuse(request, error)
        except BrokenError as error:
            self._respond(request, UNABLE_TO_PERFORM, comment=f"{title}: {error}"[:64])
            return UNABLE_TO_PERFORM
        try:
            return self._retrieve(request, instances, destination, (self._calling, request.message))
        finally:
            destination.close()

    def _retrieve(
        self, request: Request, instances: Sequence[Held], target: Conversation, originator: tuple[str, int] | None
    ) -> int:
        """Send instances to a target, telling how far it is; return the final status."""
        completed, warned = 0, 0
        failed: list[str] = []
        status = SUCCESS
        for done, instance in enumerate(instances):
            if self._is_cancelled(request):
                status = CANCELLED
                break
            answer = self._send_instance(instance, target, originator)
            completed += answer == SUCCESS
            warned += answer >> 12 == 0xB
            if answer != SUCCESS and answer >> 12 != 0xB:
                failed.append(instance.uid)
            left = len(instances) - done - 1
            if left:
                self._respond(request, PENDING, (left, completed, len(failed), warned))
        if status == SUCCESS and failed:
            status = UNABLE_TO_PERFORM if len(failed) == len(instances) else SOME_FAILED
        left = len(instances) - completed - warned - len(failed)
        lost = failed_list(failed, request.syntax) if failed else None
        self._respond(request, status, (left, completed, len(failed), warned), identifier=lost)
        return status

    def _send_instance(self, instance: Held, target: Conversation, originator: tuple[str, int] | None) -> int:
        """Send one instance, as it is stored or in a transfer syntax that the target took; return the status of the C-STORE."""
        taken = target.taken_syntaxes(instance.sop_class)
        syntax = next((each for each in (instance.syntax, EXPLICIT, IMPLICIT) if each in taken), None)
        if syntax is None:
            _LOG.warning("instance %s is not sent: its SOP class %s was not agreed on", instance.uid, instance.sop_class)
            return REFUSED
        try:
            # Before anything of it is sent: what can't be made must not break the association.
            parts = instance.parts(syntax)
        except (OSError, ValueError) as error:
            _LOG.warning("instance %s is not sent: %s", instance.uid, error)
            return REFUSED
        return target.store(instance.sop_class, instance.uid, syntax, parts, originator).status

    def _respond(
        self,
        request: Request,
        status: int,
        counts: tuple[int, int, int, int] | None = None,
        identifier: bytes | None = None,
        comment: str = "",
    ) -> None:
        """Send a response to a request with an identifier (PS3.7 9.1.2 to 9.1.4)."""
        fields = {
            SOP_CLASS: request.fields.get(SOP_CLASS, b""),
            COMMAND: struct.pack("<H", number(request.fields.get(COMMAND)) | RESPONSE),
            RESPONDED: request.fields.get(MESSAGE, b"\0\0"),
            DATA_SET: struct.pack("<H", NO_DATA_SET if identifier is None else HAS_DATA_SET),
            STATUS: struct.pack("<H", status),
            ERROR_COMMENT: even(comment[:64], b" "),
        }
        if counts:
            told = dict(zip((REMAINING, COMPLETED, FAILED, WARNINGS), counts, strict=True))
            if status != PENDING and status != CANCELLED:
                del told[REMAINING]
            fields |= {tag: struct.pack("<H", min(count, 0xFFFF)) for tag, count in told.items()}
        self._send_command(request.context, fields)
        if identifier is not None:
            self._send_dataset(request.context, [identifier], self._most)
