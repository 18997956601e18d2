"""The hosts of a scenario's inventory, reached as a user, a modality and an administrator would; and plays against them."""

from __future__ import annotations

import json
import os
import re
import shlex
import socket
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import testinfra
import yaml
from dimse_client import Archive
from web import Web

PROJECT = Path(__file__).parents[2]
SCENARIO = Path(os.environ["MOLECULE_SCENARIO_DIRECTORY"])
# Its hosts' roots and keys, as shared/group_vars/hosts.yml has it.
LAB = Path("/var/lib/dicomweb-molecule") / SCENARIO.name
SSH = ["-i", str(LAB / "id_ed25519"), "-o", f"UserKnownHostsFile={LAB}/known_hosts", "-o", "BatchMode=yes"]


@dataclass(frozen=True)
class Host:
    """A host of the scenario."""

    name: str
    address: str

    @property
    def web(self) -> Web:
        return Web(f"https://{self.address}:9443")

    @property
    def archive(self) -> Archive:
        return Archive(self.address)

    @property
    def shell(self) -> Any:
        """The host as testinfra has it, by SSH."""
        return testinfra.get_host(
            f"ssh://root@{self.address}",
            ssh_identity_file=str(LAB / "id_ed25519"),
            ssh_extra_args=f"-o UserKnownHostsFile={LAB}/known_hosts",
        )

    def run(self, command: str) -> str:
        """Run a command on the host and return what it printed; fail the test when it fails."""
        return str(self.shell.check_output(command))

    def reached_at(self, port: int) -> bool:
        """Return whether a TCP connection from the control node is taken; what is dropped isn't waited for long."""
        try:
            socket.create_connection((self.address, port), timeout=2).close()
        except OSError:
            return False
        return True

    def orthanc(self, port: int, path: str, user: str = "", body: Any = None, method: str | None = None) -> Any:
        """Ask an Orthanc on the host's own loopback, and return its JSON; None where it answers with an HTTP error."""
        program = (
            "import base64, json, sys, urllib.error, urllib.request as u\n"
            "port, path, user, body, method = json.load(sys.stdin)\n"
            "data = json.dumps(body).encode() if body is not None else None\n"
            "request = u.Request(f'http://127.0.0.1:{port}{path}', data, method=method)\n"
            "if user: request.add_header('Authorization', 'Basic ' + base64.b64encode(user.encode()).decode())\n"
            "try: print(u.urlopen(request, timeout=30).read().decode())\n"
            "except urllib.error.HTTPError: print('null')\n"
        )
        given = json.dumps([port, path, user, body, method])
        return json.loads(self.run(f"echo {shlex.quote(given)} | python3 -c {shlex.quote(program)}"))

    def identifier(self, level: str, **query: str) -> str:
        """Return the archive's own identifier of the one resource of this level that the query finds, for its REST API."""
        (found,) = self.orthanc(8042, "/tools/find", body={"Level": level, "Query": query})
        return str(found)


def play(
    playbook: str,
    *arguments: str,
    directory: Path = PROJECT,
    configuration: Path | None = PROJECT / "ansible.cfg",
    timeout: int = 900,
) -> subprocess.CompletedProcess[str]:
    """Run a playbook of the project on the scenario's inventory, from a directory, with a configuration of Ansible or with none."""
    environment = {"MOLECULE_PROJECT_DIRECTORY": str(PROJECT), **os.environ, "ANSIBLE_FORCE_COLOR": "0", "ANSIBLE_NOCOLOR": "1"}
    environment.pop("ANSIBLE_CONFIG", None)
    environment.pop("ANSIBLE_ROLES_PATH", None)
    return subprocess.run(
        ["ansible-playbook", f"--inventory={SCENARIO}/inventory", str(PROJECT / playbook), *arguments],
        cwd=directory,
        env=environment if configuration is None else {**environment, "ANSIBLE_CONFIG": str(configuration)},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


Case = tuple[dict[str, Any], str | list[str]]
# A message that names what is wrong has no more characters.
LONGEST_MESSAGE = 700


def not_refused(cases: Iterable[Case], *arguments: str) -> list[str]:
    """Run the site's play with wrong settings; return those that it didn't refuse with their words, before anything was changed.

    It names at once what it meets at once: one run has all that set different variables, and who isn't named beside others is given
    again without those that were.
    """
    left, complaints, alone = list(cases), list[str](), False
    while left:
        tried = left[:1] if alone else _of_different_variables(left)
        ended = play(
            "site.yml", *arguments, "-e", json.dumps({name: value for setting, _ in tried for name, value in setting.items()})
        )
        said = " ".join((ended.stdout + ended.stderr).split())
        stopped = ended.returncode and not set(re.findall(r"changed=(\d+)", ended.stdout)) - {"0"}
        named = [case for case in tried if stopped and _in_one_message(said, case[1])]
        if not named and len(tried) == 1:
            complaints.append(f"{tried[0][0]}: {said[-1500:]}")
            named = tried
        alone = not named
        left = [case for case in left if not any(case is each for each in named)]
    return complaints


def _of_different_variables(cases: Iterable[Case]) -> list[Case]:
    taken: set[str] = set()
    found = []
    for case in cases:
        if not taken & case[0].keys():
            taken |= case[0].keys()
            found.append(case)
    return found


def _in_one_message(said: str, words: str | list[str]) -> bool:
    first, *others = [words] if isinstance(words, str) else words
    return any(
        all(word in said[max(found.start() - LONGEST_MESSAGE, 0) : found.end() + LONGEST_MESSAGE] for word in others)
        for found in re.finditer(re.escape(first), said)
    )


HOSTS = [
    Host(name, settings["ansible_host"])
    for name, settings in yaml.safe_load((SCENARIO / "inventory/hosts.yml").read_text())["all"]["hosts"].items()
]
# The control node's own address in the scenario's network.
CONTROL_NODE = HOSTS[0].address.rpartition(".")[0] + ".1"
