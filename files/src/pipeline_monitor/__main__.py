"""Runs the monitor, `pipeline-monitor run`, and talks to the one that runs: `status`, `retry`, `repeat`."""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any

import requests
from pipeline.engine import Engine
from pipeline.feed import ChangeFeed
from pipeline.journal import Journal
from pipeline.orthanc import Orthanc
from pipeline.web import Watch, make_app, serve
from service.logs import start_logging
from service.settings import read_settings

from pipeline_monitor.extract import Extractor
from pipeline_monitor.page import page_routes
from pipeline_monitor.receiver import Receiver
from pipeline_monitor.retrieve import Retriever
from pipeline_monitor.settings import Settings
from pipeline_monitor.show import show
from pipeline_monitor.tree import Tree


def _run(settings: Settings) -> None:
    start_logging(settings.log_level, "pipeline")
    storage = Orthanc(
        settings.storage_url, settings.storage_user, settings.storage_password.get_secret_value(), settings.storage_certificates
    )
    journal = Journal(settings.state_directory / "journal.sqlite")
    feed = ChangeFeed(storage, journal, settings.poll_interval, settings.stable_seconds, settings.compare_interval)
    tree = Tree(settings.output_dir)
    receiver = Receiver(tree)
    receiver.listen(
        settings.monitor_aet, settings.monitor_host, settings.monitor_port, settings.storage_aet, settings.silence_seconds
    )
    retriever = Retriever(settings, storage, receiver.store)
    extractor = Extractor(storage, journal, feed, tree, receiver, retriever, settings)
    engine = Engine(
        storage.study, journal, feed, extractor.work, settings.studies_at_a_time, settings.most_attempts, settings.longest_wait
    )

    def further() -> dict[str, Any]:
        return {"held_instances": journal.held_count(), "free_megabytes": tree.free_bytes() // 1_000_000}

    seconds = min(3600.0, max(settings.delete_after_days * 8640, 5.0))
    engine.every(seconds, extractor.let_go)
    watch = Watch("pipeline-monitor", journal, feed, engine, further)
    serve(
        make_app(watch, page_routes(watch, settings.forwarder_url)), settings.status_host, settings.status_port, settings.log_level
    )


def _ask(settings: Settings, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
    host = f"[{settings.status_host}]" if ":" in settings.status_host else settings.status_host
    try:
        with requests.Session() as session:
            session.trust_env = False
            answer = session.request(method, f"http://{host}:{settings.status_port}{path}", json=body, timeout=30)
            answer.raise_for_status()
            return answer.json()
    except requests.RequestException as error:
        sys.exit(f"pipeline-monitor doesn't answer at {host}:{settings.status_port} ({type(error).__name__}): is it running?")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="pipeline-monitor",
        description="Extracts every stable study of an Orthanc into a tree of files. Settings: environment variables.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("run", help="run the service")
    status = commands.add_parser("status", help="show what the pipeline has done and what waits")
    status.add_argument("--watch", action="store_true", help="show it again every two seconds")
    status.add_argument("--json", action="store_true", help="as JSON")
    retry = commands.add_parser("retry", help="try again at once what waits or was set aside")
    retry.add_argument("studies", nargs="*", metavar="STUDY-UID", help="only these")
    repeat = commands.add_parser("repeat", help="extract studies again, all of them")
    repeat.add_argument("studies", nargs="+", metavar="STUDY-UID")
    return parser.parse_args()


def _status(settings: Settings, is_watched: bool, is_json: bool) -> None:
    while True:
        show(_ask(settings, "GET", "/pipeline"), is_json, is_watched)
        if not is_watched:
            return
        time.sleep(2)


def main() -> None:
    """Do what the command line says."""
    arguments = _arguments()
    try:
        settings = read_settings(Settings)
    except ValueError as error:
        sys.exit(f"The settings are wrong.\n{error}")
    if arguments.command == "run":
        try:
            _run(settings)
        except OSError as error:
            sys.exit(str(error))
    elif arguments.command == "status":
        _status(settings, arguments.watch, arguments.json)
    else:
        answer = _ask(settings, "POST", f"/{arguments.command}", {"studies": arguments.studies or None})
        print(f"{answer['studies']} studies are tried again")
        if arguments.studies and not answer["studies"]:
            sys.exit(1)


if __name__ == "__main__":
    main()
