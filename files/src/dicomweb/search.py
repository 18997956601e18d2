"""What a search asks for (PS3.18 10.6), by its address and its parameters."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.requests import Request

from dicomweb.errors import RequestError
from dicomweb.http import accept_of, pairs
from dicomweb.levels import UNIQUE
from dicomweb.negotiation import answer_type
from dicomweb.query import Query, parse_query
from dicomweb.retrieval_request import checked_uid

TOO_MANY = "The number of results exceeded the maximum supported by the server. Additional results can be requested."
"""The Warning of an answer that is cut (PS3.18 8.3.4.4)."""
_LEVELS = {"study": "STUDY", "series": "SERIES"}


@dataclass(frozen=True)
class Asked:
    """A search; `kind` is the media type of its answer, `given` the UIDs of its address by level."""

    kind: str
    query: Query
    given: dict[str, str]


def read_search(request: Request) -> Asked:
    """Read a search; raise RequestError (400, 406) that names what is wrong."""
    kind = answer_type(accept_of(request))
    given = {_LEVELS[name]: checked_uid(uid) for name, uid in request.path_params.items() if name in _LEVELS}
    query = parse_query(pair for pair in pairs(request) if pair[0].lower() != "accept")
    for level, uid in given.items():
        other = query.matching.get(UNIQUE[level], "")
        if other not in ("", uid):
            raise RequestError(400, f"The address has the UID {uid}, and the search {str(other)[:64]!r}: give one.")
    return Asked(kind, query, given)
