"""What the traffic faults do with what only containers have: the engine's own resolver, and a /proc/sys that cannot be written."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from chaos.core.clock import wait_for
from chaos.core.errors import Unavailable
from chaos.core.model import NodeRef
from chaos.environments.docker import Docker, DockerNode, Lan, NodeSpec, Service
from chaos.faults.base import Fault
from chaos.faults.dns_failure import DnsFailure
from chaos.faults.latency import Latency
from chaos.faults.port_exhaustion import RESERVED, PortExhaustion

pytestmark = pytest.mark.docker_engine
ASK = (Path(__file__).parents[2] / "chaos" / "faults" / "programs" / "ask_dns.py").read_text(encoding="utf-8")
ENGINES_RESOLVER = "127.0.0.11"


@pytest.fixture(scope="module")
def nodes(docker_environment: Docker, machine_image: str) -> Iterator[tuple[DockerNode, DockerNode]]:
    """Two nodes whose names the engine resolves."""
    lan: Lan = docker_environment.lan("traffic")
    service = Service(("sleep", "1000000"))
    lan.start_all([NodeSpec(name=name, image=machine_image, services={"sleeper": service}) for name in ("one", "two")])
    yield lan.nodes["one"], lan.nodes["two"]
    lan.close()


def seen_through(fault: Fault, docker_environment: Docker) -> Iterator[str]:
    """The proof that it landed; then it is healed, and its node must be as before."""
    resolve = docker_environment.resolve
    (target,) = fault.targets
    before = resolve(target).state()
    undo = fault.plan("seen", resolve)
    try:
        fault.inject(undo, resolve)
        yield wait_for(lambda: fault.landed(undo, resolve), timeout_s=fault.landed_within_s, what="it to land").text
    finally:
        type(fault).heal(undo, resolve)
    wait_for(lambda: type(fault).healed(undo, resolve), timeout_s=20, what="it to be healed")
    assert resolve(target).state() == before


def looked_up(node: DockerNode, name: str) -> str:
    """What a program on the node gets by the C library; "" for nothing."""
    return node.run(("timeout", "5", "getent", "hosts", name)).out.partition(" ")[0]


@pytest.mark.parametrize("mode", ["refuse", "nxdomain", "wrong", "timeout"])
def test_the_engines_own_resolver_fails_too(docker_environment: Docker, nodes: tuple[DockerNode, DockerNode], mode: str) -> None:
    """Our rule comes before the engine's: a name that resolved to the other node does not, or resolves to the wrong address, in the C
    library as in our own query; a name that is not meant still resolves."""
    one, two = nodes
    assert looked_up(one, "two") == two.address
    for text in seen_through(DnsFailure(one.ref, mode, names=("two",)), docker_environment):  # type: ignore[arg-type]
        assert two.address in text.partition("before")[2]
        assert looked_up(one, "two") == ("192.0.2.1" if mode == "wrong" else "")
        assert looked_up(two, "one") == one.address
        assert one.run(("python3", "-I", "-c", ASK, "ask", ENGINES_RESOLVER, "53", "one", "2")).out.count(one.address) == 1
    assert looked_up(one, "two") == two.address


def test_reserved_ports_are_set_from_beside_and_put_back(docker_environment: Docker, nodes: tuple[DockerNode, DockerNode]) -> None:
    """What was reserved before stays reserved, during and after; no container is left beside the node."""
    one, _ = nodes
    assert one.run(("sh", "-c", f"echo 1 > /proc/sys/net/{RESERVED}"), privileged=True).code != 0
    one.set_sysctl(RESERVED, "40000,50000-50010")
    api = docker_environment.resolve(one.ref)._client.api  # type: ignore[attr-defined]
    for _ in seen_through(PortExhaustion(one.ref, leave=3), docker_environment):
        assert one.sysctl(RESERVED).endswith("-60996")
    assert one.sysctl(RESERVED) == "40000,50000-50010"
    one.set_sysctl(RESERVED, "")
    assert one.sysctl(RESERVED) == ""
    assert not [c for c in api.containers(all=True) if c["HostConfig"]["NetworkMode"] == f"container:{one.container_id}"]


@pytest.mark.parametrize("program", ["python3", "iptables-restore"])
def test_a_node_without_a_program_is_told_what_to_install(
    docker_environment: Docker, nodes: tuple[DockerNode, DockerNode], program: str
) -> None:
    """The program is taken away for a moment: refused with the package's name, and nothing was touched."""
    _, two = nodes
    path = two.run(("sh", "-c", f"readlink -f $(command -v {program})")).out.strip()
    links = two.run(("sh", "-c", f"command -v {program}")).out.strip()
    assert path and two.run(("mv", links, "/root/away"), privileged=True).code == 0
    try:
        before = two.state() if program == "python3" else None
        with pytest.raises(Unavailable, match="Python 3" if program == "python3" else "NFQUEUE") as refused:
            Latency(two.ref, 10).plan("seen", docker_environment.resolve)
        assert "apt-get install" in refused.value.next_step
        assert before is None or two.state() == before
    finally:
        assert two.run(("mv", "/root/away", links), privileged=True).code == 0


def test_no_node_reference_is_needed_for_a_resolver(nodes: tuple[DockerNode, DockerNode]) -> None:
    """An address will do, and survives JSON as one."""
    import msgspec

    fault = DnsFailure(nodes[0].ref, resolver=ENGINES_RESOLVER)
    again = msgspec.json.decode(msgspec.json.encode(fault), type=DnsFailure)
    assert again == fault and isinstance(again.node, NodeRef) and again.params()["resolver"] == ENGINES_RESOLVER
