#!/usr/bin/python
"""Ansible module: what SELinux's policy must allow the site, in one transaction."""

from __future__ import annotations

import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: selinux_rules
short_description: Have types of ports and files, and booleans, in SELinux's policy
author: DICOMweb site maintainers
description:
  - Does for all of them what M(community.general.seport), M(community.general.sefcontext) and M(ansible.posix.seboolean) do for
    one, in one C(semanage import), since each change has the whole policy built anew.
  - Works on the policy that is installed, also where the kernel doesn't enforce it, so that it holds on the day when it does. The
    mode is never changed.
  - A port that the policy gives to something else is modified; one that already has the type is left as it is.
options:
  ports:
    description: TCP ports, each with the C(type) that it must have.
    type: list
    elements: dict
    default: []
  contexts:
    description: Directories, each with the C(type) that they and all below must have. What is there is relabelled.
    type: list
    elements: dict
    default: []
  booleans:
    description: Booleans that must be on.
    type: list
    elements: str
    default: []
  domains:
    description:
      - Domains that services of systemd must enter though their units say C(NoNewPrivileges), which leaves them in systemd's own.
      - They are allowed by a module of the policy, C(dicomweb_site).
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Let nginx listen at its port and read the site's files
  selinux_rules:
    ports:
      - {port: 9443, type: http_port_t}
    contexts:
      - {path: /var/lib/static-dicomweb, type: httpd_sys_content_t}
    booleans: [httpd_can_network_connect]
"""

RETURN = r"""
rules:
  description: What was given to semanage, and the module of the policy where it is another.
  type: list
  returned: always
"""


MODULE = "dicomweb_site"


def port_types(listing: str) -> dict[int, str]:
    """Return the type of every TCP port that `semanage port --list` names by itself, local changes first, as they win."""
    found: dict[int, str] = {}
    for line in listing.splitlines():
        fields = line.split(None, 2)
        if len(fields) == 3 and fields[1] == "tcp":
            for port in fields[2].split(","):
                if port.strip().isdigit():
                    found.setdefault(int(port), fields[0])
    return found


def below(path: str) -> str:
    """Return the expression that semanage has for a directory and all below it."""
    return re.sub(r"([.^$*+?{}\[\]\\|()])", r"\\\1", path) + "(/.*)?"


def missing_rules(wanted: dict[str, Any], types: dict[int, str], contexts: str, booleans: str) -> list[str]:
    """Return the lines that the policy lacks, from what semanage lists of it. Booleans that it doesn't know are passed over."""
    rules = []
    for port in wanted["ports"]:
        number, kind = int(port["port"]), port["type"]
        if types.get(number) != kind:
            rules.append(f"port {'-m' if number in types else '-a'} -t {kind} -p tcp {number}")
    for context in wanted["contexts"]:
        pattern = below(context["path"])
        lines = [line for line in contexts.splitlines() if line.split()[:1] == [pattern]]
        if not any(f":{context['type']}:" in line for line in lines):
            rules.append(f"fcontext {'-m' if lines else '-a'} -f a -t {context['type']} '{pattern}'")
    known = {line.split()[0]: bool(re.search(r",\s*on\)", line)) for line in booleans.splitlines() if line.strip()}
    return rules + [f"boolean -m --on {name}" for name in wanted["booleans"] if not known.get(name, True)]


def module_of(domains: list[str]) -> str:
    """Return the policy's module that lets services enter their domains, in CIL; it passes over those that the policy lacks."""
    form = "(optional {module}_{domain} (allow init_t {domain} (process2 (nnp_transition nosuid_transition))))\n"
    return "".join(form.format(module=MODULE, domain=domain) for domain in sorted(domains))


def installed_module() -> str:
    """Return the module as it is installed, empty where it isn't."""
    with tempfile.TemporaryDirectory() as directory:
        subprocess.run(["semodule", "--cil", f"--extract={MODULE}"], cwd=directory, capture_output=True, check=False)
        path = Path(directory, f"{MODULE}.cil")
        return path.read_text() if path.exists() else ""


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "ports": {"type": "list", "elements": "dict", "default": []},
            "contexts": {"type": "list", "elements": "dict", "default": []},
            "booleans": {"type": "list", "elements": "str", "default": []},
            "domains": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )

    def semanage(*arguments: str, given: str | None = None) -> str:
        result = subprocess.run(["semanage", *arguments], input=given, capture_output=True, text=True, check=False)
        if result.returncode:
            module.fail_json(msg=f"semanage {' '.join(arguments)}: {result.stderr.strip()}", rules=given)
        return result.stdout

    if module.check_mode and not Path("/usr/sbin/semanage").exists():
        module.exit_json(changed=True, rules=[])
    rules = missing_rules(
        module.params,
        port_types(semanage("port", "--list", "--noheading", "--locallist") + semanage("port", "--list", "--noheading")),
        semanage("fcontext", "--list", "--noheading", "--locallist"),
        semanage("boolean", "--list", "--noheading"),
    )
    wanted = module_of(module.params["domains"])
    is_new = bool(wanted) and installed_module() != wanted
    if is_new and not module.check_mode:
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory, f"{MODULE}.cil")
            path.write_text(wanted)
            result = subprocess.run(["semodule", "--install", str(path)], capture_output=True, text=True, check=False)
        if result.returncode:
            module.fail_json(msg=f"semodule --install {MODULE}: {result.stderr.strip()}")
    if rules and not module.check_mode:
        semanage("import", given="\n".join(rules) + "\n")
        for context in module.params["contexts"]:
            if Path(context["path"]).exists():
                subprocess.run(["restorecon", "-R", context["path"]], check=False)
    module.exit_json(changed=bool(rules) or is_new, rules=rules + ([wanted] if is_new else []))


if __name__ == "__main__":
    main()
