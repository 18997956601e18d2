"""Sends DICOM files by C-STORE, `dicom-send`: directories in, one association out (Storage SCU, PS3.4 annex B)."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_file_meta_info
from pynetdicom import AE, _config, build_context
from pynetdicom.association import Association

from dimse.association import associate, make_ae
from dimse.part10 import find_files
from dimse.upper_layer import MOST_CONTEXTS

# Files pass as they are, a part at a time: nothing is decoded.
_config.STORE_SEND_CHUNKED_DATASET = True


@dataclass(frozen=True)
class File:
    """A DICOM file: its SOP class and how it is encoded."""

    path: Path
    sop_class: str
    syntax: str


def read_file(path: Path) -> File | str:
    """Return what has to be known of a file to send it, or why it isn't one that can be sent."""
    try:
        meta = read_file_meta_info(path)
        return File(path, meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID)
    except (InvalidDicomError, AttributeError):
        return "no DICOM file (PS3.10)"
    except OSError as error:
        return error.strerror or str(error)


def in_associations(files: list[File]) -> Iterator[list[File]]:
    """Yield the files, in so few parts that each fits into one association's presentation contexts."""
    kinds: dict[tuple[str, str], int] = {}
    for file in files:
        kinds.setdefault((file.sop_class, file.syntax), len(kinds) // MOST_CONTEXTS)
    for part in range(len(kinds) // MOST_CONTEXTS + 1):
        chosen = [file for file in files if kinds[file.sop_class, file.syntax] == part]
        if chosen:
            yield chosen


class Sender:
    """Sends to one application entity; a broken association is made once more, where the file that broke it is left out."""

    def __init__(self, host: str, port: int, called: str, calling: str, seconds: float) -> None:
        self._entity: AE = make_ae(calling, seconds)
        self._host, self._port, self._called = host, port, called
        self._association: Association | None = None

    def send(self, files: list[File]) -> Iterator[tuple[File, str]]:
        """Yield each file with what went wrong with it, or nothing. Raises ConnectionError where there is no association."""
        for part in in_associations(files):
            self._entity.requested_contexts = [
                build_context(*kind) for kind in dict.fromkeys((f.sop_class, f.syntax) for f in part)
            ]
            for file in part:
                yield file, self._store(file)
            self.leave()

    def leave(self) -> None:
        """End the association."""
        if self._association and self._association.is_established:
            self._association.release()
        self._association = None

    def _store(self, file: File) -> str:
        if self._association is None or not self._association.is_established:
            self._association = associate(self._entity, self._host, self._port, self._called)
        try:
            status = self._association.send_c_store(str(file.path))
        except ValueError:
            return f"{self._called} doesn't take this kind ({file.sop_class} in {file.syntax})"
        except (OSError, RuntimeError, AttributeError) as error:
            return str(error)
        if "Status" not in status:
            return f"{self._called} broke the association"
        # 0xB...: stored, with a remark (PS3.4 B.2.3).
        return "" if status.Status == 0 or status.Status >> 12 == 0xB else f"refused with status 0x{status.Status:04X}"


@click.command()
@click.option("--called", default="ORTHANC1", show_default=True, help="AE title of the receiver.")
@click.option("--calling", default="DICOM_SEND", show_default=True, help="AE title of the sender.")
@click.option("--timeout", default=60.0, show_default=True, help="Seconds of silence after which the association is over.")
@click.argument("host")
@click.argument("port", type=click.IntRange(1, 65535))
@click.argument("paths", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
def main(called: str, calling: str, timeout: float, host: str, port: int, paths: tuple[Path, ...]) -> None:
    """Send DICOM files, and those of directories, to HOST PORT. Ends with 1 where a file was not stored."""
    files: list[File] = []
    problems: list[tuple[Path, str]] = []
    for path in find_files(paths):
        found = read_file(path)
        if isinstance(found, File):
            files.append(found)
        else:
            problems.append((path, found))
    left_out = len(problems)
    sender = Sender(host, port, called, calling, timeout)
    stored = 0
    try:
        with click.progressbar(sender.send(files), length=len(files), label=f"to {called}", file=sys.stderr) as progress:
            for file, problem in progress:
                stored += not problem
                if problem:
                    problems.append((file.path, problem))
    except ConnectionError as error:
        click.echo(f"\n{error}", err=True)
    finally:
        sender.leave()
    for path, problem in problems:
        click.echo(f"{path}: {problem}", err=True)
    click.echo(f"{stored} stored, {len(files) - stored} not stored, {left_out} left out", err=True)
    sys.exit(1 if stored < len(files) else 0)


if __name__ == "__main__":
    main()
