"""Runbooks step by step: programs, functions and playbooks that succeed, fail, hang and say too much."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chaos.core.errors import BadInput, EnvironmentFailed, RunbookFailed, Unavailable
from chaos.core.model import NodeRef
from chaos.engine.acting import Acting
from chaos.engine.runbook import Call, Phase, Playbook, Runbook, Shell
from chaos.engine.runbook.run import Runbooks
from chaos.engine.runbook.text import kept


class Drill:
    """What a runbook needs of a drill: a clock that ticks, and somewhere to write to."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.said: list[str] = []
        self.phases: list[str] = []
        self.interrupt_after = -1
        self.acting = Acting(self._tick, self._event, self.said.append, self._phase, self._resolve)

    def _tick(self, what: str, *, until: threading.Event) -> None:
        if self.interrupt_after == 0:
            raise KeyboardInterrupt
        self.interrupt_after -= 1
        until.wait(0.05)

    def _event(self, type: str, data: dict[str, Any], t_ns: int | None = None) -> None:
        self.events.append((type, data))

    @contextlib.contextmanager
    def _phase(self, name: str) -> Iterator[None]:
        self.phases.append(name)
        yield

    def _resolve(self, ref: NodeRef) -> Any:
        raise EnvironmentFailed("there is no such node", where=str(ref))


@pytest.fixture
def drill() -> Drill:
    return Drill()


@pytest.fixture
def runbooks(drill: Drill) -> Runbooks:
    return Runbooks(drill.acting)


def failing(runbooks: Runbooks, *steps: Any, **more: Any) -> str:
    """The words with which a runbook of these steps stops."""
    with pytest.raises(RunbookFailed) as caught:
        runbooks.run(Runbook("book", steps, **more))
    return str(caught.value)


def test_steps_run_in_order_and_say_what_they_saw(runbooks: Runbooks, drill: Drill, tmp_path: Path) -> None:
    """A program, a script and a function, each with its output, its time and its two events."""
    steps = (
        Phase(
            "first",
            (
                Shell("program", [sys.executable, "-c", "print('hello')"]),
                Shell("script", 'echo "$WHO" > out; cat out', env={"WHO": "me"}, cwd=tmp_path),
            ),
        ),
        Call("function", lambda: (tmp_path / "out").read_text(), expect="^me$"),
    )
    outcome = runbooks.run(Runbook("book", steps))
    assert outcome.ok and [(step.name, step.seen) for step in outcome.steps] == [("program", "hello"), ("script", "me"), ("function", "me")]
    assert all(step.took_s is not None and 0 <= step.took_s < 20 for step in outcome.steps)
    assert drill.phases == ["first"]
    edges = [(type, data.get("name"), data["edge"]) for type, data in drill.events]
    assert edges[:3] == [("runbook", "book", "begin"), ("step", "program", "begin"), ("step", "program", "end")]
    assert outcome.phases[0].took_s is not None and outcome.phases[0].took_s >= outcome.steps[0].took_s  # type: ignore[operator]


def test_a_failing_step_stops_with_what_it_said(runbooks: Runbooks) -> None:
    """Exit code and last lines are told, and what comes after is not run."""
    said = failing(runbooks, Shell("bad", "for i in $(seq 30); do echo line $i; done; echo broken >&2; exit 7"), Call("never", pytest.fail))
    assert "stopped at the step 'bad'" in said and "it ended with 7" in said and said.endswith("line 30; broken")
    assert "line 10;" not in said
    assert [step.state for step in runbooks.outcomes[0].steps] == ["failed", "not run"]


def test_a_script_stops_at_its_first_failing_command(runbooks: Runbooks) -> None:
    """``sh -e``: what comes after a failing command is not run."""
    assert "reached" not in failing(runbooks, Shell("bad", "false\necho reached"))


def test_a_step_that_hangs_is_ended_with_everything_it_started(runbooks: Runbooks, tmp_path: Path) -> None:
    """At its timeout the whole process group is ended, children that ignore SIGTERM included."""
    script = "echo going; sh -c 'trap \"\" TERM; sleep 60 & echo $! > child; wait' & wait"
    began = time.monotonic()
    said = failing(runbooks, Shell("hangs", script, timeout="700ms", cwd=tmp_path))
    assert "it was ended after 0.7 s, its timeout; going" in said
    assert time.monotonic() - began < 10
    child = int((tmp_path / "child").read_text())
    with pytest.raises(ProcessLookupError):
        for _ in range(100):
            os.kill(child, 0)
            time.sleep(0.02)


def test_an_interruption_ends_the_program_and_keeps_what_was_done(runbooks: Runbooks, drill: Drill, tmp_path: Path) -> None:
    """Ctrl-C during a step ends its process group; the outcome says how far it got."""
    drill.interrupt_after = 8
    with pytest.raises(KeyboardInterrupt):
        runbooks.run(
            Runbook("book", (Shell("one", "true"), Shell("long", "echo $$ > pid; sleep 60", cwd=tmp_path), Shell("three", "true")))
        )
    states = [step.state for step in runbooks.outcomes[0].steps]
    assert states == ["done", "failed", "not run"]
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_a_function_that_does_not_return_is_left_behind(runbooks: Runbooks) -> None:
    """When its time is up the step has failed, and the drill goes on."""
    release = threading.Event()
    assert "it was not done after 0.3 s" in failing(runbooks, Call("stuck", lambda: release.wait(30), timeout=0.3))
    release.set()


@pytest.mark.parametrize(
    ("step", "why"),
    [
        (Call("f", lambda: False), "it returned False"),
        (Call("f", lambda: 1 / 0), "ZeroDivisionError: division by zero"),
        (Call("f", lambda: "3 of 5", expect="5 of 5"), "it did not say what was expected, /5 of 5/; 3 of 5"),
        (Shell("f", ["/nonexistent/program"]), "it could not be started"),
        (Shell("f", "echo 3", expect=lambda text: int(text) > 4), "what it said is not what was expected; 3"),
        (Shell("f", "echo x", expect=lambda text: int(text) > 4), "is not what was expected: ValueError: invalid literal"),
        (Shell("f", "kill -9 $$"), "it was ended by SIGKILL"),
        (Shell("f", "true", node=NodeRef("here", "box", "db")), "it could not be run on db: here/box/db: there is no such node"),
    ],
)
def test_why_a_step_failed(runbooks: Runbooks, step: Any, why: str) -> None:
    """Each way to fail says so."""
    assert why in failing(runbooks, step)


def test_a_mistake_in_a_function_is_raised_as_it_is(runbooks: Runbooks) -> None:
    """A name that does not exist is no statement on the system."""
    with pytest.raises(NameError):
        runbooks.run(Runbook("book", (Call("typo", lambda: undefined_name),)))  # type: ignore[name-defined]  # noqa: F821


def test_no_secret_is_kept(runbooks: Runbooks, drill: Drill) -> None:
    """Secrets that are named, and what looks like one, are blotted out of outcome, events and messages."""
    text = 'token hunter2; PGPASSWORD=a1 psql postgres://app:b2@db/x; Authorization: Bearer c3c3c3c3c3; "password": "d4 d4"'
    said = failing(runbooks, Shell("tell", f"echo '{text}'; exit 1"), secrets=("hunter2",))
    everything = f"{said} {drill.events} {drill.said} {runbooks.outcomes}"
    for secret in ("hunter2", "a1", "b2", "c3c3", "d4"):
        assert secret not in everything, secret
    assert "postgres://app:***@db/x" in said


def test_only_the_last_lines_are_kept() -> None:
    """Escapes and all but the last lines are left out."""
    assert kept("\x1b[31mred\x1b[0m\n\n" + "\n".join(map(str, range(100))), ()) == "\n".join(map(str, range(92, 100)))
    assert len(kept("x" * 5000, ())) < 1300


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: Runbook("b", ()), "needs a name and a step"),
        (lambda: Runbook("b", (Shell("a", "true"), Shell("a", "true"))), "two steps or phases of one name"),
        (lambda: Shell("a", "true", timeout="soon"), "is not a duration"),
        (lambda: Shell("a", "true", timeout=0), "must be more than 0"),
        (lambda: Shell("a", ""), "without a command"),
        (lambda: Shell("a", "true", expect="("), "not a regular expression"),
        (lambda: Shell("a", "true", node=NodeRef("e", "s", "n"), cwd="/"), "are for the machine of the drill"),
        (lambda: Call("a", "no function"), "needs a function"),
        (lambda: Phase("p", ()), "needs a name and a step"),
    ],
)
def test_what_is_wrong_is_refused_when_it_is_written(make: Any, why: str) -> None:
    """A runbook that cannot run is refused before anything is broken."""
    with pytest.raises(BadInput, match=why):
        make()


PLAY = """
- hosts: localhost
  gather_facts: false
  tasks:
    - name: write the file
      ansible.builtin.copy: {content: "hello {{ who }}", dest: "{{ folder }}/out"}
    - name: look at it
      ansible.builtin.command: {argv: [cat, "{{ folder }}/out"]}
    - name: fail on request
      ansible.builtin.fail: {msg: "no {{ who }} today"}
      when: wrong | bool
    - name: hang on request
      ansible.builtin.command: {argv: [sleep, "60"]}
      when: hang | bool
"""


@pytest.fixture
def playbook(tmp_path: Path) -> Any:
    pytest.importorskip("ansible_runner", reason="the extra ansible is not installed")
    path = tmp_path / "play.yml"
    path.write_text(PLAY)

    def make(*, timeout: str = "120s", **variables: Any) -> Playbook:
        return Playbook(
            "play", path, variables={"folder": str(tmp_path), "who": "you", "wrong": False, "hang": False, **variables}, timeout=timeout
        )

    return make


def test_a_playbook_is_a_step(runbooks: Runbooks, playbook: Any, tmp_path: Path) -> None:
    """A real playbook runs here; every task is told, and its work is there."""
    outcome = runbooks.run(Runbook("book", (playbook(),)))
    assert (tmp_path / "out").read_text() == "hello you"
    assert "changed: [localhost] look at it: hello you" in outcome.steps[0].seen
    assert outcome.steps[0].seen.endswith("totals: ok 2, changed 2, failures 0, dark 0")


def test_a_task_that_fails_stops_the_runbook(runbooks: Runbooks, playbook: Any) -> None:
    """The task, its host and its own words are told."""
    assert "the task 'fail on request' failed on localhost: no you today" in failing(runbooks, playbook(wrong=True))


def test_a_playbook_that_hangs_is_ended(runbooks: Runbooks, playbook: Any, tmp_path: Path) -> None:
    """At its timeout ansible and what it started are gone."""
    assert "it was ended after 12 s, its timeout" in failing(runbooks, playbook(hang=True, timeout="12s"))
    running = subprocess.run(["pgrep", "-f", str(tmp_path / "play.yml")], capture_output=True, text=True, check=False)
    assert running.stdout == ""


def test_without_the_extra_a_playbook_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where ansible-runner is missing the drill is skipped before anything is broken, with the exact command."""
    monkeypatch.setitem(sys.modules, "ansible_runner", None)
    with pytest.raises(Unavailable, match=r"pip install 'pytest-gameday\[ansible\]'"):
        Playbook("play", tmp_path / "play.yml")


@pytest.mark.usefixtures("playbook")
def test_a_playbook_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    """The refusal names the path."""
    with pytest.raises(BadInput, match=r"nothing\.yml"):
        Playbook("play", tmp_path / "nothing.yml")


def test_a_playbook_that_is_none_says_so(runbooks: Runbooks, playbook: Any, tmp_path: Path) -> None:
    """What Ansible has to say of a broken file is told."""
    step = playbook()
    (tmp_path / "play.yml").write_text("hosts: [")
    assert "ansible-playbook: failed" in failing(runbooks, step)
