"""Runs the proxy: `dicomweb-proxy config.jsonc`."""

from __future__ import annotations

import asyncio
import logging
import sys
from pathlib import Path

import click
from service.logs import start_logging

from dimse_proxy.config import read_config
from dimse_proxy.serve import serve

_DEFAULT_PATHS = ("config.jsonc", "config.json", "config/config.jsonc", "config/config.json")


@click.command()
@click.argument("config", type=click.Path(path_type=Path, dir_okay=False), required=False)
@click.option("--check", is_flag=True, help="Only read the settings, and say what is wrong with them.")
def main(config: Path | None, check: bool) -> None:
    """Answer DICOMweb, by asking archives that speak DIMSE. CONFIG is config.jsonc of the working directory unless given."""
    path = config or next((Path(name) for name in _DEFAULT_PATHS if Path(name).exists()), Path(_DEFAULT_PATHS[0]))
    try:
        chosen = read_config(path)
        if check:
            return
        start_logging(chosen.log_level, "dimse_proxy", "dimse")
        asyncio.run(serve(chosen))
    except (ValueError, OSError) as error:
        logging.shutdown()
        print(error, file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
