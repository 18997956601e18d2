"""Filters on what Orthanc is installed from: packages, or the binaries of the Linux Standard Base."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any


def versions(packages: Mapping[str, str], installed: Mapping[str, str]) -> dict[str, str]:
    """Return the installed version of each section's package, such as {"Orthanc": "1.12.7"}, without what a distribution adds."""
    found = {}
    for section, package in packages.items():
        number = re.match(r"(?:\d+:)?([0-9.]+)", installed.get(package, ""))
        if number:
            found[section] = number[1]
    return found


def with_sums(binaries: Sequence[Mapping[str, str]], sums: Mapping[str, str]) -> list[dict[str, str]]:
    """Return the binaries, each with its SHA-256 by its path; it is empty where none is known."""
    return [{**binary, "sha256": sums.get(binary["path"], "")} for binary in binaries]


class FilterModule:
    """The filters, as Ansible asks for them."""

    def filters(self) -> dict[str, Any]:
        """Return them by name."""
        return {"orthanc_package_versions": versions, "orthanc_with_sums": with_sums}
