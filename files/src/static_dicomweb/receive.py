"""A Storage SCP before the tree, `dicomwebscp`: what arrives is rendered, a series at a time, once nothing more of it comes.

It is searched and retrieved from by DIMSE, too, and what arrives may be passed on to another application entity.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import click
from dicomweb.decoders import Decoders
from dicomweb.nesting import refuse_deep
from dimse.incoming_file import IncomingFile
from dimse.new_file import NewFile, sync_directory
from dimse.part10 import read_syntax, read_texts_of
from dimse.send import Sender
from dimse.storage_scp import StorageSCP
from dimse.upper_layer import Begun
from service.free_space import check_space
from service.logs import start_logging
from service.systemd import notify

from static_dicomweb.config import entities_of, no_space_option, tree_options
from static_dicomweb.holding import TreeHolding
from static_dicomweb.layout import Layout
from static_dicomweb.make import RENDERING_SECONDS, publish, render_apart
from static_dicomweb.relay import Relay

_LOG = logging.getLogger("static_dicomweb")
_SUCCESS, _NO_RESOURCES, _CANNOT_UNDERSTAND = 0x0000, 0xA700, 0xC000
_IDENTITY = _STUDY, _SERIES = (0x0020000D, 0x0020000E)
_LOOK_SECONDS = 0.2
# After a disk was full, or something else went wrong that may pass.
_AGAIN_SECONDS = 10.0


@dataclass
class _Series:
    """Files of a series that have arrived, and when the last one did."""

    files: list[Path] = field(default_factory=list)
    latest: float = 0.0


class Receiver:
    """Keeps what arrives in `received` until it is rendered, through any crash; what can't be rendered goes to `refused`."""

    def __init__(
        self, layout: Layout, base: str, quiet_seconds: float, relay: Relay | None, no_space_file: Path | None = None
    ) -> None:
        """Take up what a former process has left. Raises OSError where the tree can't be written."""
        self._no_space_file = no_space_file
        self._relay = relay
        self._layout = layout
        self._base = base
        self._quiet_seconds = quiet_seconds
        self._received, self._refused = layout.root / "received", layout.root / "refused"
        for directory in (self._received, self._refused):
            directory.mkdir(exist_ok=True)
        self._numbers = itertools.count()
        self._turn = threading.Lock()
        self._series: dict[tuple[str, str], _Series] = {}
        for path in self._received.iterdir():
            if path.suffix == ".dcm":
                self._note(path, _identity_of(path))
            else:
                # It broke off: the sender was told nothing, and sends it again.
                path.unlink()

    def begin(self, begun: Begun) -> _Arrival:
        """Return where an instance goes that begins to come."""
        return _Arrival(self, self._received / f"{time.time_ns()}-{next(self._numbers)}", begun)

    def new_file(self, path: Path) -> NewFile:
        """Begin a file; raise OSError where there is no space for what comes."""
        check_space(self._no_space_file)
        return NewFile(path, 0o640)

    def take(self, path: Path, identity: tuple[str, str]) -> None:
        """Take a file that is whole and synced, so that its name survives a power cut, too; raise OSError where that can't be."""
        whole = path.with_suffix(".dcm")
        if self._relay:
            self._relay.take(path, whole.name)
        path.rename(whole)
        sync_directory(self._received)
        self._note(whole, identity)

    def _note(self, path: Path, identity: tuple[str, str]) -> None:
        with self._turn:
            series = self._series.setdefault(identity, _Series())
            series.files.append(path)
            series.latest = time.monotonic()

    async def run(self) -> None:
        """Render what is quiet, without end."""
        decoders = Decoders(RENDERING_SECONDS)
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            try:
                await self._render_quiet(decoders)
            except OSError as error:
                _LOG.error("%s: %s; it is tried again", self._layout.root, error.strerror)
                await asyncio.sleep(_AGAIN_SECONDS)

    async def _render_quiet(self, decoders: Decoders) -> None:
        """Render the series of which nothing has come for a while; raise OSError where the disk doesn't take them."""
        now = time.monotonic()
        with self._turn:
            quiet = [identity for identity, series in self._series.items() if now - series.latest >= self._quiet_seconds]
            taken = {identity: self._series.pop(identity) for identity in quiet}
        while taken:
            identity, series = taken.popitem()
            try:
                await self._render(decoders, identity, series.files)
            except BaseException:
                for path in series.files:
                    self._note(path, identity)
                for other, left in taken.items():
                    for path in left.files:
                        self._note(path, other)
                raise

    async def _render(self, decoders: Decoders, identity: tuple[str, str], files: list[Path]) -> None:
        outcome = await render_apart(decoders, self._layout.root, self._base, files)
        publish(self._layout, self._base, sorted(outcome.studies))
        for path, problem in outcome.problems:
            kept = self._refused / path.name
            path.rename(kept)
            _LOG.warning("study %s series %s: %s is not rendered: %s", *identity, kept, problem)
        for path in files:
            path.unlink(missing_ok=True)
        _LOG.info("study %s series %s: %d rendered, %d there already", *identity, outcome.rendered, outcome.present)


def _identity_of(path: Path) -> tuple[str, str]:
    try:
        with path.open("rb") as file:
            found = read_texts_of(file, read_syntax(file), _IDENTITY)
    except Exception:
        # What is wrong with it is said when it is rendered.
        return "", ""
    return found[_STUDY], found[_SERIES]


class _Arrival(IncomingFile):
    """One instance on its way to `received`."""

    def __init__(self, receiver: Receiver, path: Path, begun: Begun) -> None:
        self._receiver = receiver
        super().__init__(begun, lambda: receiver.new_file(path), lambda error: _LOG.error("%s: %s", path, error.strerror))

    def finish(self) -> int:
        """Return the status (PS3.4 B.2.3): the file is on the disk, and will be rendered."""
        file = self._taken()
        if file is None:
            return _NO_RESOURCES
        try:
            file.sync()
            try:
                identity = self._identity(file)
            except ValueError as error:
                _LOG.warning("refused instance %.64s: %s", self._begun.uid, error)
                file.drop()
                return _CANNOT_UNDERSTAND
            self._receiver.take(file.path, identity)
        except OSError as error:
            _LOG.error("%s: %s", file.path, error.strerror)
            file.drop()
            return _NO_RESOURCES
        return _SUCCESS

    def _identity(self, file: NewFile) -> tuple[str, str]:
        """Return the UIDs of study and series; raise ValueError where there are none, or who reads the instance would end."""
        try:
            found = self._texts(file, _IDENTITY)
        except OSError:
            raise
        except Exception as error:
            raise ValueError(f"it can't be read ({str(error)[:100]})") from None
        if not any(found.values()):
            raise ValueError("it has no UIDs of a study and a series")
        with file.path.open("rb") as written:
            written.seek(self._start)
            refuse_deep(written, self._begun.syntax)
        return found[_STUDY], found[_SERIES]


@click.command()
@tree_options("dicomwebscp")
@click.option("--aet", default="DICOMWEBSCP", show_default=True, help="AE title.")
@click.option("--host", default="0.0.0.0", show_default=True, help="Address to listen at.")
@click.option("--port", default=11115, show_default=True, type=click.IntRange(1, 65535), help="Port to listen at.")
@click.option("--caller", "callers", multiple=True, help="AE title that may send; all may unless given.")
@click.option(
    "--quiet-seconds", default=5.0, show_default=True, help="Seconds without anything new after which a series is rendered."
)
@click.option("--ae", "entities", multiple=True, help="Application entity as TITLE=HOST:PORT, for C-MOVE and --proxy-ae; several.")
@click.option("--proxy-ae", help="AE title, one of --ae: whatever arrives is sent to it, too, until it has taken it.")
@click.option("--silence-seconds", default=60.0, show_default=True, help="Seconds of silence that end an association.")
@no_space_option
@click.option("--log-level", default="info", show_default=True, type=click.Choice(["debug", "info", "warning", "error"]))
def main(
    root: Path,
    base: str,
    aet: str,
    host: str,
    port: int,
    callers: tuple[str, ...],
    quiet_seconds: float,
    entities: tuple[str, ...],
    proxy_ae: str | None,
    silence_seconds: float,
    no_space_file: Path | None,
    log_level: str,
) -> None:
    """Take instances by C-STORE, render them into a tree of mkdicomweb, and give out what it has."""
    start_logging(log_level, "static_dicomweb", "dimse")
    known = _known(entities, proxy_ae)
    try:
        layout = Layout(root)
        layout.tidy()
        relay = Relay(root / "relayed", Sender(*known[proxy_ae], proxy_ae, aet, silence_seconds)) if proxy_ae else None
        receiver = Receiver(layout, base.rstrip("/"), quiet_seconds, relay, no_space_file)
        holding = TreeHolding(layout, aet, known)
        StorageSCP(aet, callers, receiver.begin, silence_seconds, holding=holding).listen(host, port)
    except OSError as error:
        logging.shutdown()
        print(f"--root {root}, --host {host}, --port {port}: {error.strerror}", file=sys.stderr)
        sys.exit(2)
    if relay:
        relay.start()
    notify("READY=1")
    asyncio.run(receiver.run())


def _known(entities: tuple[str, ...], proxy_ae: str | None) -> dict[str, tuple[str, int]]:
    try:
        known = entities_of(entities)
    except ValueError as error:
        raise click.UsageError(f"--ae: {error}") from None
    if proxy_ae and proxy_ae not in known:
        raise click.UsageError(f"--proxy-ae {proxy_ae}: no --ae has that title, in aeConfig or here.")
    return known


if __name__ == "__main__":
    main()
