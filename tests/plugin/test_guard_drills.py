"""Drills on a standing environment, from the command line: what runs, what is refused, and what stops a drill that runs."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from plugin_project import Run, errors, said

from chaos.core.clock import now_ns, seconds, wait_for
from chaos.engine.audit import AuditRecord, read_audit, verify

HERE = Path(__file__).parent
GAMEDAY = [sys.executable, "-c", "from chaos.cli import main; main()"]
POLICY = """[environments.staging]
kind = "yard"
identity = { yard = "the north one" }
allow = { faults = ["pause"], nodes = ["box"] }
{more}
[environments.staging.settings]
sign = "sign"
"""
DRILL = '''
import time
import msgspec
import pytest
from chaos import Noop, Pause

@pytest.fixture(autouse=True)
def box_is_left_as_found(box):
    before = box.node.state()
    yield
    assert box.node.state() == before

@pytest.mark.drill(rto="30s", rpo=0)
def test_freeze(drill, box):
    """The box answers again after it was frozen."""
    writes = drill.workload(msgspec.structs.replace(box.writes(rate_hz=20), timeout_s=1.0))
    with drill.inject(Pause(box.node.ref)):
        {body}
    writes.wait_recovered()
'''


class Yard:
    """The project, and the state that this machine keeps of its standing environment."""

    def __init__(self, project: pytest.Pytester, state: Path) -> None:
        self.project, self.state = project, state

    def write(self, *, body: str = "pass", more: str = "", drill: str = DRILL) -> None:
        self.project.makepyfile(test_yard=drill.replace("{body}", body))
        self.project.makefile(".toml", gameday=POLICY.replace("{more}", more))

    @property
    def kept(self) -> Path:
        """Where the environment's journals, lease and log are."""
        (found,) = self.state.glob("gameday/yard-*")
        return found

    def log(self) -> list[AuditRecord]:
        verify(self.kept / "audit.jsonl")
        return [record for _, record in read_audit(self.kept / "audit.jsonl")]

    def told(self) -> list[tuple[str, str]]:
        if not list(self.state.glob("gameday/yard-*/audit.jsonl")):
            return []
        return [(record.action, record.decision) for record in self.log()]

    def report(self) -> dict[str, Any]:
        (file,) = (self.project.path / ".gameday/runs/latest").glob("*/report.json")
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return found

    def start(self, *args: str) -> subprocess.Popen[str]:
        """A run in the background, once its fault has landed."""
        argv = [sys.executable, "-m", "pytest", "-m", "staging", "-p", "no:cacheprovider", *args]
        out = (self.project.path / "out").open("w", encoding="utf-8")
        with out:
            running = subprocess.Popen(argv, cwd=self.project.path, stdout=out, stderr=out, text=True)
        wait_for(lambda: running.poll() is not None or ("landed", "done") in self.told(), timeout_s=60, what="the fault to land")
        return running

    def gameday(self, *args: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*GAMEDAY, *args], cwd=self.project.path, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def yard(project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Yard]:
    """A project whose drills run in a standing environment that an installed package brings."""
    for source, name in (("box_conftest", "conftest"), ("box_operations", "box_operations"), ("box_standing", "box_standing")):
        text = (HERE / f"{source}.py").read_text(encoding="utf-8").replace('("here",)', '("yard",)')
        project.makepyfile(**{name: text})
    installed = project.mkdir("yards-1.0.dist-info")
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: yards\nVersion: 1.0\n", encoding="utf-8")
    (installed / "entry_points.txt").write_text("[chaos.environments]\nyard = box_standing:Yard\n", encoding="utf-8")
    (project.path / "sign").write_text("the north one\n", encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(project.path))
    state = tmp_path / "state-home"
    monkeypatch.setenv("XDG_STATE_HOME", str(state))
    monkeypatch.delenv("GAMEDAY_STOP", raising=False)
    yield Yard(project, state)


def test_a_permitted_drill_leaves_its_record(yard: Yard, run: Run) -> None:
    """A drill that is allowed passes on the standing environment; lease, injection and healing stand in its audit log."""
    yard.write()
    result = run("-m", "staging", "--drill-operator", "ann")
    result.assert_outcomes(passed=1)
    assert yard.told() == [
        ("drill", "permitted"),
        ("lease", "permitted"),
        ("inject pause", "permitted"),
        ("landed", "done"),
        ("verified", "done"),
        ("lease", "done"),
    ]
    assert {(record.by, record.environment, record.drill) for record in yard.log()} == {
        ("ann", "staging", "test_yard.py::test_freeze[staging]")
    }
    assert not (yard.kept / "lease.json").exists()
    assert list((yard.kept / "journal").glob("*.jsonl"))
    checked = yard.gameday("audit", "verify")
    assert (checked.returncode, "6 records" in checked.stdout) == (0, True)
    assert "ann@" in yard.gameday("audit", "show").stdout


REFUSALS: list[tuple[str, Callable[[Yard], None], list[str]]] = [
    ("", lambda yard: _sign(yard, "the south one"), ["expected yard = 'the north one'", "observed yard = 'the south one'"]),
    ('freeze = [{ cron = "* * * * *", duration = "2m", reason = "always" }]', lambda yard: None, ["frozen until", "(always)"]),
    ('stop_when = [{ http = "http://127.0.0.1:9/health" }]', lambda yard: None, ["counts as fired", "not run blind"]),
    ("caps = { max_unavailable = 0 }", lambda yard: None, ["max_unavailable = 0", "1 would be down (box)"]),
]  # fmt: skip


def _sign(yard: Yard, text: str) -> None:
    (yard.project.path / "sign").write_text(text, encoding="utf-8")


@pytest.mark.parametrize(("more", "prepare", "parts"), REFUSALS, ids=["identity", "freeze", "unreadable condition", "cap"])
def test_a_refusal_touches_nothing_and_says_what_to_do(
    yard: Yard, run: Run, more: str, prepare: Callable[[Yard], None], parts: list[str]
) -> None:
    """What the guard does not allow fails the drill with one line, breaks nothing, and stands in the audit log as refused."""
    yard.write(more=more)
    prepare(yard)
    result = run("-m", "staging")
    assert result.ret == 1
    text = said(result)
    assert "refused: " in text and "Traceback" not in text
    for part in parts:
        assert part in text, text
    told = yard.told()
    assert [one for one in told if one[1] == "refused"]
    assert ("landed", "done") not in told
    assert not (yard.kept / "lease.json").exists()


def test_a_fault_that_is_not_listed_is_refused(yard: Yard, run: Run) -> None:
    """A fault beyond the allow-list is refused with the line of the file where it could be allowed."""
    yard.write(drill=DRILL.replace("Pause(box", "Noop(box"))
    text = said(run("-m", "staging"))
    assert "the fault noop is not allowed here; expected one of pause" in text
    assert "gameday.toml:4: environments.staging.allow.faults" in text


def test_production_without_approver_and_second_key_is_one_line(yard: Yard, run: Run) -> None:
    """Production is refused before the first drill, with exit code 4, and the refusal is in the audit log."""
    yard.write(more='tier = "production"')
    result = run("-m", "staging")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    (line,) = errors(result)
    assert "refused without an approver and a second key" in line and "gameday.toml:1" in line
    assert yard.told() == [("run", "refused")]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("sing = 'x'", ["environments.staging.settings.sing", "gameday.toml:7", "no setting 'sing' (did you mean 'sign'?)"]),
        ("", ["need the setting 'sign'", "[environments.staging.settings]"]),
    ],
)
def test_settings_are_those_of_the_provider(yard: Yard, run: Run, text: str, parts: list[str]) -> None:
    """A setting that the provider does not have, or one that it lacks, is one line with the line of the file."""
    yard.write()
    yard.project.makefile(".toml", gameday=POLICY.replace("{more}", "").replace('sign = "sign"', text))
    result = run("-m", "staging")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    (line,) = errors(result)
    for part in parts:
        assert part in line


def test_a_dry_run_shows_the_plan_and_changes_nothing(yard: Yard, run: Run) -> None:
    """A dry run shows nodes, nets, undo and decision of every fault as a table, skips the drill, and leaves node, ledger, lease and log."""
    body = "with drill.inject(Noop(box.node.ref)):\n            time.sleep(0)"
    yard.write(body=body, more="caps = { max_unavailable = 2 }")
    result = run("-m", "staging", "--drill-dry-run", "-rs")
    text = said(result)
    result.assert_outcomes(failed=1)
    assert "dry run: this drill would not run" in text and "the fault noop is not allowed here" in text
    yard.write(more="caps = { max_unavailable = 2 }")
    result = run("-m", "staging", "--drill-dry-run", "-rs")
    text = said(result)
    result.assert_outcomes(skipped=1)
    assert "dry run: 1 fault(s) planned, nothing was changed" in text
    for word in ("plan", "test_freeze[staging]", "pause", "box", "fixture, healer", "permitted"):
        assert word in text, text
    assert not list(yard.state.rglob("*"))
    assert not (yard.project.path / ".gameday").exists()


@pytest.mark.skipif(importlib.util.find_spec("xdist") is None, reason="pytest-xdist is not installed")
def test_a_dry_run_shows_the_plan_under_xdist_too(yard: Yard, run: Run) -> None:
    """Workers hand their part of the plan to the controller."""
    yard.write()
    result = run("-m", "staging", "--drill-dry-run", "-n2")
    result.assert_outcomes(skipped=1)
    assert "permitted" in said(result)


@pytest.mark.parametrize("body", ["drill.observe(60)", "time.sleep(60)"], ids=["observing", "asleep"])
@pytest.mark.parametrize("scope", [(), ("--env", "staging")], ids=["everything", "one environment"])
def test_the_kill_switch_aborts_a_running_drill(yard: Yard, run: Run, body: str, scope: tuple[str, ...]) -> None:
    """``gameday stop`` ends a drill that runs, also one whose test sleeps: healed, ABORTED, exit code 10; then none starts."""
    yard.write(body=body)
    with yard.start() as running:
        assert running.poll() is None, (yard.project.path / "out").read_text(encoding="utf-8")
        stopped = yard.gameday("stop", "--reason", "pager went off", *scope)
        assert stopped.returncode == 0, stopped.stderr
        assert running.wait(60) == 10
    assert ("verified", "done") in yard.told()
    report = yard.report()
    assert report["verdict"] == "ABORTED"
    assert "pager went off" in report["findings"][0]["text"]
    assert "abort" in [action for action, _ in yard.told()]
    refused = run("-m", "staging")
    assert "refused: staging: the kill switch is on" in said(refused) and "gameday resume" in said(refused)
    assert yard.gameday("resume", *scope).returncode == 0
    yard.write()
    run("-m", "staging").assert_outcomes(passed=1)


@pytest.mark.parametrize("place", ["project", "user", "environment"])
def test_from_the_file_to_the_healed_node_it_takes_less_than_three_seconds(yard: Yard, place: str) -> None:
    """An empty file ``STOP``, made by hand in any of its places, has everything healed within 3 s."""
    yard.write(body="time.sleep(60)")
    with yard.start() as running:
        folder = {"project": yard.project.path / ".gameday", "user": yard.state / "gameday", "environment": yard.kept}[place]
        begun = now_ns()
        (folder / "STOP").touch()
        wait_for(lambda: ("verified", "done") in yard.told(), timeout_s=10, what="the heal")
        healed_s = seconds(now_ns() - begun)
        assert running.wait(60) == 10
    print(f"healed {healed_s:.2f} s after the file {place}")
    assert healed_s < 3


def test_a_stop_condition_aborts_during_the_fault(yard: Yard) -> None:
    """A condition that fires while the fault is on aborts the drill, heals, and is named in the report."""
    (yard.project.path / "checks.py").write_text(
        "from pathlib import Path\ndef look(): return Path(__file__).with_name('said').read_text()\n", encoding="utf-8"
    )
    (yard.project.path / "said").write_text("", encoding="utf-8")
    yard.write(
        body="drill.observe(60)", more='stop_when = [{ probe = "checks.py::look", name = "orders", poll = "200ms", timeout = "5s" }]'
    )
    with yard.start() as running:
        (yard.project.path / "said").write_text("orders are lost", encoding="utf-8")
        assert running.wait(60) == 10
    report = yard.report()
    assert (report["verdict"], report["faults"][0]["verified"] is not None) == ("ABORTED", True)
    assert "stop condition orders: orders are lost" in report["findings"][0]["text"]


def test_two_runs_at_once_do_not_overlap(yard: Yard, run: Run) -> None:
    """While one run drills, another is refused, with the name of the first one's run and until when it holds the environment."""
    yard.write(body="drill.observe(60)")
    with yard.start("--drill-operator", "ann") as running:
        result = run("-m", "staging")
        assert result.ret == 1
        assert "refused: " in said(result) and "leased to ann on" in said(result) and "until 2" in said(result)
        yard.gameday("stop")
        assert running.wait(60) == 10


@pytest.mark.skipif(importlib.util.find_spec("xdist") is None, reason="pytest-xdist is not installed")
def test_workers_of_one_run_take_turns(yard: Yard, run: Run) -> None:
    """Two workers of one run never hold the environment at the same time."""
    yard.write(drill=DRILL + DRILL.replace("test_freeze", "test_again").partition("@pytest.mark.drill")[2].join(["@pytest.mark.drill", ""]))
    run("-m", "staging", "-n2").assert_outcomes(passed=2)
    held = [record.decision for record in yard.log() if record.action == "lease"]
    assert held == ["permitted", "done", "permitted", "done"]


def test_a_broken_log_is_found(yard: Yard, run: Run) -> None:
    """``gameday audit verify`` names the first line that does not fit and exits with 1."""
    yard.write()
    run("-m", "staging").assert_outcomes(passed=1)
    log = yard.kept / "audit.jsonl"
    lines = log.read_bytes().splitlines(keepends=True)
    record = msgspec.json.decode(lines[2], type=AuditRecord)
    lines[2] = msgspec.json.encode(msgspec.structs.replace(record, text="all is well")) + b"\n"
    log.write_bytes(b"".join(lines))
    broken = yard.gameday("audit", "verify", str(log))
    assert (broken.returncode, f"{log}:3: the record was changed" in broken.stderr) == (1, True)


def test_a_person_s_mistakes_with_the_switch_are_one_line(yard: Yard) -> None:
    """Stopping a disposable environment or an unknown one, and resuming what is not stopped, are told plainly."""
    yard.write()
    for args, part in ((("--env", "embedded"), "disposable"), (("--env", "stagin"), "did you mean 'staging'?")):
        done = yard.gameday("stop", *args)
        assert (done.returncode, part in done.stderr, len(done.stderr.splitlines())) == (4, True, 1), done.stderr
    assert "nothing was stopped" in yard.gameday("resume").stdout
    assert yard.gameday("audit", "verify").returncode == 4
    assert os.environ["XDG_STATE_HOME"] == str(yard.state)


def test_the_doctor_shows_what_to_pin(yard: Yard) -> None:
    """``gameday doctor`` says whether the environment is the pinned one, and what would pin it."""
    yard.write()
    assert '{ yard = "the north one" }' in yard.gameday("doctor", "staging").stdout
    _sign(yard, "the south one")
    found = " ".join(yard.gameday("doctor", "staging").stdout.split())
    assert 'pin it: identity = { yard = "the south one" }' in found


def test_a_stop_while_the_system_is_set_up_aborts_too(yard: Yard, run: Run) -> None:
    """A drill that is stopped while its fixtures still prepare the system comes out as aborted, with exit code 10 and one line."""
    slow = DRILL + "\n@pytest.fixture\ndef slow(drill, box):\n    time.sleep(60)\n"
    yard.write(drill=slow.replace("def test_freeze(drill, box)", "def test_freeze(drill, box, slow)"))
    argv = [sys.executable, "-m", "pytest", "-m", "staging", "-p", "no:cacheprovider"]
    with subprocess.Popen(argv, cwd=yard.project.path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as running:
        wait_for(lambda: ("lease", "permitted") in yard.told(), timeout_s=60, what="the drill to begin")
        yard.gameday("stop", "--reason", "pager")
        out, _ = running.communicate(timeout=60)
        assert running.returncode == 10, out
    assert "ABORTED before anything was broken: kill switch: " in out
    assert not (yard.kept / "lease.json").exists()
