"""Faults that a project's own drills define, without registering them, block nothing once their nodes are gone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from chaos.core.model import NodeRef, Undo
from chaos.engine.journal import Journal, Origin
from chaos.engine.residue import find, heal_open
from chaos.environments.owner import Owner


def left_by_a_dead_run(path: Path, locator: dict[str, str]) -> None:
    """A journal that holds one open fault of a kind that nobody registered."""
    dead = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    owner = Owner.of(dead.pid)
    dead.communicate(b"\n")
    undo = Undo("run-00-1", "of-this-project", 1, (NodeRef("embedded", "system", "a", locator),), {}, {})
    journal = Journal(path, by="runner")
    journal.intent(undo, "a drill", Origin("embedded", "embedded", True, {}, owner))
    journal.close()


def test_it_is_gone_with_its_nodes(tmp_path: Path) -> None:
    """What was broken on micro-hosts that have ended is closed, although nothing knows how to undo it."""
    left_by_a_dead_run(tmp_path / "a.jsonl", {"root_pid": "4194305", "started": "1"})
    (healing,) = heal_open(tmp_path / "a.jsonl", by="test")
    assert healing.done and "gone with its environment" in healing.text
    assert find([tmp_path]) == []


def test_it_stays_open_while_its_nodes_live(tmp_path: Path) -> None:
    """Where the sandbox still runs the fault is not closed."""
    me = Owner.of(os.getpid())
    left_by_a_dead_run(tmp_path / "a.jsonl", {"root_pid": str(me.pid), "started": me.started})
    (healing,) = heal_open(tmp_path / "a.jsonl", by="test")
    assert not healing.done and len(find([tmp_path])) == 1
