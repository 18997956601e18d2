#!/usr/bin/python
"""Ansible module: the site's rules among those of ufw."""

from __future__ import annotations

import shlex
import subprocess
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: ufw_rules
short_description: Have the site's rules in ufw, and none that it had before
author: DICOMweb site maintainers
description:
  - Rules of others stay as they are; the site's are known by their comment. What comes is added before what has gone is deleted.
  - ufw itself is switched on where it is off, after the rules are there.
options:
  rules:
    description: The rules, each with C(name), C(ports) and C(networks), those that it lets in, all where empty.
    type: list
    elements: dict
    default: []
"""

EXAMPLES = r"""
- name: Let modalities in
  ufw_rules:
    rules:
      - {name: DIMSE, ports: [4242, 2762], networks: [10.20.0.0/16]}
"""

RETURN = r"""
commands:
  description: What ufw was told.
  type: list
  returned: always
"""

MARK = "dicomweb: "


def wanted_rules(rules: list[dict[str, Any]]) -> list[str]:
    """Return each rule as `ufw show added` has it, without the word ufw."""
    lines = []
    for rule in rules:
        ports = ",".join(str(port) for port in rule["ports"])
        comment = shlex.quote(MARK + rule["name"].replace("'", ""))
        for network in rule.get("networks") or [""]:
            source = f"from {network} to any port {ports} proto tcp" if network else f"{ports}/tcp"
            lines.append(f"allow {source} comment {comment}")
    return lines


def present_rules(added: str) -> list[str]:
    """Return those of `ufw show added` that are the site's."""
    return [line[len("ufw ") :] for line in added.splitlines() if line.startswith("ufw ") and f"comment '{MARK}" in line]


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec={"rules": {"type": "list", "elements": "dict", "default": []}}, supports_check_mode=True)

    def ufw(*arguments: str) -> str:
        try:
            result = subprocess.run(["ufw", *arguments], capture_output=True, text=True, check=False)
        except FileNotFoundError:
            # In check mode the package has yet to come.
            return ""
        if result.returncode:
            module.fail_json(msg=f"ufw {' '.join(arguments)}: {(result.stderr or result.stdout).strip()}")
        return result.stdout

    wanted, present = wanted_rules(module.params["rules"]), present_rules(ufw("show", "added"))
    commands = [line for line in wanted if line not in present]
    commands += ["delete " + line.split(" comment ")[0] for line in present if line not in wanted]
    if "Status: active" not in ufw("status"):
        commands.append("--force enable")
    if not module.check_mode:
        for command in commands:
            ufw(*shlex.split(command))
    module.exit_json(changed=bool(commands), commands=commands)


if __name__ == "__main__":
    main()
