"""Ansible action: the files that a role writes, each with its template and its place, in one task and one connection."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.template import generate_ansible_template_vars, trust_as_template

DOCUMENTATION = r"""
module: managed_files
short_description: Have files from templates, many in one task
author: DICOMweb site maintainers
description:
  - Does for a list of files what M(ansible.builtin.template) and M(ansible.builtin.copy) do for one. Every task costs a connection
    and a Python of its own, and a role's files belong together.
  - Each file is written beside its place, validated there, synced and renamed, so that its readers find the old one or the new.
    One that fails its validation is not installed; the files before it are.
  - Missing parent directories are made, root's and 0755.
options:
  directories:
    description: Directories to have, before the files, in this order.
    type: list
    elements: dict
    default: []
    suboptions:
      path: {description: Path., type: path, required: true}
      owner: {description: Owner., type: str, default: root}
      group: {description: Group., type: str, default: root}
      mode: {description: Mode in octal., type: str, default: "0755"}
      when: {description: Condition, as a task has it., type: str}
      loop: {description: "As many directories as this list has entries, each with C(item) as a task has it.", type: list}
  files:
    description: Files to have, in this order.
    type: list
    elements: dict
    default: []
    suboptions:
      dest: {description: Path., type: path, required: true}
      src:
        description:
          - The file's source on the control node. What ends with C(.j2) is a template of the role; anything else is taken as it is,
            from the role's C(files) or by its whole path, and ends with a line's end.
        type: str
      content: {description: The whole content instead., type: str}
      owner: {description: Owner., type: str, default: root}
      group: {description: Group., type: str, default: root}
      mode: {description: Mode in octal., type: str, default: "0644"}
      validate: {description: Command that accepts the file; C(%s) is its path., type: str}
      secret: {description: Whether differences are kept out of the output., type: bool, default: false}
      when: {description: Condition, as a task has it., type: str}
      loop: {description: "As many files as this list has entries, each with C(item) as a task has it.", type: list}
"""

EXAMPLES = r"""
- name: Write the configuration
  managed_files:
    directories:
      - {path: /etc/orthanc/instances, group: orthanc, mode: "0750"}
    files:
      - {src: orthanc@.service.j2, dest: /etc/systemd/system/orthanc@.service}
      - {src: "{{ site_ca }}", dest: /etc/orthanc/ca.crt, when: site_ca | length > 0}
      - {src: instance.json.j2, dest: "/etc/orthanc/instances/{{ item.name }}.json", loop: "{{ orthanc_instances }}", secret: true}
"""

RETURN = r"""
paths:
  description: What was changed.
  type: list
  returned: always
"""

ENTRIES = ("directories", "files")
KNOWN = {
    "directories": {"path", "owner", "group", "mode"},
    "files": {"dest", "src", "content", "owner", "group", "mode", "validate", "secret"},
}


class ActionModule(ActionBase):
    """Render what is declared, and have the module `write_files` write it."""

    @classmethod
    def finalize_task_arg(cls, name: str, value: Any, templar: Any, context: Any) -> Any:
        """Leave entries as they are written: what stands in one may be of its own loop or not be there, by its own condition."""
        if name in ENTRIES and isinstance(value, list):
            return value
        return super().finalize_task_arg(name, value, templar, context)

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the `paths` that were changed."""
        super().run(tmp, task_vars)
        variables = task_vars or {}
        unknown = sorted(set(self._task.args) - set(ENTRIES))
        if unknown:
            raise AnsibleActionFail(f"managed_files takes {' and '.join(ENTRIES)}, and not {', '.join(unknown)}.")
        directories = [entry for entry, _ in self._declared("directories", variables)]
        files = [self._file(entry, known) for entry, known in self._declared("files", variables)]
        arguments = {"directories": directories, "files": files}
        return dict(self._execute_module(module_name="write_files", module_args=arguments, task_vars=task_vars))

    def _declared(self, kind: str, variables: dict[str, Any]) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
        for declared in self._task.args.get(kind) or []:
            unknown = sorted(set(declared) - KNOWN[kind] - {"when", "loop"})
            if unknown:
                known = ", ".join(sorted(KNOWN[kind]))
                raise AnsibleActionFail(f"{', '.join(unknown)} is nothing that {kind} have: {known}, when, loop.", obj=declared)
            yield from self.entries(self._templar, declared, variables)

    @staticmethod
    def entries(
        templar: Any, declared: Mapping[str, Any], variables: dict[str, Any]
    ) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
        """Yield what is declared as often as its `loop` and its `when` have it, rendered, with the variables that it knows."""
        said = dict(declared)
        conditions, loop = said.pop("when", []), said.pop("loop", None)
        items = templar.template(loop)
        if isinstance(items, str | Mapping):
            raise AnsibleActionFail("What is looped over must be a list.", obj=loop)
        rounds = [variables] if loop is None else [{**variables, "item": item} for item in items]
        for known in rounds:
            inner = templar.copy_with_new_env(available_variables=known)
            if all(inner.evaluate_conditional(each) for each in (conditions if isinstance(conditions, list) else [conditions])):
                yield dict(inner.template(said)), known

    def _file(self, entry: dict[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
        """Return a file as `write_files` takes it."""
        if "dest" not in entry or ("src" in entry) == ("content" in entry):
            raise AnsibleActionFail(f"A file needs dest, and either src or content: {sorted(entry)}.")
        source = entry.pop("src", None)
        if source is not None:
            entry["content"] = self._rendered(source, entry["dest"], variables) if source.endswith(".j2") else self._read(source)
        return {"path": entry.pop("dest"), **entry}

    def _read(self, source: str) -> str:
        return str(self._loader.get_text_file_contents(self._find_needle("files", source))).rstrip() + "\n"

    def _rendered(self, source: str, dest: str, variables: dict[str, Any]) -> str:
        """Return what a template becomes, as M(ansible.builtin.template) has it."""
        path = self._find_needle("templates", source)
        places = [place for base in variables.get("ansible_search_path", []) for place in (f"{base}/templates", base)]
        templar = self._templar.copy_with_new_env(
            searchpath=[path.rpartition("/")[0], *places],
            # An inventory may have an ansible_managed of its own.
            available_variables={**generate_ansible_template_vars(source, path, dest), **variables},
        )
        template = trust_as_template(self._loader.get_text_file_contents(path))
        return str(templar.template(template, escape_backslashes=False) or "")
