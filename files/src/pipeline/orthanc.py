"""Orthanc's REST API, as far as a follower of its studies needs it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import requests

_FORBIDDEN = (401, 403)
# Seconds between two looks at a job.
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.02, 0.5


class OrthancAwayError(Exception):
    """Orthanc can't be reached, or is not able to answer now: nothing is wrong with what was asked."""


class GoneError(Exception):
    """Orthanc has no such resource, or no longer."""


class RefusedError(Exception):
    """Orthanc answered with the HTTP status `status`, and didn't do it; the text is its own."""

    def __init__(self, text: str, status: int) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True)
class Study:
    """A study in Orthanc; `last_update` is when its last instance came, in Orthanc's form."""

    id: str
    uid: str
    patient_id: str
    last_update: str
    is_stable: bool


@dataclass(frozen=True)
class Instance:
    """An instance in Orthanc. `file` names one stored version of it: another, after it was overwritten. `size` is in bytes."""

    id: str
    uid: str
    series_uid: str
    file: str
    size: int


@dataclass(frozen=True)
class Changes:
    """A page of the change feed: what happened, as (type, id), the place after it, and whether there is no more.

    Orthanc removes from the feed what happened to what is deleted. `dates` are by the places of what is left.
    """

    events: tuple[tuple[str, str], ...]
    place: int
    is_last: bool
    dates: dict[int, str]


class Orthanc:
    """One Orthanc. Every method raises OrthancAwayError where it can't answer."""

    def __init__(
        self,
        url: str,
        user: str = "",
        password: str = "",
        certificates: str = "",
        connect_seconds: float = 5,
        answer_seconds: float = 60,
    ) -> None:
        self.url = url.rstrip("/")
        self._timeout = (connect_seconds, answer_seconds)
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.auth = (user, password) if user else None
        self._session.verify = certificates or True
        adapter = requests.adapters.HTTPAdapter(pool_maxsize=32)
        self._session.mount("http://", adapter)
        self._session.mount("https://", adapter)

    def _ask(self, method: str, path: str, seconds: float | None = None, **options: Any) -> requests.Response:
        timeout = (self._timeout[0], seconds or self._timeout[1])
        try:
            answer = self._session.request(method, f"{self.url}{path}", timeout=timeout, **options)
        except requests.RequestException as error:
            raise OrthancAwayError(f"{self.url}: {_cause(error)}") from None
        if answer.status_code == 404:
            raise GoneError(path)
        if not answer.ok:
            raise RefusedError(_said(answer), answer.status_code)
        return answer

    def _get(self, path: str, **parameters: Any) -> Any:
        try:
            return self._ask("GET", path, params=parameters).json()
        except RefusedError as error:
            if error.status in _FORBIDDEN:
                raise OrthancAwayError(f"{self.url} refuses the user ({error.status}): correct user and password") from None
            # Reading refuses nobody else: it is Orthanc's database or disk that is away.
            raise OrthancAwayError(f"{self.url}{path}: {error}") from None
        except requests.JSONDecodeError:
            raise OrthancAwayError(f"{self.url}{path} is not Orthanc's: its answer is no JSON") from None

    def changes(self, place: int, limit: int = 1000) -> Changes:
        """Return what happened after `place` of the change feed, oldest first."""
        return _changes(self._get("/changes", since=place, limit=limit))

    def last_change(self) -> int:
        """Return the newest place of the change feed."""
        return int(self._get("/changes?last")["Last"])

    def instance_count(self) -> int:
        """Return how many instances there are."""
        return int(self._get("/statistics")["CountInstances"])

    def instance_count_of(self, study: str) -> int:
        """Return how many instances a study has; raise GoneError where it isn't there."""
        return int(self._get(f"/studies/{study}/statistics")["CountInstances"])

    def studies(self, page_size: int = 500) -> Iterator[list[Study]]:
        """Yield all studies in pages; one that comes or goes meanwhile may be missed."""
        since = 0
        while page := self._get("/studies", since=since, limit=page_size, expand=""):
            yield [_study(entry) for entry in page]
            since += len(page)

    def study(self, study: str) -> Study:
        """Return a study; raise GoneError where it isn't there."""
        return _study(self._get(f"/studies/{study}"))

    def study_of(self, instance: str) -> str:
        """Return the study that an instance is of; raise GoneError where it isn't there."""
        return str(self._get(f"/instances/{instance}/study")["ID"])

    def instances(self, study: str) -> list[Instance]:
        """Return what a study holds; raise GoneError where it isn't there."""
        series = {
            entry["ID"]: entry["MainDicomTags"].get("SeriesInstanceUID", "") for entry in self._get(f"/studies/{study}/series")
        }
        found = []
        for entry in self._get(f"/studies/{study}/instances", expand=""):
            uid, series_uid = entry["MainDicomTags"].get("SOPInstanceUID", ""), series.get(entry["ParentSeries"], "")
            found.append(Instance(entry["ID"], uid, series_uid, entry["FileUuid"], int(entry["FileSize"])))
        return found

    def instance_file(self, instance: str) -> str:
        """Return which version of an instance is stored; raise GoneError where none is."""
        return str(self._get(f"/instances/{instance}")["FileUuid"])

    def metadata(self, instance: str) -> dict[str, str]:
        """Return Orthanc's own notes on an instance, among them SopClassUid, TransferSyntax and RemoteAET."""
        return dict(self._get(f"/instances/{instance}/metadata", expand=""))

    def tags(self, instance: str) -> dict[str, Any]:
        """Return the dataset of an instance by keywords, without its pixels."""
        return dict(self._get(f"/instances/{instance}/simplified-tags"))

    def delete_instance(self, instance: str) -> None:
        """Delete one instance; that it is gone already is no error."""
        try:
            self._ask("DELETE", f"/instances/{instance}")
        except GoneError:
            pass
        except RefusedError as error:
            raise OrthancAwayError(f"{self.url}: {error}") from None

    def stow(self, server: str, instances: list[str], seconds: float) -> None:
        """Send instances to a DICOMweb server that the plugin knows by name (PS3.18 10.5); raise RefusedError where that failed.

        As a job of Orthanc's that is looked at often: the plugin's own waiting goes by half seconds, and doesn't say what is wrong.
        """
        answer = self._by_plugin(server, "stow", {"Resources": instances, "Asynchronous": True}, self._timeout[1])
        path = f"/jobs/{answer.json()['ID']}"
        deadline = time.monotonic() + seconds
        pause = _SHORTEST_PAUSE
        while True:
            try:
                job = self._get(path)
            except GoneError:
                raise RefusedError(f"{server}: Orthanc was restarted meanwhile", 500) from None
            if job["State"] == "Success":
                return
            if job["State"] == "Failure":
                raise RefusedError(f"{server}: {job.get('ErrorDetails') or job['ErrorDescription']}", 500)
            if time.monotonic() > deadline:
                with contextlib.suppress(GoneError, RefusedError):
                    self._ask("POST", f"{path}/cancel", json={})
                raise RefusedError(f"{server}: not sent within {seconds:.0f} s", 504)
            time.sleep(pause)
            pause = min(pause * 1.2, _LONGEST_PAUSE)

    def ask_server(self, server: str, path: str, arguments: dict[str, str], seconds: float) -> Any:
        """Return what such a server answers to a search (PS3.18 10.6), as DICOM JSON; raise RefusedError where it doesn't."""
        body = {"Uri": path, "Arguments": arguments, "HttpHeaders": {"Accept": "application/dicom+json"}}
        answer = self._by_plugin(server, "get", body, seconds)
        # A search without a match may be answered with nothing (204).
        try:
            return answer.json() if answer.content else []
        except requests.JSONDecodeError:
            raise RefusedError(f"{server} answers a search with what is no JSON", answer.status_code) from None

    def delete_at_server(self, server: str, study: str, series: str, instance: str, seconds: float) -> None:
        """Have such a server delete a study, one of its series, or an instance of that; raise RefusedError where it doesn't.

        A server that has no such thing refuses it, too.
        """
        uids = {"StudyInstanceUID": study, "SeriesInstanceUID": series, "SOPInstanceUID": instance}
        level = "Instance" if instance else "Series" if series else "Study"
        self._by_plugin(server, "delete", {"Level": level} | {name: uid for name, uid in uids.items() if uid}, seconds)

    def _by_plugin(self, server: str, what: str, body: dict[str, Any], seconds: float) -> requests.Response:
        try:
            return self._ask("POST", f"/dicom-web/servers/{server}/{what}", seconds, json=body)
        except GoneError:
            raise RefusedError(f"DicomWeb.Servers of {self.url} doesn't name {server}, or its Url is wrong (404)", 404) from None
        except RefusedError as error:
            if error.status in _FORBIDDEN:
                raise RefusedError(f"{server} refuses the user or the certificate ({error.status})", error.status) from None
            raise RefusedError(f"{server}: {error}", error.status) from None


def _changes(page: dict[str, Any]) -> Changes:
    listed = page["Changes"]
    events = tuple((event["ChangeType"], event["ID"]) for event in listed)
    return Changes(events, page["Last"], page["Done"], {event["Seq"]: event["Date"] for event in listed})


def _study(entry: dict[str, Any]) -> Study:
    return Study(
        entry["ID"],
        entry["MainDicomTags"].get("StudyInstanceUID", ""),
        entry.get("PatientMainDicomTags", {}).get("PatientID", ""),
        entry["LastUpdate"],
        entry["IsStable"],
    )


def _said(answer: requests.Response) -> str:
    try:
        body = answer.json()
        return (
            " ".join(filter(None, [str(body.get("Message", "")), str(body.get("Details", ""))])) or f"status {answer.status_code}"
        )
    except (requests.JSONDecodeError, AttributeError):
        return f"status {answer.status_code}"


def _cause(error: requests.RequestException) -> str:
    if isinstance(error, requests.ConnectTimeout | requests.ReadTimeout):
        return "no answer in time"
    if isinstance(error, requests.exceptions.SSLError):
        return "its certificate isn't trusted"
    return "no connection" if isinstance(error, requests.ConnectionError) else type(error).__name__
