"""A drill whose workload was starved measured nothing: where that is asked for, and in disposable environments, it is measured anew."""

from __future__ import annotations

import importlib.util
import json
from xml.etree import ElementTree

import pytest
from plugin_project import Run, said

DRILL = '''
import os, pathlib, signal, time
import pytest
from chaos import Noop

@pytest.mark.drill({marker})
def test_starved(drill, box):
    """Its workload stands still again and again, each time for less than its timeout; the first {times} time(s)."""
    writes = drill.workload(box.writes())
    tries = pathlib.Path("tries")
    tries.touch()
    with drill.inject(Noop(box.node.ref)):
        if tries.stat().st_size < {times}:
            for _ in range(10):
                os.kill(box._clients[-1].pid, signal.SIGSTOP)
                time.sleep(0.45)
                os.kill(box._clients[-1].pid, signal.SIGCONT)
                time.sleep(0.02)
        with tries.open("a") as file:
            file.write("x")
        writes.wait_recovered()
'''


def tries(box: pytest.Pytester) -> int:
    """How often the drill ran."""
    return (box.path / "tries").stat().st_size


def test_a_starved_drill_is_measured_anew(box: pytest.Pytester, run: Run) -> None:
    """The second attempt counts, the first keeps its report and is named; JUnit has both, in order."""
    box.makepyfile(DRILL.format(times=1, marker=""))
    result = run("--drill-again=2", "--junitxml=junit.xml", "-p", "no:xdist")
    assert result.ret == 0 and tries(box) == 2, said(result)
    assert "measured anew, because it was starved: test_a_starved_drill_is_measured_anew.py::test_starved[here]" in said(result)
    assert "1 passed, 1 rerun" in said(result) and said(result).count("::test_starved[here]") == 2, said(result)  # one verdict, one attempt
    reports = (box.path / ".gameday/runs/latest").glob("*/report.json")
    assert sorted(json.loads(file.read_text())["verdict"] for file in reports) == ["INVALID", "PASS"]
    told = [one.attrib["value"] for one in ElementTree.parse(box.path / "junit.xml").iter("property") if "verdict" in one.attrib["name"]]
    assert told == ["INVALID", "PASS"]


UNWELL = '''
import pathlib, time
import pytest
from chaos import Noop

@pytest.mark.drill(rpo=0)
@pytest.mark.box(lossy={lossy})
def test_unwell(drill, box):
    """Before anything is broken the server stands still for longer than a client waits; the first time."""
    writes = drill.workload(box.writes())
    tries = pathlib.Path("tries")
    tries.touch()
    if tries.stat().st_size < 1:
        box.node.freeze()
        time.sleep(0.8)
        box.node.thaw()
    with tries.open("a") as file:
        file.write("x")
    with drill.inject(Noop(box.node.ref)):
        writes.wait_recovered()
'''


@pytest.mark.parametrize(("lossy", "ran", "text"), [(False, 2, "because the system was not well before"), (True, 1, "FAIL: rpo")])
def test_a_system_that_was_not_well_is_asked_again(box: pytest.Pytester, run: Run, lossy: bool, ran: int, text: str) -> None:
    """INVALID because of the control window is measured anew; a loss that was proven beside it is FAIL and stands."""
    box.makepyfile(UNWELL.format(lossy=lossy))
    result = run("--drill-again=2", "-p", "no:xdist")
    assert tries(box) == ran and text in said(result) and result.ret == (1 if lossy else 0), said(result)


EXPECTED = 'expect="FAIL", because="rto"'


@pytest.mark.parametrize(
    ("times", "marker", "options", "ran", "text"),
    [
        (9, "", ["--drill-again=1"], 2, "INVALID: starved"),
        (1, "", ["-o", "drill_again=0"], 1, "INVALID: starved"),
        (0, EXPECTED, ["--drill-again=2"], 1, "PASS (expected FAIL because of rto)"),
    ],
    ids=["starved again and again", "not asked for", "another verdict"],
)
def test_what_is_not_measured_anew(
    box: pytest.Pytester, run: Run, times: int, marker: str, options: list[str], ran: int, text: str
) -> None:
    """After as many attempts as were asked for, without being asked, and with any other verdict, the last attempt stands and fails."""
    box.makepyfile(DRILL.format(times=times, marker=marker))
    result = run(*options, "-p", "no:xdist")
    assert result.ret == 1 and tries(box) == ran and text in said(result), said(result)


@pytest.mark.skipif(importlib.util.find_spec("xdist") is None, reason="pytest-xdist is not installed")
def test_a_worker_measures_anew_too(box: pytest.Pytester, run: Run) -> None:
    """Under pytest-xdist the second attempt counts as well, and the first is named."""
    box.makepyfile(DRILL.format(times=1, marker=""))
    result = run("--drill-again=2", "-n1")
    assert result.ret == 0 and tries(box) == 2 and "measured anew, because it was starved" in said(result), said(result)


def test_the_plugin_that_does_it_must_be_there(box: pytest.Pytester, run: Run) -> None:
    """Asked for without pytest-rerunfailures: one line with the fix, and nothing is run."""
    box.makepyfile(DRILL.format(times=0, marker=""))
    result = run("--drill-again=2", "-p", "no:rerunfailures")
    assert result.ret == 4 and "pip install pytest-rerunfailures" in said(result), said(result)
