"""What the service can do, as WADL (PS3.18 8.9.1 and annex H)."""

from __future__ import annotations

from dataclasses import dataclass
from xml.etree import ElementTree

from dicomweb.negotiation import DICOM_JSON, DICOM_XML

_NAMESPACE = "http://wadl.dev.java.net/2009/02"


@dataclass(frozen=True)
class _Method:
    name: str
    id: str
    parameters: tuple[str, ...] = ()
    sends: bool = False
    answers: bool = False


_RESOURCES: dict[str, tuple[_Method, ...]] = {
    "workitems": (
        _Method("POST", "CreateWorkitem", ("workitem",), sends=True),
        _Method(
            "GET",
            "SearchForWorkitems",
            ("includefield", "fuzzymatching", "emptyvaluematching", "limit", "offset", "{attributeID}"),
            answers=True,
        ),
    ),
    "workitems/{workitem}": (
        _Method("GET", "RetrieveWorkitem", answers=True),
        _Method("POST", "UpdateWorkitem", ("transaction-uid",), sends=True),
    ),
    "workitems/{workitem}/state": (_Method("PUT", "ChangeWorkitemState", sends=True),),
    "workitems/{workitem}/cancelrequest": (_Method("POST", "RequestWorkitemCancellation", ("requester",), sends=True),),
    "workitems/{workitem}/subscribers/{aetitle}": (
        _Method("POST", "Subscribe", ("deletionlock", "filter")),
        _Method("DELETE", "Unsubscribe"),
    ),
    "workitems/1.2.840.10008.5.1.4.34.5/subscribers/{aetitle}/suspend": (_Method("POST", "SuspendGlobalSubscription"),),
    "workitems/1.2.840.10008.5.1.4.34.5.1/subscribers/{aetitle}/suspend": (_Method("POST", "SuspendFilteredSubscription"),),
    "ws/subscribers/{aetitle}": (_Method("GET", "OpenNotificationChannel"),),
}


def wadl(base: str) -> bytes:
    """Return the capabilities of the service at `base` as application/vnd.sun.wadl+xml."""
    root = ElementTree.Element("application", {"xmlns": _NAMESPACE})
    resources = ElementTree.SubElement(root, "resources", {"base": base})
    for path, methods in _RESOURCES.items():
        resource = ElementTree.SubElement(resources, "resource", {"path": path})
        for method in methods:
            node = ElementTree.SubElement(resource, "method", {"name": method.name, "id": method.id})
            asked = ElementTree.SubElement(node, "request")
            for parameter in method.parameters:
                ElementTree.SubElement(asked, "param", {"name": parameter, "style": "query"})
            for kind in (DICOM_JSON, DICOM_XML) if method.sends else ():
                ElementTree.SubElement(asked, "representation", {"mediaType": kind})
            answered = ElementTree.SubElement(node, "response")
            for kind in (DICOM_JSON, DICOM_XML) if method.answers else ():
                ElementTree.SubElement(answered, "representation", {"mediaType": kind})
    return ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)


def methods_of(path: str) -> list[str]:
    """Return the methods of a resource by its path; of all where the path is none of them."""
    segments = path.strip("/").split("/")
    found: set[str] = set()
    for known, methods in _RESOURCES.items():
        parts = known.split("/")
        if len(parts) == len(segments) and all(
            part in (segment, "{workitem}", "{aetitle}") for part, segment in zip(parts, segments, strict=True)
        ):
            found |= {method.name for method in methods}
    return [*sorted(found or {method.name for methods in _RESOURCES.values() for method in methods}), "OPTIONS"]
