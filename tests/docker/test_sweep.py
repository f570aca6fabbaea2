"""What dead runs leave behind goes; what living runs own stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from chaos.core.clock import wait_for
from chaos.core.errors import EnvironmentFailed
from chaos.environments.docker import Docker, NodeSpec
from chaos.environments.docker.engine import connect
from chaos.environments.docker.owner import OWNER_PID, OWNER_SCOPE, OWNER_START, owner_is_dead, owner_labels

# The process that makes a system and then waits to be killed; in a session of its own, without Ryuk, so that our sweep alone is tested.
OWNER = """
import sys
from pathlib import Path
from chaos.environments.docker import Docker, NodeSpec
environment = Docker()
environment.open(run_id="owner", state_dir=Path(sys.argv[1]))
lan = environment.lan("owned")
lan.start(NodeSpec(name="x", image=sys.argv[2], data={"/pgdata": "postgres"}))
print(lan._unique, flush=True)
sys.stdin.read()
"""


def start_owner(state_dir: Path, image: str) -> tuple[subprocess.Popen[str], str]:
    process = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(state_dir), image],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TESTCONTAINERS_RYUK_DISABLED": "true"},
    )
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def end(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait(10)
    for pipe in (process.stdin, process.stdout):
        assert pipe is not None
        pipe.close()


@pytest.mark.docker_engine
def test_a_killed_runs_leftovers_are_swept_and_a_living_runs_are_not(
    docker_environment: Docker, machine_image: str, tmp_path: Path
) -> None:
    """After SIGKILL of one of two runs side by side, the next open removes its container, network and volume, and only those."""
    dead, dead_name = start_owner(tmp_path / "dead", machine_image)
    alive, alive_name = start_owner(tmp_path / "alive", machine_image)
    next_run = Docker()
    try:
        assert dead_name and alive_name
        end(dead)
        next_run.open(run_id="next", state_dir=tmp_path / "next")
        swept = [what for what in next_run.swept if dead_name in what]
        assert sorted(what.split()[0] for what in swept) == ["container", "network", "volume"]
        assert not [what for what in next_run.swept if alive_name in what]
        end(alive)
        next_run.open(run_id="next", state_dir=tmp_path / "next")
        assert [what for what in next_run.swept if alive_name in what]
    finally:
        next_run.close()
        for process in (dead, alive):
            if process.poll() is None:
                end(process)


@pytest.mark.docker_engine
def test_a_network_that_fails_half_way_leaves_nothing(docker_environment: Docker, machine_image: str) -> None:
    """A node whose start fails is removed, and closing the network removes the rest."""
    lan = docker_environment.lan("half")
    with pytest.raises(EnvironmentFailed):
        lan.start(NodeSpec(name="x", image=machine_image, data={"relative": "root"}))
    with pytest.raises(EnvironmentFailed):
        lan.start(NodeSpec(name="y", image=machine_image, memory_bytes=1))
    lan.close()
    lan.close()
    wait_for(lambda: not leftovers(lan._unique), timeout_s=10, what="the engine to hold nothing of it")


def leftovers(name: str) -> list[str]:
    client = connect()
    try:
        seen = [c["Names"][0] for c in client.api.containers(all=True)] + [n["Name"] for n in client.api.networks()]
        seen += [v["Name"] for v in client.api.volumes()["Volumes"] or []]
    finally:
        client.close()
    return [what for what in seen if name in what]


def with_changes(**changes: str) -> Mapping[str, str]:
    return {**owner_labels("r"), **changes}


def test_the_owner_is_alive_while_this_process_is() -> None:
    """Our own labels name a living owner."""
    assert not owner_is_dead(owner_labels("r"))


def test_a_reused_pid_is_a_dead_owner() -> None:
    """The same pid with another start time on the same boot is another process."""
    boot = owner_labels("r")[OWNER_START].partition("@")[2]
    assert owner_is_dead(with_changes(**{OWNER_START: f"1@{boot}"}))


def test_an_owner_of_an_earlier_boot_is_dead() -> None:
    """This machine was started anew since."""
    assert owner_is_dead(with_changes(**{OWNER_START: "1@some-other-boot"}))


@pytest.mark.parametrize(
    "labels",
    [with_changes(**{OWNER_SCOPE: "another machine/pid:[1]", OWNER_PID: "999999999"}), {}, with_changes(**{OWNER_START: ""})],
)
def test_an_owner_that_cannot_be_judged_from_here_counts_as_alive(labels: Mapping[str, str]) -> None:
    """Another machine's run, or labels that say nothing, are never swept."""
    assert not owner_is_dead(labels)


def test_an_owner_in_another_pid_namespace_counts_as_alive() -> None:
    """A run in a container that shares the engine's socket has pids of its own."""
    machine = owner_labels("r")[OWNER_SCOPE].rpartition("/")[0]
    assert not owner_is_dead(with_changes(**{OWNER_SCOPE: f"{machine}/pid:[1]", OWNER_PID: "999999999"}))
