"""The supervisor on real processes: it restarts with back-off or not at all, ends what it started, and does not mind a full disk."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO

import pytest

from chaos import wait_for

SUPERVISOR = Path(__file__).parents[2] / "fixtures" / "webstack" / "service" / "supervisor.py"
Supervise = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def supervise(tmp_path: Path) -> Iterator[Supervise]:
    """Starts supervisors that write to ``log``, and ends them."""
    with ExitStack() as ends:

        def start(*argv: str, restart: bool = True, out: IO[bytes] | None = None) -> subprocess.Popen[bytes]:
            told = json.dumps({"argv": argv, "restart": restart})
            log = out or ends.enter_context(open(tmp_path / "log", "wb"))
            running = subprocess.Popen([sys.executable, "-I", "-S", SUPERVISOR, told], stdout=log)
            ends.callback(running.wait, 10)
            ends.callback(running.kill)
            return running

        yield start


def said(tmp_path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_what_ends_is_started_again_and_the_pause_doubles(supervise: Supervise, tmp_path: Path) -> None:
    """A program that ends at once is started again after 0.1, 0.2 and 0.4 s, and the log says so."""
    supervise("/bin/sh", "-c", "exit 3")
    wait_for(lambda: len([x for x in said(tmp_path) if x["supervisor"] == "started"]) >= 4, timeout_s=10, what="four starts")
    pauses = [(line["code"], line["restart_in_s"]) for line in said(tmp_path) if line["supervisor"] == "ended"]
    assert pauses[:3] == [(3, 0.1), (3, 0.2), (3, 0.4)]


def test_without_a_restart_policy_it_ends_with_its_program(supervise: Supervise) -> None:
    """With restart=False the supervisor's exit code is its program's."""
    assert supervise("/bin/sh", "-c", "exit 3", restart=False).wait(10) == 3


def test_a_killed_program_is_started_again(supervise: Supervise) -> None:
    """After SIGKILL another process runs."""
    running = supervise("/bin/sleep", "60")
    first = wait_for(lambda: children(running.pid), timeout_s=10, what="the program to start")[0]
    os.kill(first, signal.SIGKILL)
    wait_for(lambda: [pid for pid in children(running.pid) if pid != first], timeout_s=10, what="another to start")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_its_program_ends_with_it(supervise: Supervise, number: signal.Signals) -> None:
    """However the supervisor ends, its program does not outlive it."""
    running = supervise("/bin/sleep", "60")
    child = wait_for(lambda: children(running.pid), timeout_s=10, what="the program to start")[0]
    running.send_signal(number)
    assert running.wait(10) == (0 if number == signal.SIGTERM else -9)
    wait_for(lambda: not Path(f"/proc/{child}/fd").exists(), timeout_s=10, what="the program to be gone")


def test_a_program_that_ignores_the_signal_is_killed(supervise: Supervise) -> None:
    """After 3 s without an end it is killed, and the supervisor ends in order."""
    running = supervise("/bin/sh", "-c", "trap '' TERM; while :; do sleep 0.1; done")
    wait_for(lambda: children(running.pid), timeout_s=10, what="the program to start")
    wait_for(lambda: _ignores_term(children(running.pid)[0]), timeout_s=10, what="the program to ignore SIGTERM")
    running.terminate()
    assert running.wait(10) == 0


def _ignores_term(pid: int) -> bool:
    ignored = Path(f"/proc/{pid}/status").read_text().partition("SigIgn:")[2].split()[0]
    return bool(int(ignored, 16) >> (signal.SIGTERM - 1) & 1)


def test_a_full_disk_does_not_stop_it(supervise: Supervise) -> None:
    """A log that takes nothing is no reason to leave the program alone."""
    with open("/dev/full", "wb", buffering=0) as full:
        running = supervise("/bin/sleep", "60", out=full)
        first = wait_for(lambda: children(running.pid), timeout_s=10, what="the program to start")[0]
        os.kill(first, signal.SIGKILL)
        wait_for(lambda: [pid for pid in children(running.pid) if pid != first], timeout_s=10, what="another to start")
