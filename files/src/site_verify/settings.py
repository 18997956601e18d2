"""What a check of a site is told: where it is, who may enter, and which studies it may store."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True)
class Settings:
    """One site. Ports are TCP.

    `http`: on, redirect, off; `access`: none, basic, client_certificate; `worklist`, `pipeline`: yes or empty;
    `static`: the path of static DICOMweb, or empty.
    """

    host: str
    https_port: int
    http_port: int
    http: str
    access: str
    dicom_host: str
    dicom_port: int
    aet: str
    dimse_study: str
    web_study: str
    user: str = ""
    password: str = ""
    client_certificate: str = ""
    client_key: str = ""
    verify_aet: str = "VERIFY"
    warning_days: int = 30
    worklist: str = ""
    pipeline: str = ""
    static: str = ""

    @classmethod
    def read(cls, given: dict[str, Any]) -> Settings:
        """Return the settings; raise ValueError that names a key which is missing, unknown or of the wrong type."""
        known = {field.name: field for field in fields(cls)}
        unknown = sorted(set(given) - set(known))
        if unknown:
            raise ValueError(f"unknown settings: {', '.join(unknown)}")
        values: dict[str, Any] = {}
        for name, value in given.items():
            kind = int if known[name].type == "int" else str
            if not isinstance(value, kind) or isinstance(value, bool):
                raise ValueError(f"{name} must be of type {kind.__name__}, not {value!r}")
            values[name] = value
        try:
            return cls(**values)
        except TypeError as error:
            raise ValueError(str(error).replace("Settings.__init__() ", "")) from None

    def url(self, path: str, scheme: str = "https") -> str:
        """Return the address of a path of the site."""
        port = self.https_port if scheme == "https" else self.http_port
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{scheme}://{host}:{port}{path}"
