from __future__ import annotations

import pytest
from dicomweb.errors import RequestError
from dicomweb.negotiation import DICOM_JSON, DICOM_XML, answer_type, body_type


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", DICOM_JSON),
        ("*/*", DICOM_JSON),
        ("application/*", DICOM_JSON),
        ("application/dicom+json", DICOM_JSON),
        ("application/json", DICOM_JSON),
        ("Application/DICOM+JSON; charset=utf-8", DICOM_JSON),
        ("application/dicom+xml", DICOM_XML),
        ("text/xml", DICOM_XML),
        ('multipart/related; type="application/dicom+xml"', DICOM_XML),
        ("multipart/related; type=application/dicom+xml; q=0.5, application/dicom+json; q=0.9", DICOM_JSON),
        ("application/dicom+json; q=0.1, application/dicom+xml", DICOM_XML),
        ("application/dicom+json; q=nonsense", DICOM_JSON),
        ("text/html, */*;q=0.1", DICOM_JSON),
    ],
)
def test_answer_type(accept: str, expected: str) -> None:
    assert answer_type(accept) == expected


@pytest.mark.parametrize(
    "accept", ["text/html", "application/dicom", "application/dicom+json; q=0", 'multipart/related; type="application/dicom"', ","]
)
def test_answer_type_refused(accept: str) -> None:
    with pytest.raises(RequestError) as refused:
        answer_type(accept)
    assert refused.value.status == 406


def test_body_type() -> None:
    assert body_type("application/dicom+json; charset=UTF-8") == DICOM_JSON
    assert body_type("application/xml") == DICOM_XML
    with pytest.raises(RequestError) as refused:
        body_type("multipart/related")
    assert refused.value.status == 415
