"""Transfer syntaxes, and what is in them (PS3.5 annex A, PS3.18 8.7.3)."""

from __future__ import annotations

from dimse.part10 import BIG_ENDIAN, DEFLATED, EXPLICIT, IMPLICIT

RLE = "1.2.840.10008.1.2.5"
JPEG_BASELINE, JPEG_EXTENDED, JPEG_LOSSLESS, JPEG_LOSSLESS_SV1 = (f"1.2.840.10008.1.2.4.{n}" for n in (50, 51, 57, 70))
JPEG_LS, JPEG_LS_NEAR, JPEG_2000, JPEG_2000_LOSSY = (f"1.2.840.10008.1.2.4.{n}" for n in (80, 81, 90, 91))
HTJ2K, HTJ2K_RPCL, HTJ2K_LOSSY = (f"1.2.840.10008.1.2.4.{n}" for n in (201, 202, 203))
JPEG_XL = tuple(f"1.2.840.10008.1.2.4.{n}" for n in (110, 111, 112))
MPEG = tuple(f"1.2.840.10008.1.2.4.{n}" for n in (100, 101, 102, 103, 104, 105, 106, 107, 108))

NATIVE = frozenset({EXPLICIT, IMPLICIT, BIG_ENDIAN, DEFLATED})
"""Transfer syntaxes whose pixels aren't encapsulated."""

_MEDIA_TYPES = {
    "image/jpeg": (JPEG_BASELINE, JPEG_EXTENDED, JPEG_LOSSLESS, JPEG_LOSSLESS_SV1),
    "image/jls": (JPEG_LS, JPEG_LS_NEAR),
    "image/jp2": (JPEG_2000, JPEG_2000_LOSSY),
    "image/jphc": (HTJ2K, HTJ2K_RPCL, HTJ2K_LOSSY),
    "image/jxl": JPEG_XL,
    "image/dicom-rle": (RLE,),
    "video/mpeg": MPEG[:2],
    "video/mp4": MPEG[2:],
}


def media_type(syntax: str) -> str:
    """Return the media type of a frame in a transfer syntax (PS3.18 table 8.7.3-5)."""
    return next((kind for kind, syntaxes in _MEDIA_TYPES.items() if syntax in syntaxes), "application/octet-stream")


def frame_type(syntax: str) -> str:
    """Return the media type of a frame with the transfer syntax that it is in (PS3.18 8.7.3.3)."""
    return f"{media_type(syntax)}; transfer-syntax={syntax}"
