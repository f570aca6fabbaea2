"""Real drills of a small real system, in a project of their own: how verdicts reach people, files and neighbouring plugins."""

from __future__ import annotations

import importlib.util
import json
import xml.etree.ElementTree as ET
from typing import Any

import pytest
from plugin_project import Run, said

HAS_XDIST = importlib.util.find_spec("xdist") is not None
HAS_HTML = importlib.util.find_spec("pytest_html") is not None
needs_xdist = pytest.mark.skipif(not HAS_XDIST, reason="pytest-xdist is not installed")
needs_html = pytest.mark.skipif(not HAS_HTML, reason="pytest-html is not installed")

PASSING = '''
import pytest
from chaos import Pause

@pytest.mark.drill("api-crash", rto="30s", rpo=0)
def test_freeze(drill, box):
    """The box answers again after it was frozen, and keeps what it acknowledged."""
    writes = drill.workload(box.writes())
    with drill.inject(Pause(box.node.ref)):
        pass
    writes.wait_recovered()
'''
LOSSY = '''
import pytest
from chaos import Noop

@pytest.mark.drill(rpo=0{more})
@pytest.mark.box(lossy=True)
def test_lossy(drill, box):
    """The box keeps what it acknowledged."""
    writes = drill.workload(box.writes())
    with drill.inject(Noop(box.node.ref)):
        writes.wait_recovered()
'''


def _reports(project: pytest.Pytester) -> dict[str, dict[str, Any]]:
    """Every report.json of the newest run, by the name of the drill's test."""
    files = sorted((project.path / ".gameday/runs/latest").glob("*/report.json"))  # of two attempts the second stands
    found = (json.loads(file.read_text(encoding="utf-8")) for file in files)
    return {report["drill"].partition("::")[2]: report for report in found}


def test_a_drill_passes_with_its_evidence(box: pytest.Pytester, run: Run) -> None:
    """A drill that recovers passes; its report, the summary and the JUnit properties say the same."""
    box.makepyfile(PASSING)
    result = run("--junitxml=junit.xml", "--drill-seed=7", "-p", "no:xdist", "-p", "no:html")
    result.assert_outcomes(passed=1)
    report = _reports(box)["test_freeze[here]"]
    assert report["verdict"] == "PASS"
    assert report["scenario"] == "api-crash"
    assert report["rpo"]["lost"] == 0
    assert report["faults"][0]["kind"] == "pause"
    assert report["faults"][0]["verified"] is not None
    assert "PASS" in said(result) and "report.html" in said(result) and "seed 7" in said(result)
    properties = {one.get("name"): one.get("value") for one in ET.parse(box.path / "junit.xml").iter("property")}
    assert properties["gameday.verdict"] == "PASS"
    assert properties["gameday.seed"] == str(report["seed"])


def test_a_broken_twin_fails_with_its_reason_first(box: pytest.Pytester, run: Run) -> None:
    """Lost writes fail a drill, with the verdict and its reason in the first line, unless that reason was expected."""
    box.makepyfile(LOSSY.format(more=', expect="FAIL", because="rto"'))
    result = run()
    result.assert_outcomes(failed=1)
    assert [line for line in result.outlines if line.startswith("FAIL (expected FAIL because of rto): rpo: ")]
    assert "Traceback" not in said(result)


OTHERS = '''
import pytest
from chaos import Noop, Unavailable

@pytest.mark.drill(environments=["here"])
def test_nothing(drill):
    """Exercises nothing."""

@pytest.mark.drill
def test_asserts(drill, box):
    """Ends in an error of its own."""
    drill.workload(box.writes())
    assert box.port == 0

@pytest.mark.drill
def test_skips(drill, box):
    """Finds out that it cannot run."""
    raise Unavailable("no such thing here", next_step="buy one")

@pytest.mark.drill(rto="100ms")
def test_unresolvable(drill, box):
    """Asks for more than its rate can tell."""
    drill.workload(box.writes(rate_hz=10))
'''


def test_what_is_no_verdict_of_the_system(box: pytest.Pytester, run: Run) -> None:
    """A drill that did nothing is INVALID, an assertion keeps its traceback, an unavailable thing skips, a coarse rate is refused."""
    box.makepyfile(OTHERS)
    result = run("-rs")
    result.assert_outcomes(failed=3, skipped=1)
    text = said(result)
    assert "INVALID: nothing: The drill exercised nothing" in text
    assert "assert box.port == 0" in text
    assert "no such thing here; next: buy one" in text
    assert "test_what_is_no_verdict_of_the_system.py:14" in text
    assert "bad input: a workload of 10 operations/s" in text and "use a rate of 200 or more" in text


EVADING = '''
import pytest
from chaos import Noop

@pytest.mark.drill(rpo=0)
def test_unread(drill, box):
    """The ledger is lost with everything in it."""
    drill.workload(box.writes())
    with drill.inject(Noop(box.node.ref)):
        pass
    box._ledger.rename(box._ledger.with_suffix(".gone"))

@pytest.mark.drill(rpo=0)
@pytest.mark.box(lossy=True)
def test_leaves(drill, box):
    """A test that leaves when it has seen enough."""
    drill.workload(box.writes())
    with drill.inject(Noop(box.node.ref)):
        pytest.skip("seen enough")

@pytest.mark.drill(rto="20s")
@pytest.mark.box(lossy=True)
def test_says_nothing_of_loss(drill, box):
    """A drill that states no RPO."""
    drill.workload(box.writes())
    with drill.inject(Noop(box.node.ref)):
        pass
'''


def test_nothing_gets_out_of_a_verdict(box: pytest.Pytester, run: Run) -> None:
    """Survivors that could not be read are INVALID, and neither a skip after the injection nor silence about RPO hides a loss."""
    box.makepyfile(EVADING)
    result = run()
    result.assert_outcomes(failed=3)
    reports = _reports(box)
    unread, leaves, silent = (reports[f"{name}[here]"] for name in ("test_unread", "test_leaves", "test_says_nothing_of_loss"))
    assert (unread["verdict"], unread["findings"][0]["code"]) == ("INVALID", "read")
    assert (leaves["verdict"], leaves["findings"][0]["code"]) == ("FAIL", "rpo")
    assert (silent["verdict"], silent["findings"][0]["code"]) == ("FAIL", "rpo")


def test_a_required_environment_may_not_be_skipped(box: pytest.Pytester, run: Run) -> None:
    """With ``--drill-require`` the same skip is a failure that says so."""
    box.makepyfile(OTHERS)
    result = run("-k", "test_skips", "--drill-require", "here")
    result.assert_outcomes(failed=1)
    assert "required by this run (--drill-require): no such thing here" in said(result)


def test_a_failed_heal_is_an_error_beside_the_verdict(box: pytest.Pytester, run: Run) -> None:
    """A fault that cannot be undone is told at teardown, with residue's own exit code; the report is there."""
    box.makepyfile(
        PASSING.replace("def test_freeze", "@pytest.mark.box(stuck=True)\ndef test_freeze")
        .replace("30s", "8s")
        .replace("writes.wait_recovered()", "")
    )
    result = run()
    assert "healing failed" in said(result)
    assert result.parseoutcomes()["errors"] == 1
    assert result.ret == 11
    assert _reports(box)["test_freeze[here]"]["heal_error"]


@needs_xdist
def test_workers_drill_side_by_side(box: pytest.Pytester, run: Run) -> None:
    """Under ``-n2`` drills share one run; the controller shows all of them and the exit code of the whole."""
    box.makepyfile(test_one=PASSING, test_two=LOSSY.format(more=', expect="FAIL", because="rpo"'))
    result = run("-n2")
    result.assert_outcomes(passed=2)
    assert len(_reports(box)) == 2
    assert "2 drills: 2 as expected, 0 not" in said(result)
    assert len([path for path in (box.path / ".gameday/runs").iterdir() if not path.is_symlink()]) == 1


@needs_xdist
def test_a_crashed_worker_loses_no_verdict(box: pytest.Pytester, run: Run) -> None:
    """A worker that is killed before it could report leaves its report, and the controller shows it; its drill is not tried again."""
    box.makepyfile(PASSING)
    conftest = box.path / "conftest.py"
    crash = '\n\n@pytest.hookimpl(tryfirst=True)\ndef pytest_runtest_makereport(item, call):\n    if call.when == "call":\n'
    conftest.write_text(conftest.read_text() + crash + "        os.kill(os.getpid(), signal.SIGKILL)\n")
    result = run("-n1", "--max-worker-restart=1")
    assert result.ret != 0
    assert "crashed" in said(result) and "1 failed" in said(result) and "rerun" not in said(result).rpartition("\n")[2]
    assert "test_freeze[here]" in said(result).partition("= drills =")[2]
    assert _reports(box)["test_freeze[here]"]["verdict"] in ("PASS", "INVALID")  # the latter on a machine too busy to measure


@needs_html
def test_the_row_of_pytest_html_shows_the_drill(box: pytest.Pytester, run: Run) -> None:
    """pytest-html's page holds the drill's block in its row and its verdict in the summary, everything escaped."""
    source = LOSSY.format(more=', expect="FAIL", because="rpo"').replace(
        "def test_lossy(drill, box)", '@pytest.mark.parametrize("text", ["<b>bold</b>"])\ndef test_lossy(drill, box, text)'
    )
    box.makepyfile(source)
    run("--html=page.html", "--self-contained-html", "-p", "no:xdist").assert_outcomes(passed=1)
    page = (box.path / "page.html").read_text(encoding="utf-8")
    assert "gameday" in page
    assert "as this drill expects" in page
    assert "&lt;b&gt;bold&lt;/b&gt;]" in page


def test_repeats_stop_at_the_verdict_sought(box: pytest.Pytester, run: Run) -> None:
    """Of three repeats that seek a FAIL the first finds it and the others are skipped; where none finds it the last one fails."""
    sought = LOSSY.format(more=', expect="FAIL", because="rpo", repeat=3, until="FAIL"')
    box.makepyfile(test_found=sought, test_missed=sought.replace("lossy=True", "lossy=False"))
    result = run("-rs", "-k", "test_found or here-2 or here-3")
    result.assert_outcomes(passed=2, skipped=2, failed=1)
    assert "repeat 1 came out as FAIL, which is what was sought" in said(result)
    assert "none of 2 repeats came out as FAIL because of rpo" in said(result)
