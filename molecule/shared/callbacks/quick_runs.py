"""Spares the test's plays what each run of Ansible would do anew, which is a quarter of its processor time on the control node."""

from __future__ import annotations

import dataclasses
import gc
import hashlib
import marshal
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import CodeType
from typing import Any

import ansible.constants
import jinja2
from ansible._internal._templating._jinja_bits import AnsibleEnvironment, TemplateOverrides, _TemplateCompileContext
from ansible.plugins.callback import CallbackBase
from ansible.release import __version__
from jinja2.environment import TemplateExpression

DOCUMENTATION = """
name: quick_runs
type: notification
short_description: Modules are packed and templates compiled once for all plays, and less garbage is looked for
description: Only for the tests. What a play does, and what it sends to its hosts, is the same.
options: {}
"""

OPTIONS = tuple(field.name for field in dataclasses.fields(TemplateOverrides))
PROJECT = Path(__file__).parents[3]
# Ansible forks a process for each task. Whatever the collector touches there is copied first.
COLLECT_AFTER = 100_000


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "quick_runs"
    CALLBACK_NEEDS_ENABLED = True

    def v2_playbook_on_start(self, playbook: Any) -> None:
        keep_packed_modules()
        keep_compiled_templates()
        gc.freeze()
        gc.set_threshold(COLLECT_AFTER)


def keep_packed_modules() -> None:
    """Have Ansible's modules packed where the next run finds them, as long as Ansible and the project's modules are the same.

    Ansible packs each module, with all that it imports, once in a run, below a directory that it removes at the run's end. It locks
    what it writes there, so runs side by side may share it.
    """
    kept = PROJECT / ".cache/packed_modules" / state_of("library", "module_utils")
    kept.mkdir(parents=True, exist_ok=True, mode=0o700)
    (Path(ansible.constants.DEFAULT_LOCAL_TMP) / "ansiballz_cache").symlink_to(kept)


def keep_compiled_templates() -> None:
    """Have each template and each expression compiled once for all runs, with the same Ansible, Jinja, Python and plugins.

    Ansible compiles anew whenever it evaluates, most often in a process that ends thereafter. The code depends on the text, on the
    options of its environment and on which filters and tests there are, not on values.
    """
    kept = PROJECT / ".cache/compiled_templates" / state_of("filter_plugins", "test_plugins", "lookup_plugins")
    kept.mkdir(parents=True, exist_ok=True, mode=0o700)
    compile_template, compile_expression = AnsibleEnvironment.compile, AnsibleEnvironment.compile_expression

    def code_of(environment: AnsibleEnvironment, kind: str, text: str, compiled: Callable[[], CodeType]) -> CodeType:
        context = _TemplateCompileContext.current(optional=True)
        options = [getattr(environment, name) for name in OPTIONS]
        given = repr((kind, str(text), options, context and context.escape_backslashes))
        path = kept / hashlib.sha256(given.encode(errors="surrogatepass")).hexdigest()
        if path.exists():
            return marshal.loads(path.read_bytes())
        code = compiled()
        # Others look for it, and may be writing it, too.
        beside = path.with_suffix(f".{os.getpid()}-{threading.get_ident()}")
        beside.write_bytes(marshal.dumps(code))
        beside.rename(path)
        return code

    def template(self: AnsibleEnvironment, source: Any, name: Any = None, filename: Any = None, **more: Any) -> Any:
        def compiled() -> Any:
            return compile_template(self, source, name, filename, **more)

        if isinstance(source, str) and not (name or filename or more):
            return code_of(self, "template", source, compiled)
        last.code = compiled()
        return last.code

    def expression(self: AnsibleEnvironment, source: str, undefined_to_none: bool = True) -> TemplateExpression:
        def compiled() -> CodeType:
            # Jinja makes a template of an expression's parsed form, and has that compiled.
            compile_expression(self, source, undefined_to_none)
            return last.code

        code = code_of(self, "expression", source, compiled)
        return TemplateExpression(self.template_class.from_code(self, code, self.make_globals(None), None), undefined_to_none)

    last = threading.local()
    AnsibleEnvironment.compile = template
    AnsibleEnvironment.compile_expression = expression


def state_of(*directories: str) -> str:
    """Return a name for the versions of what runs here, and for what the project's roles have in these directories."""
    sums = hashlib.sha256(f"{__version__} {jinja2.__version__} {sys.version}".encode())
    for directory in directories:
        for path in sorted(PROJECT.glob(f"roles/*/{directory}/*.py")):
            sums.update(f"{path.relative_to(PROJECT)} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return sums.hexdigest()
