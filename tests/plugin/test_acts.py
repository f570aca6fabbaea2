"""Checks, signals, runbooks and degradation objectives in real drills of a small real system."""

from __future__ import annotations

import json
from typing import Any

import pytest
from plugin_project import Run, said

ALONE = ("-p", "no:xdist", "--drill-again=2")


def _reports(project: pytest.Pytester) -> dict[str, dict[str, Any]]:
    """Every report.json of the newest run, by the name of the drill's test without its environment."""
    files = sorted((project.path / ".gameday/runs/latest").glob("*/report.json"))  # of two attempts the second stands
    found = (json.loads(file.read_text(encoding="utf-8")) for file in files)
    return {report["drill"].partition("::")[2].removesuffix("[here]"): report for report in found}


def _verdict(report: dict[str, Any]) -> tuple[str, str]:
    return report["verdict"], (report["findings"] or [{"code": ""}])[0]["code"]


CHECKS = '''
import pytest
from chaos import NotHealthy, Pause

@pytest.mark.drill
def test_checks_alone(drill, box):
    """What needs no fault and no workload is looked at."""
    assert drill.check("the box answers", lambda: box.prove_healthy(1.0)) == f"port {box.port} answers"
    looks = []
    def third_time():
        looks.append(1)
        if len(looks) < 3:
            raise NotHealthy("not yet")
        return f"at look {len(looks)}"
    assert drill.check("comes up", third_time, within="5s") == "at look 3"

@pytest.mark.drill(rto="30s", rpo=0, expect="FAIL", because="check")
def test_a_check_fails(drill, box):
    """A check that does not hold ends the test, and is the reason of the verdict."""
    writes = drill.workload(box.writes(20))
    with drill.inject(Pause(box.node.ref)):
        drill.check("frozen boxes answer", lambda: box.prove_healthy(0.2), within="500ms")
        raise RuntimeError("the test went on")

@pytest.mark.drill
def test_a_wrong_check(drill, box):
    """A mistake in a check is an error of the test."""
    drill.check("nothing", lambda: undefined)
'''


def test_checks_are_findings_and_not_errors(box: pytest.Pytester, run: Run) -> None:
    """Checks alone make a drill; one that does not hold is the finding ``check``; a mistake in one is an error of the test."""
    box.makepyfile(CHECKS)
    result = run(*ALONE)
    result.assert_outcomes(passed=2, failed=1)
    assert "name 'undefined' is not defined" in said(result)
    reports = _reports(box)
    assert _verdict(reports["test_checks_alone"]) == ("PASS", "")
    assert [(one["name"], one["attempts"], one["held"]) for one in reports["test_checks_alone"]["checks"]] == [
        ("the box answers", 1, True),
        ("comes up", 3, True),
    ]
    fails = reports["test_a_check_fails"]
    assert _verdict(fails) == ("FAIL", "check")
    assert "'frozen boxes answer' did not hold within 0.5 s" in fails["findings"][0]["text"]
    assert [one for one in fails["findings"] if one["code"] == "error"] == []


RUNBOOKS = '''
import time
import pytest
from chaos import Pause, Phase, Runbook, Shell
from chaos.engine.runbook import Call

def rebuild(box, nap=0.0):
    return Runbook("rebuild", (
        Phase("assess", (
            Shell("look", "echo all is lost; sleep 0.3", expect="lost"),
            Call("wait", lambda: time.sleep(nap)),
        ), budget="2s"),
        Phase("bring back", (
            Call("thaw", lambda: box.node.thaw()),
            Call("ask", lambda: box.prove_healthy(2.0), expect="answers"),
        ), budget="3s"),
    ), budget="10s", secrets=("hunter2",))

@pytest.mark.drill(rto="30s", rpo=0)
def test_rebuilt(drill, box):
    """A frozen box is brought back by a runbook."""
    writes = drill.workload(box.writes(20))
    drill.workload(box.reads(20, rto="20s"))
    with drill.inject(Pause(box.node.ref)):
        outcome = drill.run(rebuild(box))
        assert outcome.ok and outcome.step("look").seen == "all is lost"
        writes.wait_recovered()

@pytest.mark.drill(rto="30s", rpo=0, expect="FAIL", because="runbook")
def test_too_slow(drill, box):
    """A phase that takes longer than its budget is the reason of the verdict."""
    writes = drill.workload(box.writes(20))
    with drill.inject(Pause(box.node.ref)):
        assert drill.run(rebuild(box, nap=2.2)).ok
        writes.wait_recovered()

@pytest.mark.drill(rto="30s", rpo=0, expect="FAIL", because="runbook")
def test_stops(drill, box):
    """A step that fails stops the runbook and the test."""
    drill.workload(box.writes(20))
    with drill.inject(Pause(box.node.ref)):
        drill.run(Runbook("hopeless", (
            Shell("try", "echo key hunter2 password=swordfish; echo no luck >&2; exit 3"),
            Call("never", lambda: pytest.fail("the runbook went on")),
        ), secrets=("hunter2",)))
        raise RuntimeError("the test went on")
'''


def test_runbooks_are_timed_and_stop_at_a_failing_step(box: pytest.Pytester, run: Run) -> None:
    """Steps and phases are timed, a phase over its budget and a failing step are the finding ``runbook``, and no secret is printed."""
    box.makepyfile(RUNBOOKS)
    result = run(*ALONE)
    result.assert_outcomes(passed=3)
    reports = _reports(box)
    rebuilt, slow, stopped = (reports[f"test_{name}"] for name in ("rebuilt", "too_slow", "stops"))
    assert _verdict(rebuilt) == ("PASS", "")
    steps = rebuilt["runbooks"][0]["steps"]
    assert [(step["name"], step["state"], step["phase"]) for step in steps] == [
        ("look", "done", "assess"),
        ("wait", "done", "assess"),
        ("thaw", "done", "bring back"),
        ("ask", "done", "bring back"),
    ]
    assert 0.3 <= steps[0]["took_s"] < 2
    assert [name["name"] for name in rebuilt["phases"] if name["name"] in ("assess", "bring back")] == [
        "assess",
        "bring back",
    ]
    assert {(one["name"], one["workload"], one["bound"]) for one in rebuilt["objectives"] if one["name"] == "rto_client"} == {
        ("rto_client", "writes", 30),
        ("rto_client", "reads", 20),
    }
    assert "RTO of reads" in said(result) and "RTO of writes" in said(result)
    assert "The step “wait” of the runbook rebuild took" in said(result)
    assert _verdict(slow) == ("FAIL", "runbook")
    assert "the phase 'assess' of the runbook 'rebuild' took 2.5" in slow["findings"][0]["text"]
    assert "its longest step, 'wait'" in slow["findings"][0]["text"]
    assert _verdict(stopped) == ("FAIL", "runbook")
    assert "stopped at the step 'try'" in stopped["findings"][0]["text"] and "no luck" in stopped["findings"][0]["text"]
    assert [step["state"] for step in stopped["runbooks"][0]["steps"]] == ["failed", "not run"]
    kept = "".join(path.read_text(encoding="utf-8") for path in box.path.glob(".gameday/runs/*/*/*.*") if path.is_file())
    assert "hunter2" not in kept + said(result) and "swordfish" not in kept + said(result)


SIGNALS = '''
import pytest
from chaos import Pause

@pytest.mark.drill(rto="30s", mttd={"frozen": "5s"})
def test_noticed(drill, box):
    """A freeze is noticed in time."""
    writes = drill.workload(box.writes(20))
    alarm = drill.signal("frozen", box.node.frozen, every_s=0.1)
    with drill.inject(Pause(box.node.ref)):
        assert alarm.wait_fired("5s")
    writes.wait_recovered()

@pytest.mark.drill(rto="30s", mttd={"deaf": "100ms"}, expect="FAIL", because="mttd")
def test_unnoticed(drill, box):
    """A signal that never fires has failed its budget."""
    writes = drill.workload(box.writes(20))
    alarm = drill.signal("deaf", lambda: False)
    with drill.inject(Pause(box.node.ref)):
        assert not alarm.wait_fired("500ms")
    writes.wait_recovered()

@pytest.mark.drill(rto="30s", mttd={"always": "5s"}, expect="INVALID", because="mttd")
def test_false_alarm(drill, box):
    """A signal that fires before there is a fault proves nothing."""
    writes = drill.workload(box.writes(20))
    drill.signal("always", lambda: True)
    with drill.inject(Pause(box.node.ref)):
        pass
    writes.wait_recovered()
'''


def test_signals_have_their_time_measured(box: pytest.Pytester, run: Run) -> None:
    """The time to detect is an interval; never is FAIL, before the fault is INVALID."""
    box.makepyfile(SIGNALS)
    run(*ALONE).assert_outcomes(passed=3)
    reports = _reports(box)
    noticed = reports["test_noticed"]["detections"][0]
    fault = reports["test_noticed"]["faults"][0]
    assert noticed["mttd"]["lo_s"] <= noticed["mttd"]["hi_s"] <= 5
    assert noticed["mttd"]["hi_s"] == pytest.approx(noticed["fired_s"] - fault["issued"], abs=1e-3)
    assert reports["test_unnoticed"]["detections"][0]["mttd"]["hi_s"] is None
    assert "it fired before the fault was issued" in reports["test_false_alarm"]["findings"][0]["text"]


DEGRADED = '''
import pytest
from chaos import Noop, Pause

BOUNDS = dict(latency_p99="80ms", error_rate=0.01, must_return_to_baseline="6s")

@pytest.mark.drill(rto="30s", **BOUNDS)
def test_steady(drill, box):
    """Nothing happens, and clients do not notice."""
    drill.workload(box.writes(100))
    with drill.inject(Noop(box.node.ref)):
        drill.observe(6)

@pytest.mark.drill(rto="30s", latency_p99="20ms", expect="FAIL", because="latency")
def test_slow(drill, box):
    """Every answer takes 40 ms longer under the fault."""
    drill.workload(box.writes(100))
    with drill.inject(Noop(box.node.ref)):
        box.delay(0.04)
        drill.observe(6)
        box.delay(0)

@pytest.mark.drill(rto="30s", error_rate=0.001, expect="FAIL", because="error-rate")
def test_errors(drill, box):
    """A freeze of a second fails operations."""
    writes = drill.workload(box.writes(100))
    with drill.inject(Pause(box.node.ref)):
        drill.observe(1.5)
    writes.wait_recovered()

@pytest.mark.drill(rto="30s", must_return_to_baseline="2s", expect="FAIL", because="baseline")
def test_stays_slow(drill, box):
    """The fault is gone, its delay of 50 ms stays."""
    drill.workload(box.writes(100))
    with drill.inject(Noop(box.node.ref)):
        box.delay(0.05)
'''


def test_degradation_is_judged_under_the_fault_and_after_it(box: pytest.Pytester, run: Run) -> None:
    """Latency, errors and the return to the baseline are objectives, each with a broken twin that fails for that very reason."""
    box.makepyfile(DEGRADED)
    run(*ALONE).assert_outcomes(passed=4)
    reports = _reports(box)
    steady = reports["test_steady"]["degradations"][0]
    assert steady["errors"] == 0 and steady["operations"] >= 500
    assert steady["returned"]["interval"]["hi_s"] <= 6
    assert reports["test_slow"]["degradations"][0]["latency_p99"]["lo_s"] >= 0.04
    assert reports["test_errors"]["degradations"][0]["errors"] > 10
    assert "returned to its baseline not, as long as it was observed" in reports["test_stays_slow"]["findings"][0]["text"]


DRY = '''
import pytest
from chaos import Pause, Runbook, Shell

@pytest.mark.drill(rto="30s", mttd={"frozen": "5s"})
def test_dry(drill, box, tmp_path):
    """Everything that a drill can do besides breaking things."""
    writes = drill.workload(box.writes())
    alarm = drill.signal("frozen", lambda: pytest.fail("it was looked at"))
    with drill.inject(Pause(box.node.ref)):
        outcome = drill.run(Runbook("book", (Shell("touch", f"touch {tmp_path}/done"),)))
        assert not outcome.ok and outcome.steps[0].state == "not run"
        assert alarm.wait_fired("5s")
        assert "not checked" in drill.check("never", lambda: pytest.fail("it was asked"))
        writes.wait_recovered()
    assert not list(tmp_path.glob("done"))
'''


def test_a_dry_run_runs_no_step_and_asks_nothing(box: pytest.Pytester, run: Run) -> None:
    """Under ``--drill-dry-run`` no step is run, no check asked and no signal looked at."""
    box.makepyfile(DRY)
    result = run("-p", "no:xdist", "-rs", "--drill-dry-run")
    result.assert_outcomes(skipped=1)
    assert "1 fault(s) planned, nothing was changed" in said(result)
