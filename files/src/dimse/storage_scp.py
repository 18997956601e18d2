"""A Storage SCP (PS3.4 annex B) that hands datasets on as they come: a part at a time, none of them decoded or held in memory.

It speaks as much of PS3.7 and PS3.8 as a move destination needs: C-STORE and C-ECHO, over every presentation context proposed.
Over a holding it is a Query/Retrieve SCP, too (PS3.4 annex C).
"""

from __future__ import annotations

import logging
import os
import socket
import struct
import threading
import time

from dimse.holding import QUERY_RETRIEVE, Holding
from dimse.part10 import EXPLICIT, IMPLICIT
from dimse.places import Place, Places
from dimse.query_retrieve import QueryRetrieve
from dimse.upper_layer import (
    APPLICATION_CONTEXT,
    ASSOCIATE_AC,
    ASSOCIATE_RJ,
    ASSOCIATE_RQ,
    ITEM_ABSTRACT,
    ITEM_AGREED,
    ITEM_APPLICATION,
    ITEM_PROPOSED,
    ITEM_ROLE,
    ITEM_SYNTAX,
    ITEM_USER,
    MOST_CONTEXTS,
    Begin,
    BrokenError,
    item,
    items,
    text,
    user_information,
)

_LOG = logging.getLogger("dimse.receive")


class StorageSCP:
    """Listens, and gives each association a thread of its own."""

    def __init__(
        self,
        title: str,
        callers: tuple[str, ...],
        begin: Begin,
        seconds: float,
        most_associations: int = 64,
        holding: Holding | None = None,
        request_seconds: float = 10,
    ) -> None:
        """`begin` is called for each instance that comes; no `callers` are all; `seconds` of silence end an association.

        A connection has `request_seconds` to send its whole request for one (ARTIM, PS3.8 9.1.5).
        """
        self._title = title
        self._callers = callers
        self._begin = begin
        self._seconds = seconds
        self._holding = holding
        self._request_seconds = request_seconds
        self._places = Places(most_associations)

    def listen(self, host: str, port: int) -> None:
        """Take associations from now on; raise OSError where the port is taken."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=family, backlog=64)
        threading.Thread(target=self._accept, args=(listener,), name="scp", daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        try:
            while True:
                self._accept_one(listener)
        except BaseException:
            # A service whose port is dead must not look alive: whoever started it starts it again.
            _LOG.critical("no association can be accepted any more", exc_info=True)
            os._exit(1)

    def _accept_one(self, listener: socket.socket) -> None:
        try:
            connection, (peer, *_) = listener.accept()
        except OSError as error:
            _LOG.warning("an association could not be accepted: %s", error)
            # No more files may be open: others must end first.
            time.sleep(0.1)
            return
        place = self._places.enter(peer)
        if not place:
            _LOG.warning("a connection of %s is closed: too many of its connections ask for nothing", peer)
            connection.close()
            return
        try:
            threading.Thread(target=self._serve, args=(connection, place), name="association", daemon=True).start()
        except RuntimeError as error:
            _LOG.warning("a connection of %s is closed: %s", peer, error)
            place.leave()
            connection.close()

    def _serve(self, connection: socket.socket, place: Place) -> None:
        try:
            with connection:
                _Acceptor(
                    connection,
                    self._seconds,
                    self._begin,
                    self._title,
                    self._callers,
                    place,
                    self._holding,
                    self._request_seconds,
                ).run()
        except OSError as error:
            _LOG.warning("an association broke: %s", error)
        finally:
            place.leave()


class _Acceptor(QueryRetrieve):
    """One association, from its request to its release."""

    def __init__(
        self,
        connection: socket.socket,
        seconds: float,
        begin: Begin,
        title: str,
        callers: tuple[str, ...],
        place: Place,
        holding: Holding | None,
        request_seconds: float,
    ) -> None:
        super().__init__(connection, seconds, begin, title, holding)
        self._callers = callers
        self._place = place
        self._request_seconds = request_seconds
        self._called = ""

    def run(self) -> None:
        try:
            if self._associate():
                while self._take():
                    self.serve_requests()
            self._forget()
            self._await_close()
        except (BrokenError, struct.error, ValueError, IndexError) as error:
            _LOG.warning("association of %s aborted: %s", self._calling, error or type(error).__name__)
            # Source: the service provider; reason: unexpected or invalid PDU (PS3.8 9.3.8).
            self.abort(2, 2)

    def _associate(self) -> bool:
        """Answer the request for an association (PS3.8 9.3.2, 9.3.3, 9.3.4); return whether it was accepted."""
        with self.within(self._request_seconds):
            kind, length = self._read_header()
            if kind != ASSOCIATE_RQ or length < 68:
                raise BrokenError(f"not a request for an association (PDU type {kind}, {length} bytes)")
            request = self._read_association(length)
        self._called, self._calling = (text(memoryview(request)[start : start + 16]).strip() for start in (4, 20))
        rejection = self._rejection()
        if rejection:
            self._send(ASSOCIATE_RJ, bytes((0, *rejection)))
            return False
        further = b""
        received: set[str] = set()
        proposed: list[memoryview] = []
        for kind, content in items(memoryview(request)[68:]):
            if kind == ITEM_PROPOSED:
                proposed.append(content)
                if len(proposed) > MOST_CONTEXTS:
                    raise BrokenError(f"more than {MOST_CONTEXTS} presentation contexts")
            if kind == ITEM_USER:
                for what, detail in self._read_user_information(content):
                    if what == ITEM_ROLE and self._holding:
                        further += item(ITEM_ROLE, bytes(detail))
                        received |= {text(detail[2:-2])} if detail[-1] else set()
        contexts = b"".join(self._agree(content, received) for content in proposed)
        application = item(ITEM_APPLICATION, APPLICATION_CONTEXT.encode())
        self._send(ASSOCIATE_AC, bytes(request[:68]) + application + contexts + user_information(further))
        return True

    def _rejection(self) -> tuple[int, int, int] | None:
        """Return result, source and reason (PS3.8 table 9-21) of why the association is rejected, or nothing."""
        if not self._place.associate():
            return 2, 3, 2
        if self._called != self._title:
            return 1, 1, 7
        if self._callers and self._calling not in self._callers:
            return 1, 1, 3
        return None

    def _agree(self, content: memoryview, received: set[str]) -> bytes:
        """Accept a presentation context in the first transfer syntax that it proposes: the sender's own.

        Where what is here goes to the requester, one that anything can be brought into is preferred.
        """
        context = content[0]
        names = [(kind, text(value)) for kind, value in items(content[4:])]
        sop_class = next((name for kind, name in names if kind == ITEM_ABSTRACT), "")
        syntaxes = [name for kind, name in names if kind == ITEM_SYNTAX]
        preferred = (EXPLICIT, IMPLICIT) if sop_class in received or sop_class in QUERY_RETRIEVE else ()
        syntax = next((each for each in preferred if each in syntaxes), next(iter(syntaxes), ""))
        self._syntaxes[context] = syntax
        self._agreed.setdefault(sop_class, []).append(context)
        return item(ITEM_AGREED, bytes((context, 0, 0, 0)) + item(ITEM_SYNTAX, syntax.encode()))
