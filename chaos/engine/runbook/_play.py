"""``python -m chaos.engine.runbook._play FILE``: one playbook, in a process of its own: Ansible forks, and a drill has threads.

FILE holds the arguments of ``ansible_runner.run`` as JSON; ``FILE.seen`` gets a line a task as it comes, ``FILE.why`` the first failure.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

_BAD = ("runner_on_failed", "runner_on_unreachable")


class Tasks:
    """Listens to the events of a play; writes one line a task, and the first failure."""

    def __init__(self, stem: str) -> None:
        self._seen, self._why, self.failed = Path(f"{stem}.seen"), Path(f"{stem}.why"), False

    def __call__(self, event: dict[str, Any]) -> bool:
        kind, data = str(event.get("event", "")), event.get("event_data") or {}
        if kind.startswith("runner_on_") and kind not in ("runner_on_start", "runner_on_skipped"):
            self._task(kind, data)
        elif kind == "playbook_on_stats":
            names = ("ok", "changed", "failures", "dark")
            self._line("totals: " + ", ".join(f"{name} {sum((data.get(name) or {}).values())}" for name in names))
        return False  # keep no file of it

    def _task(self, kind: str, data: dict[str, Any]) -> None:
        result, task, host = data.get("res") or {}, str(data.get("task", "?")), str(data.get("host", "?"))
        word = {"runner_on_ok": "changed" if result.get("changed") else "ok"}.get(kind, kind.removeprefix("runner_on_"))
        said = " ".join(str(result.get("msg") or result.get("stderr") or result.get("stdout") or "").split())
        self._line(f"{word}: [{host}] {task}" + (f": {said}" if said else ""))
        if kind in _BAD and not data.get("ignore_errors") and not self.failed:
            self.fail(f"the task {task!r} failed on {host}: {said or 'it gave no reason'}")

    def _line(self, text: str) -> None:
        with self._seen.open("a", encoding="utf-8") as file:
            file.write(f"{text}\n")

    def fail(self, why: str) -> None:
        self.failed = True
        self._why.write_text(why, encoding="utf-8")


def main(path: str) -> int:
    import ansible_runner

    tasks = Tasks(path)
    runner = ansible_runner.run(**json.loads(Path(path).read_text(encoding="utf-8")), event_handler=tasks)
    if runner.status != "successful" and not tasks.failed:
        with runner.stdout as told:
            lines = [line for line in told.read().splitlines() if line.strip()]
        tasks.fail(f"ansible-playbook: {runner.status}, code {runner.rc}: {' '.join(lines[-3:])}")
    return 0 if runner.status == "successful" else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
