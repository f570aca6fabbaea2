"""Resource and time faults that need a container: quotas put back exactly as they were, memory short of its limit, another user's files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from chaos.core.clock import wait_for
from chaos.core.errors import BadInput, EnvironmentFailed, Unavailable
from chaos.core.model import NodeRef, Undo
from chaos.environments.base import CpuQuota, MemoryLimit, require
from chaos.environments.docker import Docker, DockerNode, Lan, NodeSpec, Service
from chaos.faults import _helper
from chaos.faults.base import Fault
from chaos.faults.clock_skew import ClockSkew
from chaos.faults.cpu_limit import CpuLimit
from chaos.faults.fd_exhaustion import FdExhaustion
from chaos.faults.memory_pressure import MemoryPressure

pytestmark = pytest.mark.docker_engine

MIB = 1 << 20
LIBRARY = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1"
WITH_LIBRARY = """
ARG BASE
FROM $BASE
RUN apt-get update && apt-get install -y --no-install-recommends libfaketime && rm -rf /var/lib/apt/lists/*
"""
# Says again and again what time it is.
TELLER = """
import os, select, time
open("/proc/self/comm", "w").write("teller")
said = os.open("/tmp/time", os.O_WRONLY | os.O_CREAT)
while True:
    os.pwrite(said, str(time.time()).ljust(40).encode(), 0)
    select.select([], [], [], 0.02)
"""
# Processor time, in ticks, that busy loops get in a second.
BUSY = "timeout 1 sh -c 'while :; do :; done'; read -r stat < /proc/self/stat; set -- ${stat##*) }; echo $((${14} + ${15}))"
SERVER = """
import http.server
open("/proc/self/comm", "w").write("server")
http.server.ThreadingHTTPServer(("0.0.0.0", 8080), http.server.SimpleHTTPRequestHandler).serve_forever()
"""
GET = "import urllib.request, sys; urllib.request.urlopen('http://127.0.0.1:8080/', timeout=1).read()"


def on(fault: Fault, node: DockerNode) -> tuple[Undo, str]:
    """Plan, inject, see it land."""

    def resolve(_: NodeRef) -> DockerNode:
        return node

    undo = fault.plan("test", resolve)
    fault.inject(undo, resolve)
    wait = fault.landed_within_s
    proof = wait_for(lambda: fault.landed(undo, resolve), timeout_s=wait, what=f"{fault.kind} to land", last="no proof")
    return undo, proof.text


def heal(kind: type[Fault], undo: Undo, node: DockerNode) -> None:
    kind.heal(undo, lambda _: node)
    wait_for(lambda: kind.healed(undo, lambda _: node), timeout_s=kind.healed_within_s, what="healing", last="no proof")


@pytest.fixture(scope="module")
def lan(docker_environment: Docker, machine_image: str) -> Iterator[Lan]:
    """One node with 128 MiB and a listener that is another user's."""
    network = docker_environment.lan("limits")
    listener = Service(("python3", "-I", "-S", "-c", SERVER), "nobody")
    network.start(NodeSpec(name="small", image=machine_image, services={"listener": listener}, memory_bytes=128 * MIB))
    yield network
    network.close()


@pytest.fixture
def small(lan: Lan) -> Iterator[DockerNode]:
    """That node; nothing of ours is left running on it afterwards."""
    node = lan.nodes["small"]
    wait_for(lambda: node.run(("python3", "-c", GET)).code == 0, timeout_s=20, what="the listener", interval_s=0.1)
    yield node
    _helper.stop(node, "test", for_what="a test")


def config(node: DockerNode) -> dict[str, Any]:
    found: dict[str, Any] = node._client.api.inspect_container(node.container_id)["HostConfig"]
    return {key: found[key] for key in ("NanoCpus", "CpuQuota", "CpuPeriod")}


def none(node: DockerNode) -> None:
    """As the container was made: no quota at all."""


def quota(node: DockerNode) -> None:
    node._client.api.update_container(node.container_id, cpu_quota=75_000)


def quota_of_a_period(node: DockerNode) -> None:
    node._client.api.update_container(node.container_id, cpu_quota=33_333, cpu_period=50_000)


def nano(node: DockerNode) -> None:
    api = node._client.api
    url = f"{api.base_url}/v{api.api_version}/containers/{node.container_id}/update"
    assert api.post(url, json={"NanoCpus": 1_234_000_000}, timeout=20).ok


@pytest.mark.parametrize("before", [none, quota, quota_of_a_period, nano])
def test_a_quota_is_felt_and_put_back_exactly(docker_environment: Docker, machine_image: str, before: Callable[[DockerNode], None]) -> None:
    """Whichever way the container has its quota, a busy program gets a fifth of a processor at most, and afterwards the engine says
    what it said before."""
    with_own = docker_environment.lan("quota")
    node = with_own.start(NodeSpec(name="limited", image=machine_image))
    try:
        before(node)
        state, found = node.state(), config(node)
        assert (
            require(node, CpuQuota, for_what="a test").cpu_limit()
            == {none: None, quota: 0.75, quota_of_a_period: 33_333 / 50_000, nano: 1.234}[before]
        )
        undo, proof = on(CpuLimit(node.ref, cores=0.2), node)
        assert "throttled" in proof and node.state() != state
        assert int(node.run(("sh", "-c", BUSY)).out) <= 30
        with pytest.raises(BadInput, match="less than it has"):
            CpuLimit(node.ref, cores=0.5).plan("second", lambda _: node)
        heal(CpuLimit, undo, node)
        after = config(node)
        assert node.state() == state and after | {"CpuQuota": max(0, after["CpuQuota"])} == found
        node.limit_cpu(None)
        assert node.cpu_limit() in (None, float(node._client.api.info()["NCPU"]))
    finally:
        with_own.close()


@pytest.mark.parametrize(("percent", "leave_bytes", "expected"), [(60, None, 0.6), (80, 48 * MIB, 80 / 128)])
def test_memory_is_taken_to_the_line_and_no_further(small: DockerNode, percent: int, leave_bytes: int | None, expected: float) -> None:
    """The node's cgroup uses what was asked within 6 % of the limit, the listener goes on, and it is given back."""
    memory = require(small, MemoryLimit, for_what="a test")
    before = memory.memory_used_bytes()
    undo, proof = on(MemoryPressure(small.ref, percent=percent, leave_bytes=leave_bytes), small)
    used = memory.memory_used_bytes()
    assert abs(used / (128 * MIB) - expected) < 0.06, proof
    assert small.run(("python3", "-c", GET)).code == 0
    heal(MemoryPressure, undo, small)
    wait_for(lambda: abs(memory.memory_used_bytes() - before) < 8 * MIB, timeout_s=10, what="the memory to be free again", interval_s=0.1)


def test_memory_up_to_the_killer_must_be_asked_for(small: DockerNode) -> None:
    """Refused without allow_oom; with it the kernel kills for want of memory, and the node is as before when healed."""
    before = small.state()
    for wrong in (MemoryPressure(small.ref, percent=99), MemoryPressure(small.ref, leave_bytes=MIB)):
        with pytest.raises(BadInput, match="allow_oom=True"):
            wrong.plan("test", lambda _: small)
    with pytest.raises(BadInput, match="out of range"):
        MemoryPressure(small.ref, percent=101).plan("test", lambda _: small)
    with pytest.raises(EnvironmentFailed, match="as much memory already"):
        MemoryPressure(small.ref, percent=1).plan("test", lambda _: small)
    undo, _ = on(MemoryPressure(small.ref, percent=100, allow_oom=True), small)
    wait_for(lambda: kills(small) > 0, timeout_s=20, what="the kernel to kill", interval_s=0.1)
    heal(MemoryPressure, undo, small)
    assert small.state() == before


def kills(node: DockerNode) -> int:
    look = "cat /sys/fs/cgroup/memory.events /sys/fs/cgroup/memory/memory.oom_control 2>/dev/null | sed -n 's/^oom_kill //p' | head -n 1"
    return int(node.run(("sh", "-c", look)).out)


def test_a_node_without_a_limit_is_never_filled(docker_environment: Docker, machine_image: str) -> None:
    """Its memory is the host's: refused, with how to give it a limit."""
    network = docker_environment.lan("unlimited")
    try:
        node = network.start(NodeSpec(name="unlimited", image=machine_image, memory_bytes=0))
        assert node.memory_limit_bytes() is None
        with pytest.raises(Unavailable, match=r"docker run --memory") as refused:
            MemoryPressure(node.ref).plan("test", lambda _: node)
        assert refused.value.capability == "memorylimit"
    finally:
        network.close()


def test_another_users_process_accepts_nobody_without_file_numbers(small: DockerNode) -> None:
    """A server that is not root's has no number left for a connection; healed, it answers again, and it is the same process."""
    same = [p for p in small.processes() if p.name == "server"]
    undo, _ = on(FdExhaustion(small.ref, process="server"), small)
    assert small.run(("python3", "-c", GET)).code != 0
    heal(FdExhaustion, undo, small)
    wait_for(lambda: small.run(("python3", "-c", GET)).code == 0, timeout_s=10, what="an answer", interval_s=0.1)
    assert [(p.pid, p.started) for p in small.processes() if p.name == "server"] == [(p.pid, p.started) for p in same] and len(same) == 1


def test_a_containers_clock_is_moved_by_a_file(docker_environment: Docker, machine_image: str, tmp_path: Path) -> None:
    """In an image whose every program preloads libfaketime the running service jumps an hour and back, and the engine's own does not."""
    (tmp_path / "Dockerfile").write_text(WITH_LIBRARY)
    image = docker_environment.image("pytest-gameday/faketime", tmp_path, {"BASE": machine_image})
    network = docker_environment.lan("time")
    env = {"LD_PRELOAD": LIBRARY, "FAKETIME_TIMESTAMP_FILE": "/tmp/faketime", "FAKETIME_CACHE_DURATION": "1"}
    env |= {"FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    service = Service(("/usr/bin/python3", "-I", "-S", "-c", TELLER), "games")
    try:
        node = network.start(NodeSpec(name="teller", image=image, services={"teller": service}, env=env))
        wait_for(lambda: abs(off(node)) < 3, timeout_s=20, what="the teller's first time", last="no time", interval_s=0.1)
        before = node.state()
        undo, _ = on(ClockSkew(node.ref, process="teller", offset_s=3600), node)
        wait_for(lambda: abs(off(node) - 3600) < 3, timeout_s=10, what="another time", interval_s=0.1)
        heal(ClockSkew, undo, node)
        wait_for(lambda: abs(off(node)) < 3, timeout_s=10, what="the time of before", interval_s=0.1)
        assert node.state() == before
        assert node.run(("sh", "-c", "ls -A /tmp/faketime /tmp/.gameday*")).out == ""
    finally:
        network.close()


def off(node: DockerNode) -> float:
    """By how many seconds the teller's time differs from ours."""
    return float(node.run(("cat", "/tmp/time")).out.strip() or "nan") - datetime.now(UTC).timestamp()
