"""Associations that don't wait for Nagle's algorithm, and hear the answers to what they ask."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterable
from typing import Any

from pydicom.config import IGNORE, settings
from pynetdicom import AE, _config, evt
from pynetdicom.association import Association
from pynetdicom.events import Event

from dimse.upper_layer import MAXIMUM_PDU

# Datasets are taken as they are: what an archive holds isn't always what the standard wants.
_config.ENFORCE_UID_CONFORMANCE = False
settings.reading_validation_mode = settings.writing_validation_mode = IGNORE
# Else each message is made into text for a log that nobody keeps.
_config.LOG_HANDLER_LEVEL = "none"


def _without_delay(event: Event) -> None:
    transport = event.assoc.dul.socket
    if transport and transport.socket:
        transport.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


# Else each small message waits for an acknowledgement, 40 ms.
_WITHOUT_DELAY = (evt.EVT_CONN_OPEN, _without_delay)


class _Checkpoint:
    """Where an association's own thread waits while another one sends and receives, in the place of pynetdicom's Event.

    With that the other may go on although the thread has just passed: on a busy machine it then takes the answer for a request and
    drops it, and the answer is waited for in vain.
    """

    def __init__(self, thread: threading.Thread) -> None:
        self._thread = thread
        self._turn = threading.Condition()
        self._is_open = True
        self._is_waiting = False

    def set(self) -> None:
        """Let the thread pass."""
        with self._turn:
            self._is_open = True
            self._turn.notify_all()

    def clear(self) -> None:
        """Stop the thread, and return when it waits, or has ended."""
        with self._turn:
            self._is_open = False
            if threading.current_thread() is self._thread:
                return
            while not (self._is_waiting or self._is_open) and self._thread.is_alive():
                self._turn.wait(0.05)

    def wait(self) -> None:
        """Wait until it is let pass."""
        with self._turn:
            self._is_waiting = True
            self._turn.notify_all()
            while not self._is_open:
                self._turn.wait()
            self._is_waiting = False


def steady(association: Association) -> Association:
    """Return an association that has just been made, with answers that no other thread takes."""
    association._reactor_checkpoint = _Checkpoint(association)
    return association


def associate(entity: AE, host: str, port: int, called: str, handlers: Iterable[Any] = (), **options: Any) -> Association:
    """Return an association with `called`; raise ConnectionError that says who refuses it. `options` are pynetdicom's."""
    association = steady(
        entity.associate(
            host, port, ae_title=called, max_pdu=entity.maximum_pdu_size, evt_handlers=[_WITHOUT_DELAY, *handlers], **options
        )
    )
    if not association.is_established:
        why = "rejects the association of" if association.is_rejected else "doesn't answer"
        raise ConnectionError(f"{called} at {host}:{port} {why} {entity.ae_title}")
    return association


def make_ae(title: str, seconds: float) -> AE:
    """Return an application entity whose associations end after so many seconds of silence."""
    entity = AE(ae_title=title)
    entity.maximum_pdu_size = MAXIMUM_PDU
    entity.acse_timeout = entity.network_timeout = entity.dimse_timeout = seconds
    entity.connection_timeout = min(seconds, 10)
    return entity
