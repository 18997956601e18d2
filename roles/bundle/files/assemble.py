"""Puts what was gathered for a platform into one archive, with a manifest of SHA-256 sums and a CycloneDX 1.6 list of its content.

The directory has `repository` (.deb or .rpm, with its index), `repository.asc`, `python` (wheels for the services), `control`
(wheels for the control node), `orthanc` (binaries, as on their mirror) and `collections`; any but the first two may be missing.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tarfile
import uuid
from pathlib import Path
from typing import Any
from urllib.parse import quote

from digests import sha256_of
from packaging.utils import parse_wheel_filename


def sums(directory: Path) -> dict[str, str]:
    """Return the SHA-256 of every file below the directory, by its path there."""
    return {str(path.relative_to(directory)): sha256_of(path) for path in sorted(directory.rglob("*")) if path.is_file()}


def fields_of(path: Path) -> list[str]:
    """Return name, version and architecture of a .deb or .rpm package."""
    if path.suffix == ".deb":
        command = ["dpkg-deb", "--show", "--showformat=${Package}\n${Version}\n${Architecture}", str(path)]
    else:
        command = [
            "rpm",
            "--query",
            "--nosignature",
            "--queryformat=%{NAME}\n%{VERSION}-%{RELEASE}\n%{ARCH}",
            "--package",
            str(path),
        ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{path.name} is no package: {done.stderr.strip()}")
    return done.stdout.split("\n")


def component(directory: Path, path: str, digest: str, platform: str) -> dict[str, Any] | None:
    """Return what the list says of a file, nothing for indexes and keys."""
    place, name = directory / path, Path(path).name
    if place.suffix in (".deb", ".rpm"):
        package, version, architecture = fields_of(place)
        vendor = platform.partition("-")[0].lower()
        kind = f"{place.suffix[1:]}/{'redhat' if place.suffix == '.rpm' else vendor}"
        purl = f"pkg:{kind}/{quote(package)}@{quote(version)}?arch={architecture}"
    elif place.suffix == ".whl":
        package, release, _, _ = parse_wheel_filename(name)
        version = str(release)
        purl = f"pkg:pypi/{package}@{version}"
    elif path.startswith("orthanc/"):
        package, version = name, Path(path).parts[-2]
        purl = f"pkg:generic/{quote(package)}@{quote(version)}"
    elif path.startswith("collections/"):
        package, _, version = name.removesuffix(".tar.gz").rpartition("-")
        purl = f"pkg:generic/ansible-collection/{quote(package)}@{quote(version)}"
    else:
        return None
    return {
        "type": "library",
        "bom-ref": path,
        "name": str(package),
        "version": version,
        "purl": purl,
        "hashes": [{"alg": "SHA-256", "content": digest}],
    }


def bill_of_materials(directory: Path, files: dict[str, str], platform: str) -> dict[str, Any]:
    """Return the list of components. Its serial number comes from the sums: the same content has the same."""
    components = [component(directory, path, digest, platform) for path, digest in files.items()]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, json.dumps(files))}",
        "version": 1,
        "metadata": {"component": {"type": "application", "bom-ref": "bundle", "name": f"dicomweb-site-{platform}"}},
        "components": [one for one in components if one],
    }


def main() -> None:
    """Assemble, and print the archive's own sum."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--platform", required=True)
    parser.add_argument("--architecture", required=True)
    given = parser.parse_args()
    directory: Path = given.directory
    for name in ("manifest.json", "sbom.cdx.json"):
        (directory / name).unlink(missing_ok=True)
    files = sums(directory)
    listed = json.dumps(bill_of_materials(directory, files, given.platform), indent=1)
    (directory / "sbom.cdx.json").write_text(listed)
    files["sbom.cdx.json"] = hashlib.sha256(listed.encode()).hexdigest()
    manifest = {"format": 1, "platform": given.platform, "architecture": given.architecture, "files": files}
    (directory / "manifest.json").write_text(json.dumps(manifest, indent=1))
    given.bundle.parent.mkdir(parents=True, exist_ok=True)
    part = given.bundle.with_name(f"{given.bundle.name}.part")
    with tarfile.open(part, "w") as tar:
        for name in ["manifest.json", *files]:
            tar.add(directory / name, name)
    os.replace(part, given.bundle)
    print(sha256_of(given.bundle))


if __name__ == "__main__":
    main()
