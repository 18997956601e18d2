"""Filters on Orthanc's options: which are known at all, and which are known to the installed version."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Any

Catalogue = dict[str, dict[str, Any]]
Settings = dict[str, Any]


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text))


def _options(settings: Settings, catalogue: Catalogue) -> list[tuple[str, str]]:
    """Return (section, option) of every option that the catalogue should know; the core's section is "Orthanc"."""
    found = []
    for name, value in settings.items():
        if name in catalogue and name != "Orthanc":
            found += [(name, option) for option in value]
        else:
            found.append(("Orthanc", name))
    return found


def _spoken(section: str, option: str) -> str:
    return option if section == "Orthanc" else f"{section}.{option}"


def unknown_options(settings: Settings, catalogue: Catalogue, accepted: list[str]) -> list[str]:
    """Return a line for each option that no version knows, with the names that come nearest.

    `accepted` are names that pass unread: sections of other plugins, and options newer than the catalogue.
    """
    lines = []
    for section, option in _options(settings, catalogue):
        spoken = _spoken(section, option)
        known = catalogue[section]
        names = [*known["always"], *known["since"], *known["until"]]
        if option in names or spoken in accepted:
            continue
        near = difflib.get_close_matches(option, [*names, *(accepted if section == "Orthanc" else [])], n=2, cutoff=0.6)
        lines.append(f"{spoken}" + (f" (did you mean {' or '.join(near)}?)" if near else ""))
    return lines


def unread_options(settings: Settings, catalogue: Catalogue, versions: dict[str, str]) -> list[str]:
    """Return a line for each option that the installed version doesn't read yet, or no longer.

    `versions` has the version of each section's program, such as {"Orthanc": "1.12.7"}; an absent one is the newest.
    """
    lines = []
    for section, option in _options(settings, catalogue):
        known, version = catalogue[section], versions.get(section, "")
        since, until = known["since"].get(option), known["until"].get(option)
        program = "Orthanc" if section == "Orthanc" else f"the {section} plugin"
        if since and version and _version(version) < _version(since):
            lines.append(
                f"{_spoken(section, option)} is read by {program} from {since} on; installed is {version}, which ignores it"
            )
        if until and (not version or _version(version) > _version(until)):
            lines.append(
                f"{_spoken(section, option)} was read by {program} up to {until}; "
                f"installed is {version or 'newer'}, which ignores it"
            )
    return lines


def readable_options(settings: Settings, catalogue: Catalogue, versions: dict[str, str]) -> Settings:
    """Return the settings without the options that the installed version doesn't read."""

    def read(section: str, option: str) -> bool:
        known, version = catalogue[section], versions.get(section, "")
        since = known["since"].get(option)
        return not (since and version and _version(version) < _version(since))

    kept: Settings = {}
    for name, value in settings.items():
        if name in catalogue and name != "Orthanc":
            kept[name] = {option: inner for option, inner in value.items() if read(name, option)}
        elif name not in catalogue["Orthanc"]["since"] or read("Orthanc", name):
            kept[name] = value
    return kept


def given_settings(settings: Settings, instances: Sequence[Settings]) -> dict[str, Settings]:
    """Return what a site has set, by the variable that messages name: `settings` are those of orthanc_settings."""
    own = {f"orthanc_instances: {each['name']}.settings": each["settings"] for each in instances if "settings" in each}
    return {"orthanc_settings": settings, **own}


def unknown(given: Mapping[str, Settings], catalogue: Catalogue, accepted: list[str]) -> list[str]:
    """Return `unknown_options` of all given settings, each line with its variable."""
    return [f"{where}: {line}" for where, settings in given.items() for line in unknown_options(settings, catalogue, accepted)]


def unread(given: Mapping[str, Settings], catalogue: Catalogue, versions: dict[str, str]) -> list[str]:
    """Return `unread_options` of all given settings, each line with its variable."""
    return [f"{where}: {line}" for where, settings in given.items() for line in unread_options(settings, catalogue, versions)]


class FilterModule:
    """The filters, as Ansible asks for them."""

    def filters(self) -> dict[str, Any]:
        """Return them by name."""
        return {
            "orthanc_given_settings": given_settings,
            "orthanc_unknown_options": unknown,
            "orthanc_unread_options": unread,
            "orthanc_readable_options": readable_options,
        }
