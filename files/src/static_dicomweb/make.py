"""Renders DICOM files into the tree, `mkdicomweb`."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import click
from dicomweb.attributes import is_uid
from dimse.send import find_files

from static_dicomweb.index import Index
from static_dicomweb.layout import Layout
from static_dicomweb.publish import Publisher
from static_dicomweb.render import UnreadableError, identity, read, render
from static_dicomweb.store import Store, has

# Files that a process takes at a time: what it writes of them is synced together.
_FILES_AT_A_TIME = 32
_LARGEST_FILE = 4 << 30
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


def in_parallel(root: Path, base: str, paths: Iterable[Path], processes: int, *, is_dry: bool = False) -> Iterator[Outcome]:
    """Yield what became of files, some at a time; raise OSError where the disk doesn't take them."""
    parts = iter(paths)
    with ProcessPoolExecutor(processes) as pool:
        running: set[Future[Outcome]] = set()
        try:
            while True:
                while len(running) < 2 * processes and (part := list(islice(parts, _FILES_AT_A_TIME))):
                    running.add(pool.submit(render_files, root, base, part, is_dry=is_dry))
                if not running:
                    return
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for each in done:
                    yield each.result()
        finally:
            for each in running:
                each.cancel()


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


@click.group()
@click.option("--root", type=click.Path(path_type=Path), required=True, help="Directory of the tree.")
@click.option("--base", default="/static-dicomweb", show_default=True, help="Address at which readers find the tree.")
@click.pass_context
def main(context: click.Context, root: Path, base: str) -> None:
    """Render DICOM into files that a web server serves as DICOMweb by itself."""
    try:
        layout = Layout(root)
        layout.tidy()
    except OSError as error:
        raise click.UsageError(f"--root {root}: {error.strerror}") from None
    context.call_on_close(layout.close)
    context.obj = (layout, base.rstrip("/"))


@main.command()
@click.option("--dry-run", is_flag=True, help="Say what would be done.")
@click.option("--processes", default=os.cpu_count() or 1, show_default=True, type=click.IntRange(1, 256))
@click.argument("paths", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.pass_obj
def create(settings: tuple[Layout, str], dry_run: bool, processes: int, paths: tuple[Path, ...]) -> None:
    """Render files, and those of directories. Ends with 1 where a file could not be."""
    layout, base = settings
    files = list(find_files(paths))
    outcome = Outcome()
    try:
        with click.progressbar(length=len(files), label="rendered", file=sys.stderr) as progress:
            for part in in_parallel(layout.root, base, files, processes, is_dry=dry_run):
                outcome.add(part)
                progress.update(part.rendered + part.present + len(part.problems))
        if not dry_run:
            publish(layout, base, sorted(outcome.studies))
    except OSError as error:
        raise click.ClickException(f"{layout.root}: {error.strerror}. What was rendered is kept: run it again.") from None
    except BrokenProcessPool:
        raise click.ClickException("A process was ended from outside. What was rendered is kept: run it again.") from None
    for path, problem in outcome.problems:
        click.echo(f"{path}: {problem}", err=True)
    done = "would be rendered" if dry_run else "rendered"
    click.echo(f"{outcome.rendered} {done}, {outcome.present} there already, {len(outcome.problems)} left out", err=True)
    sys.exit(1 if outcome.problems else 0)


def _checked(study: str) -> str:
    if not is_uid(study):
        raise click.UsageError(f"{study[:80]!r} is no UID: digits and dots, at most 64.")
    return study


@main.command()
@click.argument("studies", nargs=-1, required=True)
@click.pass_obj
def delete(settings: tuple[Layout, str], studies: tuple[str, ...]) -> None:
    """Remove studies from the tree."""
    layout, _ = settings
    missing = [study for study in studies if not (layout.instances / _checked(study)).is_dir()]
    if missing:
        raise click.ClickException(f"The tree has no study {missing[0]}: nothing was removed.")
    remove(layout, studies)


@main.command()
@click.argument("studies", nargs=-1)
@click.pass_obj
def rebuild(settings: tuple[Layout, str], studies: tuple[str, ...]) -> None:
    """Render studies, or all of them, from what the tree has of their files."""
    layout, base = settings
    publish(layout, base, [_checked(study) for study in studies] or sorted(path.name for path in layout.instances.iterdir()))


if __name__ == "__main__":
    main()
