"""SIGKILL at any moment of a real drill, of whichever process: nothing stays on the machine, and what was recorded can be read."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest
from crash_host import Run, kill_at, residue, running, supervisors

from chaos.core.clock import wait_for
from chaos.core.errors import EXIT_RESIDUE
from chaos.engine.journal import open_faults, read_journal
from chaos.measure.history import Outcome
from chaos.measure.reader import read
from chaos.testing.host import MARK, Host, descendants, described

pytestmark = pytest.mark.usefixtures("drills_work_here")
MOMENTS = 20
FIRST_S, LAST_S = 0.3, 14.0
# execnet gives a worker that lost its controller 5 s to finish, then Ctrl-C and 10 s to heal and take down, then ends it.
ORPHANS_GONE_WITHIN_S = 20.0


def moments(seed: int) -> list[float]:
    """One random moment in each of as many equal parts of a drill's life."""
    chance, width_s = random.Random(seed), (LAST_S - FIRST_S) / MOMENTS
    return [FIRST_S + (part + chance.random()) * width_s for part in range(MOMENTS)]


class Killed(NamedTuple):
    """One drill, killed: when, how far it had come, how many acknowledged operations it had recorded, and what is wrong afterwards."""

    moment_s: float
    phase: str
    acknowledged: int
    wrong: list[str]


def killed_once(directory: Path, moment_s: float, before: Host) -> Killed:
    """Start a drill and kill it."""
    directory.mkdir()
    with running(directory) as run:
        killed = kill_at(run, moment_s, time.monotonic())
        wrong = residue(run, before)
        for journal in run.drill_dir.glob("journal/*.jsonl"):
            open_faults(read_journal(journal)[0])
        history = run.history()
        if history is None or not run.flushed:
            return Killed(moment_s, "before the drill" if killed else "ended", 0, wrong)
        if not history.read_bytes().startswith(run.flushed):
            wrong.append("history: what was flushed before the kill is not there")
        seen = read(history)
        phases = [str(event.data["name"]) for event in seen.events if event.type == "phase"]
        acknowledged = int((seen.columns.outcome == Outcome.OK).sum())
        if acknowledged < run.flushed.count(b'["o"') - int((seen.columns.outcome != Outcome.OK).sum()):
            wrong.append("history: acknowledged operations cannot be read")
        return Killed(moment_s, (phases or ["before the control window"])[-1] if killed else "ended", acknowledged, wrong)


def test_sigkill_of_pytest_at_random_moments_leaves_nothing(tmp_path: Path) -> None:
    """Twenty drills, each killed at another moment of its life, two at a time: no process, interface, mount, memory, file or rule is left,
    and what their workloads had recorded until then can be read."""
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")
    before = Host.now()
    with ThreadPoolExecutor(2) as pool:
        jobs = [pool.submit(killed_once, tmp_path / str(number), moment, before) for number, moment in enumerate(moments(seed))]
        results = [job.result() for job in jobs]
    for one in results:
        print(f"{one.moment_s:6.2f} s  {one.phase}  {one.acknowledged} acknowledged  {one.wrong or 'nothing left'}")
    assert [one for one in results if one.wrong] == []
    assert len({one.phase for one in results}) >= 4 and max(one.acknowledged for one in results) > 100


def supervisor_killed_once(directory: Path, victim: str, moment_s: float, before: Host) -> tuple[str, float, float, list[str]]:
    """One drill whose supervisor is killed: which half, when, how long pytest went on, and what is wrong afterwards."""
    directory.mkdir()
    with running(directory) as run:
        began = time.monotonic()
        wait_for(lambda: supervisors(run) and run.history(), timeout_s=20, what="a sandbox", interval_s=0.05)
        wait_for(lambda: time.monotonic() - began > moment_s, timeout_s=moment_s + 1, what="the moment", interval_s=0.02)
        run.watch()
        stub, first = supervisors(run)[0]
        os.kill(stub if victim == "stub" else first, signal.SIGKILL)
        killed = time.monotonic()
        wait_for(lambda: not in_sandbox(run), timeout_s=15, what="the micro-hosts to be gone", interval_s=0.05)
        wrong = []
        try:
            code = run.process.wait(30)
        except subprocess.TimeoutExpired:
            wrong.append(f"pytest went on: {run.log()[-500:]}")
        else:
            wrong += [] if code in (1, EXIT_RESIDUE) else [f"exit code {code}: {run.log()[-2000:]}"]
            told = any(text in run.log() for text in ("the supervisor is gone", "the supervisor did not start"))  # killed while it started
            wrong += [] if "Traceback" not in run.log() and told else [f"unclear: {run.log()[-3000:]}"]
            wrong += residue(run, before)
        return victim, moment_s, time.monotonic() - killed, wrong


def test_sigkill_of_the_supervisor_leaves_nothing(tmp_path: Path) -> None:
    """Whichever half of the supervisor dies, everything on its micro-hosts is gone within seconds, and pytest soon ends with a failure
    that says so."""
    before = Host.now()
    cases = [(victim, moment_s) for moment_s in (4.5, 7.0, 9.0, 11.0) for victim in ("stub", "sandbox")]
    with ThreadPoolExecutor(2) as pool:
        jobs = [pool.submit(supervisor_killed_once, tmp_path / str(n), *case, before) for n, case in enumerate(cases)]
        results = [job.result() for job in jobs]
    for victim, moment_s, went_on_s, wrong in results:
        print(f"{victim} at {moment_s:5.2f} s: pytest ended {went_on_s:.1f} s later; {wrong or 'nothing left'}")
    assert [one for one in results if one[3]] == []


def in_sandbox(run: Run) -> list[str]:
    """What still runs in its user namespaces."""
    return [text for text in run.remnants() if not text.startswith(f"{run.process.pid} ")]


def test_sigkill_of_an_xdist_worker_leaves_nothing_of_it(tmp_path: Path) -> None:
    """The worker's own systems are gone within seconds, while the controller and the other worker go on; after the controller's
    SIGKILL the other worker takes down what it has and ends, too."""
    pytest.importorskip("xdist")
    before = Host.now()
    basetemp = f"--basetemp={tmp_path / 'basetemp'}"  # of xdist's controller; pytest itself keeps the last three
    with running(tmp_path, "-n2", "--drill-repeat=2", basetemp) as run:
        wait_for(lambda: len(supervisors(run)) == 2, timeout_s=30, what="two sandboxes", interval_s=0.05)
        specs = "runs/*/*/workload-0.json"
        wait_for(lambda: len(list(run.drill_dir.glob(specs))) == 2, timeout_s=30, what="two workloads", interval_s=0.05)
        run.watch()
        stub, _ = supervisors(run)[0]
        worker = psutil.Process(stub).parent()
        assert worker is not None and worker.pid != run.process.pid
        theirs = {process.pid for process in descendants(worker.pid)}
        worker.kill()
        wait_for(lambda: not any(map(described, theirs)), timeout_s=5, what="the worker's processes to be gone", interval_s=0.05)
        assert run.process.poll() is None
        run.watch()
        run.process.kill()
        run.process.wait(10)
        killed = time.monotonic()
        assert residue(run, before, ORPHANS_GONE_WITHIN_S) == []
        print(f"the other worker was gone {time.monotonic() - killed:.1f} s after its controller")


def test_what_is_left_would_be_seen(tmp_path: Path) -> None:
    """The comparison finds a process that carries the mark, a file outside the drill's directory, and a shared memory object."""
    before = Host.now()
    with running(tmp_path, "--collect-only") as run:
        environ = {"PATH": os.environ["PATH"], MARK: run.mark}
        leftover = subprocess.Popen(["sleep", "60"], env=environ)
        shared = Path("/dev/shm") / f"crash-test-{run.mark}"
        try:
            shared.touch()
            (run.outside / "tmp" / "leftover").touch()
            run.process.wait(30)
            seen = residue(run, before)
        finally:
            leftover.kill()
            leftover.wait()
            shared.unlink()
    for kind in ("process: ", "shared memory: ", "file: tmp/leftover"):
        assert any(text.startswith(kind) for text in seen), kind
    assert residue(run, before) == ["file: tmp/leftover"]
