"""The checks themselves: each returns what it saw, or raises Failed with what to look at."""

from __future__ import annotations

import io
import secrets
import socket
import ssl
import uuid
from datetime import datetime, timezone
from typing import Any

import pydicom
import requests
import urllib3
from cryptography import x509
from dimse.association import steady
from pydicom.dataset import Dataset
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.sop_class import (
    CTImageStorage,
    StudyRootQueryRetrieveInformationModelFind,
    Verification,
)

from site_verify.instance import made
from site_verify.settings import Settings

TIMEOUT = 30
DICOM_JSON = "application/dicom+json"


class Failed(Exception):  # noqa: N818 - it is the verdict of a check, not an error of this program
    """A check that didn't hold; the message says what was seen and where to look."""


class Site:
    """A site under check. The methods whose names begin with `check_` are run in the order in which they stand."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.web = requests.Session()
        # Proxies and authorities of the machine that runs this are not the site's.
        self.web.trust_env = False
        # check_tls judges the certificate; what follows must work with a self-signed one too.
        self.web.verify = False
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
        if settings.access == "basic":
            self.web.auth = (settings.user, settings.password)
        if settings.access == "client_certificate":
            self.web.cert = (settings.client_certificate, settings.client_key)
        self.by_dimse = made(settings.dimse_study)
        self.by_web = made(settings.web_study)

    def get(self, path: str, accept: str = DICOM_JSON) -> requests.Response:
        """Return the answer to a GET below /dicom-web; raise Failed for any other status than 200."""
        answer = self.web.get(self.settings.url(f"/dicom-web{path}"), headers={"Accept": accept}, timeout=TIMEOUT)
        if answer.status_code != 200:
            raise Failed(f"GET {path} answers {answer.status_code}: see playbooks/logs.yml for nginx and Orthanc")
        return answer

    def associate(self, context: str) -> Association:
        """Return an association with the archive; raise Failed where none comes about."""
        entity = AE(ae_title=self.settings.verify_aet or "VERIFY")
        entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = entity.connection_timeout = TIMEOUT
        entity.add_requested_context(context)
        settings = self.settings
        association = steady(entity.associate(settings.dicom_host, settings.dicom_port, ae_title=settings.aet))
        if not association.is_established:
            raise Failed(
                f"no association with {settings.aet} at {settings.dicom_host}:{settings.dicom_port}: is orthanc@ running, "
                "is the port open to this machine (site_dicom_networks)?"
            )
        return association

    def check_tls(self) -> str:
        """TLS 1.2 or 1.3, nothing older, and a certificate that is valid."""
        address = (self.settings.host, self.settings.https_port)
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        if self.settings.access == "client_certificate":
            context.load_cert_chain(self.settings.client_certificate, self.settings.client_key)
        with socket.create_connection(address, TIMEOUT) as plain, context.wrap_socket(plain) as secured:
            version, encoded = secured.version(), secured.getpeercert(binary_form=True)
        certificate = x509.load_der_x509_certificate(encoded or b"")
        left = (certificate.not_valid_after_utc - datetime.now(timezone.utc)).days
        if left < 0:
            raise Failed(f"the certificate expired on {certificate.not_valid_after_utc:%Y-%m-%d}: renew it (nginx_certificate)")
        if left < self.settings.warning_days:
            raise Failed(f"the certificate ends in {left} days: renew it (nginx_certificate, nginx_certificate_warning_days)")
        old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        old.check_hostname = False
        old.verify_mode = ssl.CERT_NONE
        old.minimum_version = ssl.TLSVersion.TLSv1
        old.maximum_version = ssl.TLSVersion.TLSv1_1
        old.set_ciphers("ALL:@SECLEVEL=0")
        try:
            with socket.create_connection(address, TIMEOUT) as plain, old.wrap_socket(plain):
                raise Failed("TLS 1.1 is accepted: something else than this site's nginx holds the port")
        except (ssl.SSLError, ConnectionResetError):
            pass
        return f"{version}, certificate for {left} more days"

    def check_http(self) -> str:
        """Plain HTTP does what nginx_http says."""
        wanted, url = self.settings.http, self.settings.url("/dicom-web/studies?limit=1", "http")
        try:
            # A firewall that drops lets one wait: a port that should be off isn't waited for.
            patience = (3, TIMEOUT) if wanted == "off" else TIMEOUT
            status = self.web.get(url, timeout=patience, allow_redirects=False).status_code
        except requests.ConnectionError:
            if wanted == "off":
                return "off, as nginx_http says"
            raise Failed(f"port {self.settings.http_port} doesn't answer, nginx_http is {wanted}") from None
        if wanted == "off" or (wanted == "redirect") != (status == 308):
            raise Failed(f"port {self.settings.http_port} answers {status}, nginx_http is {wanted}")
        return f"{wanted}, answers {status}"

    def check_access(self) -> str:
        """Who doesn't show what nginx_access asks for is turned away."""
        if self.settings.access == "none":
            return "open to whoever reaches the ports (nginx_access: none)"
        stranger = requests.Session()
        stranger.trust_env = False
        try:
            status = stranger.get(self.settings.url("/dicom-web/studies?limit=1"), timeout=TIMEOUT, verify=False).status_code
        except requests.exceptions.SSLError:
            return "a stranger's handshake is refused"
        if status not in (400, 401):
            raise Failed(f"a stranger's request is answered {status}, nginx_access is {self.settings.access}")
        return f"a stranger gets {status}"

    def check_c_echo(self) -> str:
        """C-ECHO."""
        association = self.associate(Verification)
        status = association.send_c_echo()
        association.release()
        return self.succeeded("C-ECHO", status)

    def check_c_store(self) -> str:
        """C-STORE of one instance."""
        association = self.associate(CTImageStorage)
        status = association.send_c_store(self.by_dimse)
        association.release()
        return self.succeeded("C-STORE", status)

    def check_c_find(self) -> str:
        """C-FIND finds what C-STORE stored."""
        if not self.settings.verify_aet:
            return "not tried: orthanc_verify_aet is empty"
        association = self.associate(StudyRootQueryRetrieveInformationModelFind)
        query = Dataset()
        query.QueryRetrieveLevel = "STUDY"
        query.StudyInstanceUID = self.settings.dimse_study
        query.PatientID = ""
        answers = list(association.send_c_find(query, StudyRootQueryRetrieveInformationModelFind))
        association.release()
        found = [identifier.PatientID for status, identifier in answers if identifier is not None]
        if found != [self.by_dimse.PatientID]:
            raise Failed(
                f"C-FIND for the stored study answers {found or 'nothing'}: is {self.settings.verify_aet} in DicomModalities?"
            )
        return "1 study"

    def check_stow(self) -> str:
        """STOW-RS of one instance (PS3.18 10.5)."""
        part = io.BytesIO()
        self.by_web.save_as(part, enforce_file_format=True)
        boundary = uuid.uuid4().hex
        body = (
            f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
            + part.getvalue()
            + f"\r\n--{boundary}--\r\n".encode()
        )
        answer = self.web.post(
            self.settings.url("/dicom-web/studies"),
            data=body,
            headers={
                "Content-Type": f'multipart/related; type="application/dicom"; boundary={boundary}',
                "Accept": DICOM_JSON,
            },
            timeout=TIMEOUT,
        )
        # Orthanc's DICOMweb plugin answers 200 also where it stored nothing: the body tells.
        if answer.status_code != 200 or "00081199" not in answer.json() or answer.json().get("00081198", {}).get("Value"):
            raise Failed(f"STOW-RS answers {answer.status_code} and stored nothing: see playbooks/logs.yml for Orthanc")
        return "1 instance"

    def check_qido(self) -> str:
        """QIDO-RS finds both studies (PS3.18 10.6)."""
        for study in (self.settings.dimse_study, self.settings.web_study):
            found = self.get(f"/studies?StudyInstanceUID={study}").json()
            if [item["0020000D"]["Value"] for item in found] != [[study]]:
                raise Failed(f"QIDO-RS finds {len(found)} studies where one was stored")
        return "2 studies"

    def check_wado(self) -> str:
        """WADO-RS gives both instances back as they were stored (PS3.18 10.4)."""
        for stored in (self.by_dimse, self.by_web):
            path = f"/studies/{stored.StudyInstanceUID}/series/{stored.SeriesInstanceUID}/instances/{stored.SOPInstanceUID}"
            answer = self.get(path, 'multipart/related; type="application/dicom"')
            content = answer.content.split(b"\r\n\r\n", 1)[1].rsplit(b"\r\n--", 1)[0]
            if pydicom.dcmread(io.BytesIO(content)) != stored:
                raise Failed("WADO-RS gives another dataset than was stored")
            self.get(f"{path}/rendered", "image/jpeg")
            url = self.get(f"{path}/metadata").json()[0].get("00081190", {}).get("Value", [self.settings.url("")])[0]
            if not url.startswith(self.settings.url("")):
                raise Failed(f"WADO-RS names {url}, which isn't the address that was asked")
        return "2 instances, equal"

    def check_ups(self) -> str:
        """UPS-RS searches, and a subscription names a channel that this client can reach (PS3.18 11.9, 11.10); both are undone."""
        if self.settings.worklist != "yes":
            return "the site has no worklist service"
        found = len(self.get("/workitems?limit=1").json())
        subscriber = f"/dicom-web/workitems/1.2.840.10008.5.1.4.34.5/subscribers/VERIFY{secrets.token_hex(4).upper()}"
        answer = self.web.post(self.settings.url(subscriber), timeout=TIMEOUT)
        if answer.status_code != 201:
            raise Failed(f"UPS-RS answers a subscription with {answer.status_code}: {answer.text[:200]}")
        channel = answer.headers.get("Content-Location", "")
        ended = self.web.delete(self.settings.url(subscriber), timeout=TIMEOUT).status_code
        expected = self.settings.url("/dicom-web/ws/subscribers/").replace("http", "ws", 1)
        if ended != 200 or not channel.startswith(expected):
            raise Failed(f"UPS-RS names the channel {channel}, not one below {expected}, and ends the subscription with {ended}")
        return f"search, subscription; {'there are' if found else 'no'} workitems"

    def check_pipeline(self) -> str:
        """Services of the pipeline answer and reach what they work with, and no study was set aside."""
        if self.settings.pipeline != "yes":
            return "the site has no pipeline"
        answer = self.web.get(self.settings.url("/pipeline/pipeline"), timeout=TIMEOUT)
        if answer.status_code != 200:
            raise Failed(f"/pipeline/ answers {answer.status_code}: see playbooks/logs.yml for pipeline-monitor")
        state = answer.json()
        broken = [f"{part['name']}: {part['error']}" for part in state["parts"] if part["error"]]
        if broken:
            raise Failed("; ".join(broken))
        counts = state["counts"]
        if counts["failed"]["studies"]:
            raise Failed(f"{counts['failed']['studies']} studies were set aside: pipeline-monitor status has the reasons")
        return f"{counts['extracted']['studies']} studies extracted, {counts['waiting']['studies']} waiting"

    def check_static(self) -> str:
        """Search static DICOMweb, and fetch the metadata of what is found."""
        if not self.settings.static:
            return "the site has no static DICOMweb"
        address = self.settings.url(f"{self.settings.static}/studies?limit=1")
        answer = self.web.get(address, headers={"Accept": DICOM_JSON}, timeout=TIMEOUT)
        if answer.status_code not in (200, 204):
            raise Failed(f"{address} answers {answer.status_code}: see playbooks/logs.yml for static-dicomweb")
        if answer.status_code == 204:
            return "search; there are no studies"
        study = self.settings.url(f"{self.settings.static}/studies/{answer.json()[0]['0020000D']['Value'][0]}/metadata")
        if not self.web.get(study, headers={"Accept": DICOM_JSON}, timeout=TIMEOUT).json():
            raise Failed(f"{study} has no instance: mkdicomweb rebuild")
        return "search, metadata"

    @staticmethod
    def succeeded(service: str, status: Any) -> str:
        """Return "success" for a DIMSE status of 0; raise Failed for any other."""
        if not status or status.Status != 0:
            raise Failed(f"{service} answers {hex(status.Status) if status else 'nothing'}: see playbooks/logs.yml for Orthanc")
        return "success"
