"""Renders DICOM files into the tree, `mkdicomweb`."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path

import click
from dicomweb.attributes import is_uid
from dicomweb.decoders import Decoders
from dicomweb.errors import RequestError
from dicomweb.instances import Scope
from dimse.part10 import find_files
from service.logs import start_logging
from service.systemd import notify

from static_dicomweb.config import tree_options
from static_dicomweb.index import Index
from static_dicomweb.layout import Layout
from static_dicomweb.publish import Publisher
from static_dicomweb.render import UnreadableError, identity, read, render
from static_dicomweb.store import Store, has
from static_dicomweb.sync import Sync
from static_dicomweb.sync import follow as follow_changes

# Files that a process takes at a time: what it writes of them is synced together.
_FEWEST_AT_A_TIME, _FILES_AT_A_TIME = 16, 32
# And at most where others wait for the process.
_FILES_APART = 100
_LARGEST_FILE = 4 << 30
# Seconds between attempts to bring the tree into a bucket.
_WAITS = (1, 3, 9)
RENDERING_SECONDS = 300.0
"""How long `render_apart` waits for some files: one of 4 GB is written to a slow disk, too."""
CRASHED = "what decodes it crashed, or was ended from outside: run it again"
SAME_UIDS = "another file has the same UIDs and other content: the first one is kept"


@dataclass
class Outcome:
    """What became of some files."""

    rendered: int = 0
    present: int = 0
    problems: list[tuple[Path, str]] = field(default_factory=list)
    studies: set[str] = field(default_factory=set)
    """Studies that have instances of these files."""

    def add(self, other: Outcome) -> None:
        """Add what became of others."""
        self.rendered += other.rendered
        self.present += other.present
        self.problems += other.problems
        self.studies |= other.studies


def render_files(root: Path, base: str, paths: Sequence[Path], *, is_dry: bool = False) -> Outcome:
    """Render files that aren't in the tree yet; raise OSError where the disk doesn't take them."""
    layout = Layout(root)
    store = Store(layout)
    outcome = Outcome()
    mine: dict[Path, Path] = {}
    try:
        for path in paths:
            try:
                content = _content(path)
                _render_one(layout, store, base, path, content, mine, outcome, is_dry=is_dry)
            except UnreadableError as error:
                outcome.problems.append((path, str(error)))
        taken = store.settle()
    finally:
        layout.close()
    for place in taken:
        # Another process was faster.
        outcome.rendered -= 1
        _note_present(mine[place], has(place, _content(mine[place])) is True, outcome)
    return outcome


def _content(path: Path) -> bytes:
    try:
        if path.stat().st_size > _LARGEST_FILE:
            raise UnreadableError(f"it is larger than {_LARGEST_FILE >> 30} GB")
        return path.read_bytes()
    except OSError as error:
        raise UnreadableError(error.strerror or str(error)) from None


def _render_one(
    layout: Layout, store: Store, base: str, path: Path, content: bytes, mine: dict[Path, Path], outcome: Outcome, *, is_dry: bool
) -> None:
    dataset = read(content)
    uids = identity(dataset)
    place = layout.instance(*uids)
    outcome.studies.add(uids[0])
    if place in mine:
        _note_present(path, _content(mine[place]) == content, outcome)
        return
    is_same = has(place, content)
    if is_same is not None:
        _note_present(path, is_same, outcome)
        return
    if not is_dry:
        store.add(render(dataset, content, base))
    mine[place] = path
    outcome.rendered += 1


def _note_present(path: Path, is_same: bool, outcome: Outcome) -> None:
    outcome.present += is_same
    if not is_same:
        outcome.problems.append((path, SAME_UIDS))


async def render_apart(decoders: Decoders, root: Path, base: str, paths: Sequence[Path]) -> Outcome:
    """Render files as `render_files` does, in a process: one whose decoder crashes or never ends costs itself alone."""
    outcome = Outcome()
    for start in range(0, len(paths), _FILES_APART):
        some = paths[start : start + _FILES_APART]
        try:
            outcome.add(await decoders.decode(render_files, root, base, some))
        except RequestError as error:
            if len(some) == 1:
                outcome.problems.append((some[0], error.message))
                continue
            for path in some:
                outcome.add(await render_apart(decoders, root, base, [path]))
    return outcome


def in_parallel(root: Path, base: str, paths: Sequence[Path], processes: int, *, is_dry: bool = False) -> Iterator[Outcome]:
    """Yield what became of files, some at a time; raise OSError where the disk doesn't take them."""
    left = deque(paths)
    # So few that each process has its share, but not fewer than are worth a process.
    at_a_time = max(min(-(-len(paths) // (2 * processes)), _FILES_AT_A_TIME), _FEWEST_AT_A_TIME)
    while left:
        begun: dict[Future[Outcome], list[Path]] = {}
        try:
            yield from _in_one_pool(root, base, left, begun, processes, at_a_time, is_dry=is_dry)
        except BrokenProcessPool:
            for part in begun.values():
                yield from (_alone(root, base, path, is_dry=is_dry) for path in part)


def _in_one_pool(
    root: Path,
    base: str,
    left: deque[Path],
    begun: dict[Future[Outcome], list[Path]],
    processes: int,
    at_a_time: int,
    *,
    is_dry: bool,
) -> Iterator[Outcome]:
    """Take what is left. Raises BrokenProcessPool where a process ends: then `begun` has what was begun and hasn't ended."""
    with ProcessPoolExecutor(processes) as pool:
        try:
            while True:
                while len(begun) < 2 * processes and left:
                    part = [left.popleft() for _ in range(min(at_a_time, len(left)))]
                    try:
                        begun[pool.submit(render_files, root, base, part, is_dry=is_dry)] = part
                    except BrokenProcessPool:
                        left.extendleft(reversed(part))
                        raise
                if not begun:
                    return
                done, _ = wait(begun, return_when=FIRST_COMPLETED)
                for each in done:
                    outcome = each.result()
                    del begun[each]
                    yield outcome
        finally:
            for each in begun:
                each.cancel()


def _alone(root: Path, base: str, path: Path, *, is_dry: bool) -> Outcome:
    """Render a file in a process of its own."""
    with ProcessPoolExecutor(1) as pool:
        try:
            return pool.submit(render_files, root, base, [path], is_dry=is_dry).result()
        except BrokenProcessPool:
            return Outcome(problems=[(path, CRASHED)])


def publish(layout: Layout, base: str, studies: Iterable[str]) -> None:
    """Publish studies, and have the index know them. Raises OSError where the disk doesn't take them."""
    publisher = Publisher(layout, base)
    with contextlib.closing(Index(layout.root)) as index:
        for study in studies:
            with layout.lock(study):
                index.replace(study, publisher.publish(study))


def remove(layout: Layout, studies: Iterable[str]) -> None:
    """Remove studies, with all that is known of them."""
    with contextlib.closing(Index(layout.root)) as index:
        for study in studies:
            with layout.lock(study):
                index.replace(study, [])
                layout.withdraw(study)
                layout.remove(layout.instances / study)


def remove_part(layout: Layout, base: str, scope: Scope) -> None:
    """Remove a series or an instance. Raises OSError where the disk takes no documents without it: then it stays."""
    publisher = Publisher(layout, base)
    with contextlib.closing(Index(layout.root)) as index, layout.lock(scope.study):
        # It is gone itself at last: nothing names it then, and who was interrupted may begin again.
        rows = publisher.publish(scope.study, without=scope)
        index.replace(scope.study, rows)
        layout.remove(layout.instances.joinpath(*scope.uids) if rows else layout.instances / scope.study)


@dataclass
class _Settings:
    layout: Layout
    base: str
    syncs: list[Sync]


@click.group()
@tree_options("mkdicomweb")
@click.option("--s3", multiple=True, help="Bucket that has the tree, too, as s3://BUCKET/PREFIX; may be given again.")
@click.option("--s3-endpoint", help="Address of what speaks S3; AWS unless given.")
@click.option("--s3-region", help="Region of the buckets.")
@click.pass_context
def main(
    context: click.Context, root: Path, base: str, s3: tuple[str, ...], s3_endpoint: str | None, s3_region: str | None
) -> None:
    """Render DICOM into files that a web server serves as DICOMweb by itself."""
    start_logging("info", "static_dicomweb")
    try:
        layout = Layout(root)
        layout.tidy()
        syncs = [_sync(layout, address, s3_endpoint, s3_region, base.rstrip("/")) for address in s3]
    except OSError as error:
        raise click.UsageError(f"--root {root}: {error.strerror}") from None
    except ValueError as error:
        raise click.UsageError(f"--s3: {error}") from None
    context.call_on_close(layout.close)
    context.obj = _Settings(layout, base.rstrip("/"), syncs)


def _sync(layout: Layout, address: str, endpoint: str | None, region: str | None, base: str) -> Sync:
    # Its libraries take as long to load as twenty files to render.
    from static_dicomweb.bucket import Bucket

    return Sync(layout, Bucket(address, endpoint, region, base))


def _is_address(source: str) -> bool:
    return source.startswith(("http://", "https://"))


def _fetched(address: str, layout: Layout) -> list[Path]:
    """Return the files of a study of a server, none where it can't be had, which is said."""
    from static_dicomweb.fetch import UnavailableError, fetch

    try:
        return fetch(address, layout.new())
    except UnavailableError as error:
        click.echo(f"{address}: {error}", err=True)
        return []


@main.command()
@click.option("--dry-run", is_flag=True, help="Say what would be done.")
@click.option("--processes", default=os.cpu_count() or 1, show_default=True, type=click.IntRange(1, 256))
@click.argument("sources", nargs=-1, required=True)
@click.pass_obj
def create(settings: _Settings, dry_run: bool, processes: int, sources: tuple[str, ...]) -> None:
    """Render files, those of directories, and studies at addresses of a DICOMweb server. Ends with 1 where one could not be."""
    layout = settings.layout
    missing = [source for source in sources if not _is_address(source) and not Path(source).exists()]
    if missing:
        raise click.UsageError(f"{missing[0]} is no file, no directory and no address: nothing was rendered.")
    outcome, unavailable = Outcome(), 0
    try:
        files = list(find_files(Path(source) for source in sources if not _is_address(source)))
        for address in filter(_is_address, sources):
            fetched = _fetched(address, layout)
            unavailable += not fetched
            files += fetched
        with click.progressbar(length=len(files), label="rendered", file=sys.stderr) as progress:
            for part in in_parallel(layout.root, settings.base, files, processes, is_dry=dry_run):
                outcome.add(part)
                progress.update(part.rendered + part.present + len(part.problems))
        if not dry_run:
            publish(layout, settings.base, sorted(outcome.studies))
    except OSError as error:
        raise click.ClickException(f"{layout.root}: {error.strerror}. What was rendered is kept: run it again.") from None
    for path, problem in outcome.problems:
        click.echo(f"{path}: {problem}", err=True)
    done = "would be rendered" if dry_run else "rendered"
    click.echo(f"{outcome.rendered} {done}, {outcome.present} there already, {len(outcome.problems)} left out", err=True)
    if not dry_run:
        _bring(settings.syncs)
    sys.exit(1 if outcome.problems or unavailable else 0)


def _bring(syncs: list[Sync]) -> None:
    """Bring the tree into its buckets, after a few attempts; say what isn't there."""
    for sync in syncs:
        for seconds in (*_WAITS, 0):
            sync.once()
            if not sync.problems:
                break
            time.sleep(seconds)
        for study, problem in sync.problems.items():
            click.echo(f"study {study} is not in {sync.address}: {problem}", err=True)
    if any(sync.problems for sync in syncs):
        raise click.ClickException("The tree is whole here, not there: call sync when it can be reached.")


@main.command()
@click.option("--follow", is_flag=True, help="Go on bringing what changes, and try again what fails, without end.")
@click.pass_obj
def sync(settings: _Settings, follow: bool) -> None:
    """Bring what the buckets lack of the tree, and remove there what is gone here."""
    if not settings.syncs:
        raise click.UsageError("There is no bucket: give --s3.")
    if follow:
        notify("READY=1")
        follow_changes(settings.syncs)
    _bring(settings.syncs)


def _checked(study: str) -> str:
    if not is_uid(study):
        raise click.UsageError(f"{study[:80]!r} is no UID: digits and dots, at most 64.")
    return study


@main.command()
@click.argument("studies", nargs=-1, required=True)
@click.pass_obj
def delete(settings: _Settings, studies: tuple[str, ...]) -> None:
    """Remove studies from the tree."""
    layout = settings.layout
    missing = [study for study in studies if not (layout.instances / _checked(study)).is_dir()]
    if missing:
        raise click.ClickException(f"The tree has no study {missing[0]}: nothing was removed.")
    remove(layout, studies)
    _bring(settings.syncs)


@main.command()
@click.argument("studies", nargs=-1)
@click.pass_obj
def rebuild(settings: _Settings, studies: tuple[str, ...]) -> None:
    """Render studies, or all of them, from what the tree has of their files."""
    layout = settings.layout
    named = [_checked(study) for study in studies]
    publish(layout, settings.base, named or sorted(path.name for path in layout.instances.iterdir()))
    _bring(settings.syncs)


if __name__ == "__main__":
    main()
