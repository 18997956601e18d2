"""Reads the settings as JSON from standard input, prints one line a check, ends with 1 when any failed."""

from __future__ import annotations

import json
import logging
import sys

from site_verify.checks import Failed, Site
from site_verify.settings import Settings


def main() -> int:
    """Run every check of the site, also after one has failed, and return the exit status."""
    # pynetdicom's own account of a refused association repeats what the check says.
    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)
    try:
        site = Site(Settings.read(json.load(sys.stdin)))
    except ValueError as error:
        print(f"site_verify: {error}", file=sys.stderr)
        return 2
    failed = 0
    for name in [name for name in vars(Site) if name.startswith("check_")]:
        try:
            verdict, seen = "ok", getattr(site, name)()
        except Failed as error:
            verdict, seen = "FAILED", str(error)
        except Exception as error:
            verdict, seen = "FAILED", f"{type(error).__name__}: {error}"
        failed += verdict == "FAILED"
        print(f"{name.removeprefix('check_').replace('_', '-'):<14} {verdict:<7} {seen}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
