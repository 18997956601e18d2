"""Clients as every site has them, who go on while others attack it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from datasets import named, of_kind
from dimse_client import Archive
from hosts import Host
from pydicom.uid import generate_uid
from web import Web
from worklist_client import Client, new_uid, workitem

EVERY_SECONDS = 0.5


@dataclass(frozen=True)
class Answer:
    """What came of one thing that an ordinary client asked."""

    kind: str
    begun: float
    seconds: float
    problem: str


class Habit(threading.Thread):
    """Asks the same twice a second; `ask` raises where it isn't answered as it should be."""

    def __init__(self, kind: str, ask: Callable[[], None]) -> None:
        super().__init__(name=kind, daemon=True)
        self.kind, self._ask = kind, ask
        self.answers: list[Answer] = []
        self.stop = threading.Event()

    def run(self) -> None:
        while not self.stop.is_set():
            begun, problem = time.monotonic(), ""
            try:
                self._ask()
            except Exception as error:
                problem = f"{type(error).__name__}: {error}"
            seconds = time.monotonic() - begun
            self.answers.append(Answer(self.kind, begun, seconds, problem))
            self.stop.wait(EVERY_SECONDS - seconds)


class OrdinaryClients:
    """One client of each kind: searches of three archives, C-ECHO, C-STORE, and a workitem."""

    def __init__(self, host: Host, directory: Path) -> None:
        self._host = host
        self.study = generate_uid(prefix=None)
        self._series = generate_uid(prefix=None)
        self._image = of_kind("ct", directory).dataset
        self.stored: list[str] = []
        self.workitems: list[str] = []
        web, proxy, worklist = Web(f"https://{host.address}:9443"), Web(f"http://{host.address}:3006"), Client(host.web.url(""))
        archive, scp = Archive(host.address), Archive(host.address, 11115, "DICOMWEBSCP")

        def search(of: Web, path: str) -> None:
            assert of.get(path).status_code in (200, 204)

        def echo(peer: Archive) -> None:
            assert peer.echo() == 0

        def store() -> None:
            image = named(self._image, self.study, self._series)
            assert archive.store(image) == 0
            self.stored.append(str(image.SOPInstanceUID))

        def create() -> None:
            uid = new_uid()
            answer = worklist.create(workitem(), uid)
            assert answer.status_code == 201, answer.text
            self.workitems.append(uid)

        self.habits = [
            Habit("QIDO-RS", lambda: search(web, "/studies?limit=1")),
            Habit("QIDO-RS of static DICOMweb", lambda: search(web, "~/static-dicomweb/studies?limit=1")),
            Habit("QIDO-RS by the proxy", lambda: search(proxy, "~/studies?limit=1")),
            Habit("C-ECHO", lambda: echo(archive)),
            Habit("C-ECHO of dicomwebscp", lambda: echo(scp)),
            Habit("C-STORE", store),
            Habit("workitem", create),
        ]

    @contextmanager
    def at_work(self) -> Iterator[OrdinaryClients]:
        for habit in self.habits:
            habit.start()
        try:
            yield self
        finally:
            for habit in self.habits:
                habit.stop.set()
            for habit in self.habits:
                habit.join()

    def answers(self, begun: float, count: int = 2) -> list[Answer]:
        """Return what was asked since a time and is answered, when each of them has had so many answers."""
        while True:
            answers = [answer for habit in self.habits for answer in list(habit.answers) if answer.begun >= begun]
            kinds = [answer.kind for answer in answers]
            if all(kinds.count(habit.kind) >= count for habit in self.habits):
                return answers
            time.sleep(0.05)

    def lost(self) -> list[str]:
        """Return what was acknowledged and isn't there."""
        found = self._host.web.found("/instances", StudyInstanceUID=self.study, limit="100000")
        there = {instance["00080018"]["Value"][0] for instance in found}
        worklist = Client(self._host.web.url(""))
        return [uid for uid in self.stored if uid not in there] + [
            uid for uid in self.workitems if worklist.retrieve(uid).status_code != 200
        ]
