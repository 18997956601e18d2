"""How many connections an acceptor has at once: those that have not asked for an association yet, and associations."""

from __future__ import annotations

import threading
from collections import Counter


class Places:
    """Places for associations, and before them for connections whose request isn't whole: some of each peer, some in all."""

    def __init__(self, most_associations: int, most_waiting: int = 256, most_waiting_of_peer: int = 32) -> None:
        self._most_associations = most_associations
        self._most_waiting = most_waiting
        self._most_waiting_of_peer = most_waiting_of_peer
        self._lock = threading.Lock()
        self._waiting: Counter[str] = Counter()
        self._associations = 0

    def enter(self, peer: str) -> Place | None:
        """Return a place for a new connection of a peer (its address), None where it has too many that ask for nothing."""
        with self._lock:
            if self._waiting.total() >= self._most_waiting or self._waiting[peer] >= self._most_waiting_of_peer:
                return None
            self._waiting[peer] += 1
        return Place(self, peer)

    def _leave_waiting(self, peer: str) -> None:
        with self._lock:
            self._waiting[peer] -= 1
            if not self._waiting[peer]:
                del self._waiting[peer]

    def _take(self) -> bool:
        with self._lock:
            if self._associations >= self._most_associations:
                return False
            self._associations += 1
            return True

    def _give_back(self) -> None:
        with self._lock:
            self._associations -= 1


class Place:
    """The place of one connection."""

    def __init__(self, places: Places, peer: str) -> None:
        self._places, self._peer = places, peer
        self._is_waiting, self._is_association = True, False

    def associate(self) -> bool:
        """Say that its request has come; return whether there is a place for an association."""
        self._stop_waiting()
        self._is_association = self._places._take()
        return self._is_association

    def leave(self) -> None:
        """Give it back, once the connection is closed."""
        self._stop_waiting()
        if self._is_association:
            self._is_association = False
            self._places._give_back()

    def _stop_waiting(self) -> None:
        if self._is_waiting:
            self._is_waiting = False
            self._places._leave_waiting(self._peer)
