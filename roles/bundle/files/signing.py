"""An OpenPGP key for one repository: it signs once and is thrown away, so that nobody can sign another in its name."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path
from types import TracebackType

from programs import run


class SigningKey:
    """A key in a GnuPG home of its own, gone when the context ends."""

    def __enter__(self) -> SigningKey:
        self._home = tempfile.TemporaryDirectory()
        self._gpg("--passphrase", "", "--quick-generate-key", "Repository of a DICOMweb site's bundle", "rsa3072", "sign", "never")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        subprocess.run(["gpgconf", "--homedir", self._home.name, "--kill", "gpg-agent"], check=False, capture_output=True)
        self._home.cleanup()

    def _gpg(self, *arguments: str) -> None:
        run("gpg", "--homedir", self._home.name, "--batch", "--yes", "--quiet", *arguments)

    def sign_clear(self, path: Path, target: Path) -> None:
        """Write the file with its signature around it, as apt has InRelease."""
        self._gpg("--output", str(target), "--clearsign", str(path))

    def sign_detached(self, path: Path) -> None:
        """Write the signature beside the file, as dnf has repomd.xml.asc."""
        self._gpg("--armor", "--detach-sign", str(path))

    def export(self, target: Path) -> None:
        """Write the public key."""
        self._gpg("--armor", "--output", str(target), "--export")
