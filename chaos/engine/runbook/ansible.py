"""A playbook by ansible-runner (extra ``ansible``), in a process of its own. Its files live in a directory that goes with the step."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

import psutil

from chaos.engine.acting import Acting, TimeIsUp
from chaos.engine.runbook.execute import StepFailed, end_group
from chaos.engine.runbook.steps import Playbook, timeout_s

MARK = "GAMEDAY_PLAYBOOK"
LAST_CHARACTERS = 4000


def play(step: Playbook, acting: Acting) -> str:
    """What every task did, one line each, and the totals.

    Raises:
        StepFailed: a task failed, or the time was up.
    """
    with tempfile.TemporaryDirectory(prefix="gameday-playbook-", ignore_cleanup_errors=True) as private:
        arguments = Path(private) / "play.json"
        arguments.write_text(json.dumps(_arguments(step, private)), encoding="utf-8")
        log = Path(private) / "log"
        with log.open("wb") as out:
            argv = [sys.executable, "-m", "chaos.engine.runbook._play", str(arguments)]
            process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env={**os.environ, MARK: private}, start_new_session=True
            )
            try:
                code = acting.aside(step.name, process.wait, timeout_s=timeout_s(step), cancel=lambda: _end(process, private))
            except TimeIsUp:
                raise StepFailed(f"it was ended after {timeout_s(step):g} s, its timeout", _read(private, "play.json.seen")) from None
        seen = _read(private, "play.json.seen")
        if code:
            raise StepFailed(_read(private, "play.json.why") or f"it ended with {code}", seen or _read(private, "log"))
        return seen


def _end(process: subprocess.Popen[bytes], private: str) -> None:
    """Ansible's workers are sessions of their own, which a signal to the group does not reach: they, and what they run on this machine, are
    known by their environment."""
    end_group(process)
    for other in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if other.environ().get(MARK) == private:
                other.kill()


def _read(private: str, name: str) -> str:
    path = Path(private) / name
    return path.read_text(encoding="utf-8", errors="replace")[-LAST_CHARACTERS:] if path.exists() else ""


def _arguments(step: Playbook, private: str) -> dict[str, Any]:
    path = Path(step.path).absolute()
    inventory = str(Path(step.inventory).absolute()) if _is_file(step.inventory) else _written(private, str(step.inventory))
    programs = sysconfig.get_path("scripts")
    return {
        "private_data_dir": private,
        "project_dir": str(path.parent),
        "playbook": str(path),
        "inventory": inventory,
        "extravars": {"ansible_python_interpreter": "{{ ansible_playbook_python }}", **step.variables},
        "envvars": {
            "PATH": f"{programs}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
            "ANSIBLE_HOME": f"{private}/home",
            "ANSIBLE_LOCALHOST_WARNING": "False",
            "ANSIBLE_INVENTORY_UNPARSED_WARNING": "False",
            MARK: private,
        },
        "quiet": True,
    }


def _is_file(inventory: str | Path) -> bool:
    return "\n" not in str(inventory) and Path(inventory).exists()


def _written(private: str, text: str) -> str:
    folder = Path(private) / "inventory"
    folder.mkdir(exist_ok=True)
    (folder / "hosts").write_text(text.rstrip() + "\n", encoding="utf-8")
    return str(folder / "hosts")
