"""A real browser, for pages and what they may ask."""

from __future__ import annotations

import html
import re
import subprocess
from pathlib import Path


def shown(address: str, profile: Path) -> str:
    """Return the text of a page as Chromium has it after its scripts have run."""
    arguments = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-sync",
    ]
    arguments += [
        "--disable-component-update",
        "--ignore-certificate-errors",
        f"--user-data-dir={profile}",
        "--virtual-time-budget=5000",
    ]
    command = ["/usr/bin/chromium", *arguments, "--dump-dom", address]
    document = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<script.*?</script>|<style.*?</style>|<[^>]+>", " ", document, flags=re.S)))
