"""What a retrieval asks for: resources, frames, media types, transfer syntaxes, pictures (PS3.18 8.3.5, 8.7, 9.4.1, 10.4.1)."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence

from dimse.part10 import EXPLICIT
from starlette.requests import Request

from dicomweb.attributes import is_uid
from dicomweb.errors import RequestError
from dicomweb.instances import Instance, Scope
from dicomweb.negotiation import DICOM, media_ranges
from dicomweb.pixels import MADE_HERE, RENDERED, Region, Rendering
from dicomweb.syntaxes import NATIVE, media_type

OCTETS, MULTIPART = "application/octet-stream", "multipart/related"
ANY_SYNTAX = "*"
# Of a picture that is asked for, and of the part of an image that it shows, in pixels.
_LARGEST_SIDE, _LARGEST_IMAGE_SIDE = 8192, 65535


def checked_uid(text: str) -> str:
    """Return a UID; raise RequestError (400)."""
    if not is_uid(text):
        raise RequestError(400, f"{text[:80]!r} is no UID: digits and dots, at most 64.")
    return text


def scope_of(request: Request) -> Scope:
    """Return the study, series or instance that an address names; raise RequestError (400)."""
    given = request.path_params
    return Scope(*(checked_uid(given[name]) if name in given else "" for name in ("study", "series", "instance")))


def frame_numbers(request: Request) -> list[int]:
    """Return the frames that an address names; raise RequestError (400)."""
    listed = request.path_params["frames"].split(",")
    if len(listed) > 10_000:
        raise RequestError(400, "More than 10000 frames are asked for.")
    return [whole_number(number, "The frame") for number in listed]


def whole_number(value: str, what: str, most: int = 9_999_999) -> int:
    """Return a number from 1 on; raise RequestError (400) that says what it is of."""
    if not (value.isascii() and value.isdigit() and len(value) < 8 and 0 < int(value) <= most):
        raise RequestError(400, f"{what} is {value[:40]!r}: give a whole number from 1 to {most}.")
    return int(value)


def wanted_dicom(accept: str, scope: Scope) -> tuple[bool, list[str]]:
    """Return whether one bare file is wanted, and in which transfer syntaxes, the one wanted most first.

    Raises RequestError (406) where no file is taken.
    """
    syntaxes: list[str] = []
    is_single: bool | None = None
    for name, parameters in media_ranges(accept) or [("*/*", {})]:
        kind = parameters.get("type", DICOM) if name == MULTIPART else name
        if kind not in (DICOM, "*/*", "application/*"):
            continue
        is_bare = name == DICOM
        if is_single is None:
            is_single = is_bare
        if is_bare == is_single:
            # Who takes anything takes it as it is; a media type without a transfer syntax means the default one (PS3.18 8.7.3.5.2).
            syntaxes.append(parameters.get("transfer-syntax", ANY_SYNTAX if name.endswith("/*") else EXPLICIT))
    if is_single is None:
        raise RequestError(406, f"The Accept header takes neither {DICOM} nor {MULTIPART} of it.")
    if is_single and not scope.instance:
        raise RequestError(406, f"A {scope.level.lower()} is several parts: accept {MULTIPART}; type={DICOM}.")
    return is_single, syntaxes


def chosen_syntax(instance: Instance, syntaxes: Sequence[str]) -> str:
    """Return the transfer syntax that an instance is sent in; raise RequestError (406) where none can be made."""
    if ANY_SYNTAX in syntaxes or instance.syntax in syntaxes:
        return instance.syntax
    made = next((syntax for syntax in syntaxes if syntax in MADE_HERE), None)
    if made is None:
        wanted = ", ".join(syntaxes)[:200]
        raise RequestError(406, f"The instance is stored in {instance.syntax}, which can't be brought into {wanted}.")
    return made


def wants_single(accept: str, kind: str) -> bool:
    """Return whether a media type is wanted bare, and not as parts of a multipart; raise RequestError (406) where neither is."""
    for name, parameters in media_ranges(accept) or [(MULTIPART, {})]:
        if name == MULTIPART and parameters.get("type", kind) in (kind, "*/*"):
            return False
        if name in ("*/*", "application/*"):
            return False
        if name == kind:
            return True
    raise RequestError(406, f"The Accept header takes neither {kind} nor {MULTIPART} of it.")


def wanted_frames(accept: str, stored: str) -> tuple[bool, str]:
    """Return whether a frame alone is wanted, and the transfer syntax: the stored one, or explicit VR for native pixels.

    Raises RequestError (406) where neither is taken.
    """
    kind_stored = media_type(stored)
    for name, parameters in media_ranges(accept) or [("*/*", {})]:
        is_single = name not in (MULTIPART, "*/*", "application/*")
        kind = parameters.get("type", "*/*") if name == MULTIPART else name
        syntax = parameters.get("transfer-syntax", "")
        if syntax not in ("", ANY_SYNTAX, stored, EXPLICIT):
            continue
        if kind in ("*/*", "application/*") or (kind in (kind_stored, OCTETS) and syntax in (ANY_SYNTAX, stored)):
            return is_single, EXPLICIT if syntax == EXPLICIT or stored in NATIVE else stored
        if kind == OCTETS:
            return is_single, EXPLICIT
        if kind == kind_stored and not syntax:
            return is_single, stored
    raise RequestError(406, f"The frames are {kind_stored} in {stored}, or {OCTETS}: the Accept header takes neither.")


def rendering(given: list[tuple[str, str]], accept: str) -> Rendering:
    """Return how an image is to be rendered; raise RequestError (400, 406)."""
    values = {name.lower(): value for name, value in given}
    kinds = [name for name, _ in media_ranges(accept)] or ["*/*"]
    chosen = next((kind if kind in RENDERED else "image/jpeg" for kind in kinds if kind in (*RENDERED, "*/*", "image/*")), None)
    if chosen is None:
        raise RequestError(406, f"The Accept header takes none of {', '.join(RENDERED)}.")
    quality = values.get("quality", values.get("imagequality", "90"))
    viewport, region = _viewport(values)
    return Rendering(chosen, whole_number(quality, "quality", 100), viewport, _window(values), region or _region(values))


def _viewport(values: Mapping[str, str]) -> tuple[tuple[int, int] | None, Region | None]:
    """Return width and height of the picture, and the part of the image that it shows (PS3.18 8.3.5.1.3)."""
    text = values.get("viewport") or ",".join(filter(None, (values.get("columns"), values.get("rows"))))
    if not text:
        return None, None
    sizes = text.split(",")
    if len(sizes) not in (2, 6):
        wanted = "give width and height, as in viewport=512,512, or a part of the image, too, as in viewport=512,512,0,0,100,100."
        raise RequestError(400, f"viewport is {text[:40]!r}: {wanted}")
    width, height = (whole_number(size, "viewport", _LARGEST_SIDE) for size in sizes[:2])
    if len(sizes) == 2:
        return (width, height), None
    try:
        left, top, width_shown, height_shown = (_number(size) if size else None for size in sizes[2:])
    except ValueError:
        raise RequestError(
            400, f"viewport is {text[:60]!r}: a part of it has its left, top, width and height, in pixels."
        ) from None
    return (width, height), Region(left or 0, top or 0, width_shown, height_shown)


def _region(values: Mapping[str, str]) -> Region | None:
    """Return the part of the image that WADO-URI asks for, by parts of its sides (PS3.18 9.4.1.2.4)."""
    text = values.get("region", "no")
    if text.lower() == "no":
        return None
    try:
        left, top, right, end = map(_number, text.split(","))
    except ValueError:
        left = top = right = end = 0
    if not (0 <= left < right <= 1 and 0 <= top < end <= 1):
        raise RequestError(400, f"region is {text[:60]!r}: give left, top, right and lower end, as in region=0,0,0.5,0.5.")
    return Region(left, top, right - left, end - top, is_in_parts=True)


def _number(text: str) -> float:
    """Return a number that may be of a place in an image; raise ValueError."""
    made = float(text)
    if not abs(made) <= _LARGEST_IMAGE_SIDE:
        raise ValueError(text)
    return made


def _window(values: Mapping[str, str]) -> tuple[float, float, str] | None:
    text = values.get("window")
    if text is None and "windowcenter" in values:
        text = f"{values['windowcenter']},{values.get('windowwidth', '')}"
    if not text:
        return None
    center, _, rest = text.partition(",")
    width, _, function = rest.partition(",")
    try:
        made = (float(center), float(width), {"": "LINEAR"}.get(function, function.upper().replace("-", "_")))
    except ValueError:
        made = (0.0, 0.0, "")
    if not all(map(math.isfinite, made[:2])) or made[1] < 1 or made[2] not in ("LINEAR", "LINEAR_EXACT", "SIGMOID"):
        raise RequestError(400, f"window is {json.dumps(text[:60])}: give center, width and function, as in window=40,400,linear.")
    return made
