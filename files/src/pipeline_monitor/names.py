"""Names of directories and files from values of DICOM: none leaves its directory, and two values never share one."""

from __future__ import annotations

import hashlib
import unicodedata

# Below the 255 bytes of Linux, with room for what is added while a file is written.
_MOST_BYTES = 200
_DIGEST_LETTERS = 32
_ALSO_PLAIN = frozenset("-_.+= ")
NAME_OF_NOTHING = "%none"


def component(value: str) -> str:
    """Return the name of one directory or file for a value.

    Letters, marks and digits of any script, and "-_.+= " inside, stay as they are; every other character, and a dot at either end,
    becomes its UTF-8 bytes as %XX. A name that would be too long is cut and ends with "%~" and a digest. Leading and trailing
    spaces of the value don't count (PS3.5 6.2). An empty value is "%none": "%" is otherwise followed by two digits or "~", so that
    no value has this name.
    """
    stripped = value.strip(" \0")
    if not stripped:
        return NAME_OF_NOTHING
    last = len(stripped) - 1
    name = "".join(_plain(character, at in (0, last)) for at, character in enumerate(stripped))
    encoded = name.encode()
    if len(encoded) <= _MOST_BYTES:
        return name
    digest = hashlib.sha256(stripped.encode(errors="surrogatepass")).hexdigest()[:_DIGEST_LETTERS]
    cut = encoded[: _MOST_BYTES - _DIGEST_LETTERS - 2].decode(errors="ignore")
    return f"{cut}%~{digest}"


def _plain(character: str, is_end: bool) -> str:
    if unicodedata.category(character)[0] in "LMN" or (character in _ALSO_PLAIN and not (is_end and character == ".")):
        return character
    return "".join(f"%{byte:02X}" for byte in character.encode(errors="surrogatepass"))
