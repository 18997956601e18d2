"""Other programs that a bundle is gathered by."""

from __future__ import annotations

import shutil
import subprocess
import sys


def need(*programs: str) -> None:
    """End where this machine lacks a program."""
    missing = [program for program in programs if not shutil.which(program)]
    if missing:
        sys.exit(f"This machine has no {', '.join(missing)}: install what brings them (gnupg; for RHEL dnf, createrepo-c and rpm).")


def run(*command: str) -> str:
    """Run a command and return what it printed; end with what it said where it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command[:2])} failed:\n{(done.stderr or done.stdout)[-3000:]}")
    return done.stdout
