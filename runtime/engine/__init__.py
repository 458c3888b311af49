"""The engine: one piece of code makes every container, whoever asks for it.

    OCI configuration (a dict) ── plan ──▶ Plan (plain data) ── launch ──▶ child

- `runtime.engine.plan` turns a configuration into a plan. Pure, tested without root.
- `runtime.engine.describe` puts a plan, or the step that failed, into words.
- `runtime.engine.launch` clones and does the parent's part; `runtime.engine.child` and
  `runtime.engine.steps` are what the child does until its exec.
- `runtime.engine.report` is the parent's ear: pid, phases, meeting points, failures.

The spawn helper and the command line import these modules with every start, so they import next
to nothing: no dataclasses, enum, pathlib, re, typing, json, socket or subprocess
(tests/unit/runtime/test_engine_imports.py holds it). docs/reference/runtime-engine.md has an
example of each use.
"""

from __future__ import annotations

__all__: list[str] = []
