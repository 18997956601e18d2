"""A client of UPS-RS, as small as the standard allows, for the tests."""

from __future__ import annotations

import base64
import json
import ssl
import time
import uuid
from collections.abc import Callable, Iterable
from typing import Any

import requests
from websockets.sync.client import ClientConnection, connect

GLOBAL = "1.2.840.10008.5.1.4.34.5"
FILTERED = "1.2.840.10008.5.1.4.34.5.1"
JSON = {"Content-Type": "application/dicom+json"}

Dataset = dict[str, Any]


def new_uid() -> str:
    return f"2.25.{uuid.uuid4().int}"


def new_aetitle() -> str:
    return f"T{uuid.uuid4().hex[:12].upper()}"


def element(vr: str, *values: Any) -> Dataset:
    return {"vr": vr, "Value": list(values)} if values else {"vr": vr}


def code(value: str, scheme: str = "99TEST", meaning: str = "test") -> Dataset:
    return {"00080100": element("SH", value), "00080102": element("SH", scheme), "00080104": element("LO", meaning)}


def workitem(**attributes: Any) -> Dataset:
    """A whole new workitem; further attributes as T00100010=element(...), those that are None are left out."""
    made = {
        "00081080": element("LO"),
        "00081084": element("SQ"),
        "00081195": element("UI"),
        "00100010": element("PN", {"Alphabetic": "Doe^Jane"}),
        "00100020": element("LO", "PAT-1"),
        "00100030": element("DA", "19700101"),
        "00100040": element("CS", "F"),
        "00101002": element("SQ"),
        "00380010": element("LO"),
        "00380014": element("SQ"),
        "00400400": element("LT"),
        "00404005": element("DT", "20261121093000"),
        "00404018": element("SQ", code("110005", "DCM", "Interpretation")),
        "00404021": element("SQ"),
        "00404025": element("SQ"),
        "00404026": element("SQ"),
        "00404027": element("SQ"),
        "00404041": element("CS", "READY"),
        "0040A370": element("SQ"),
        "00741000": element("CS", "SCHEDULED"),
        "00741002": element("SQ"),
        "00741200": element("CS", "MEDIUM"),
        "00741202": element("LO", "READING"),
        "00741204": element("LO", "Read the study"),
        "00741210": element("SQ"),
        "00741216": element("SQ"),
    }
    made |= {name[1:]: value for name, value in attributes.items()}
    return {tag: value for tag, value in made.items() if value is not None}


def performed() -> Dataset:
    """What a performer adds before he completes a workitem."""
    item = {
        "00404019": element("SQ", code("110005", "DCM", "Interpretation")),
        "00404028": element("SQ", code("STATION")),
        "00404033": element("SQ"),
        "00404050": element("DT", "20261121100000"),
        "00404051": element("DT", "20261121101500"),
    }
    return {"00741216": element("SQ", item)}


def discontinued() -> Dataset:
    """What a performer adds before he cancels a workitem."""
    return {"00741002": element("SQ", {"0074100E": element("SQ", code("110513", "DCM", "Discontinued for unspecified reason"))})}


class Client:
    """Requests to a worklist service at a base address, with or without a prefix."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.session = requests.Session()
        self.session.trust_env = False
        self.session.verify = False

    def create(self, dataset: Dataset, uid: str | None = None, **options: Any) -> requests.Response:
        options.setdefault("headers", JSON)
        return self.session.post(f"{self.url}/workitems{f'?workitem={uid}' if uid else ''}", data=json.dumps([dataset]), **options)

    def created(self, **attributes: Any) -> str:
        """Create a workitem and return its UID."""
        uid = new_uid()
        answer = self.create(workitem(**attributes), uid)
        assert answer.status_code == 201, answer.text
        return uid

    def retrieve(self, uid: str, **options: Any) -> requests.Response:
        return self.session.get(f"{self.url}/workitems/{uid}", **options)

    def dataset(self, uid: str) -> Dataset:
        answer = self.retrieve(uid)
        assert answer.status_code == 200, answer.text
        return answer.json()[0]

    def update(self, uid: str, changes: Dataset, transaction_uid: str | None = None) -> requests.Response:
        query = f"?transaction-uid={transaction_uid}" if transaction_uid else ""
        return self.session.post(f"{self.url}/workitems/{uid}{query}", data=json.dumps([changes]), headers=JSON)

    def change_state(self, uid: str, state: str, transaction_uid: str | None = None) -> requests.Response:
        body = {"00741000": element("CS", state)}
        body |= {"00081195": element("UI", transaction_uid)} if transaction_uid else {}
        return self.session.put(f"{self.url}/workitems/{uid}/state", data=json.dumps([body]), headers=JSON)

    def claimed(self, **attributes: Any) -> tuple[str, str]:
        """Create and claim a workitem; return its UID and the Transaction UID."""
        uid, transaction_uid = self.created(**attributes), new_uid()
        answer = self.change_state(uid, "IN PROGRESS", transaction_uid)
        assert answer.status_code == 200, answer.text
        return uid, transaction_uid

    def finished(self, state: str) -> tuple[str, str]:
        """Bring a workitem to COMPLETED or CANCELED; return its UID and the Transaction UID."""
        uid, transaction_uid = self.claimed()
        changes = performed() if state == "COMPLETED" else discontinued()
        assert self.update(uid, changes, transaction_uid).status_code == 200
        assert self.change_state(uid, state, transaction_uid).status_code == 200
        return uid, transaction_uid

    def in_state(self, state: str) -> tuple[str, str]:
        """Bring a workitem into a state; return its UID and the Transaction UID, a new one where it was never claimed."""
        if state == "SCHEDULED":
            return self.created(), new_uid()
        return self.claimed() if state == "IN PROGRESS" else self.finished(state)

    def request_cancellation(self, uid: str, body: Dataset | None = None, query: str = "") -> requests.Response:
        return self.session.post(
            f"{self.url}/workitems/{uid}/cancelrequest{query}",
            data=json.dumps([body]) if body else None,
            headers=JSON if body else {},
        )

    def search(self, query: str = "", **options: Any) -> requests.Response:
        return self.session.get(f"{self.url}/workitems{query}", **options)

    def found(self, query: str) -> list[str]:
        """Return the UIDs of the workitems that a search finds."""
        answer = self.search(query)
        assert answer.status_code == 200, answer.text
        return [dataset["00080018"]["Value"][0] for dataset in answer.json()]

    def subscribe(self, uid: str, aetitle: str, query: str = "") -> requests.Response:
        return self.session.post(f"{self.url}/workitems/{uid}/subscribers/{aetitle}{query}")

    def unsubscribe(self, uid: str, aetitle: str) -> requests.Response:
        return self.session.delete(f"{self.url}/workitems/{uid}/subscribers/{aetitle}")

    def suspend(self, uid: str, aetitle: str) -> requests.Response:
        return self.session.post(f"{self.url}/workitems/{uid}/subscribers/{aetitle}/suspend")

    def channel(self, aetitle: str) -> ClientConnection:
        """Open a subscriber's notification channel."""
        address = f"{self.url.replace('http', 'ws', 1)}/ws/subscribers/{aetitle}"
        headers = {}
        if isinstance(self.session.auth, tuple):
            headers["Authorization"] = "Basic " + base64.b64encode(":".join(self.session.auth).encode()).decode()
        context = None
        if address.startswith("wss"):
            authority = self.session.verify if isinstance(self.session.verify, str) else None
            context = ssl.create_default_context(cafile=authority)
            context.check_hostname = authority is not None
            context.verify_mode = ssl.CERT_REQUIRED if authority else ssl.CERT_NONE
        # Opened within a minute on a machine that is busy with everything else.
        return connect(address, ssl=context, additional_headers=headers, proxy=None, legacy=True, open_timeout=60)


def warning(answer: requests.Response) -> str | None:
    """Return the text of the Warning header, which must have its form."""
    header = answer.headers.get("Warning")
    if header is None:
        return None
    agent, _, text = header.removeprefix("299 ").partition(": ")
    assert header.startswith("299 http") and " " not in agent
    return text


def persist(request: Callable[[], requests.Response], done: int, already: int | None = None) -> None:
    """Repeat a request until it is answered with `done`, or, where an attempt's answer was lost, with what says that it was done.

    Without a database the service says 503; nginx says 502 or 504 where a worker was killed in the middle of a request.
    """
    for attempt in range(720):
        try:
            answer = request()
            status, said = answer.status_code, answer.text
        except requests.RequestException as error:
            # No answer, or one that broke off: its worker was killed while it wrote.
            status, said = 502, str(error)
        if status == done or (attempt and status == already):
            return
        assert status in (502, 503, 504), f"attempt {attempt}: {status} {said}"
        time.sleep(0.25)
    raise AssertionError(f"never answered: the last time {status} {said}")


Event = tuple[int, str, Dataset]


def events(channel: ClientConnection, count: int, timeout: float = 30, after: Iterable[Event] = ()) -> list[Event]:
    """Return the next events of a channel: type, workitem's UID, dataset.

    `after` are those that a former channel of the subscriber brought: what it hadn't confirmed when it was closed comes again, with
    the same Message ID.
    """
    known = {dataset["00000110"]["Value"][0] for _, _, dataset in after}
    made: list[Event] = []
    while len(made) < count:
        dataset = json.loads(channel.recv(timeout=timeout))
        if dataset["00000110"]["Value"][0] not in known:
            made.append((dataset["00001002"]["Value"][0], dataset["00001000"]["Value"][0], dataset))
    return made


def no_more(channel: ClientConnection, seconds: float = 0.5) -> bool:
    """Return whether no event comes for a while."""
    try:
        channel.recv(timeout=seconds)
    except TimeoutError:
        return True
    return False
