"""The web stack in containers: that it is the same stack as elsewhere, what its nodes can do, and that weaknesses reach it."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from chaos import EnvironmentFailed, NotHealthy, Unavailable, wait_for
from chaos.environments.base import DropRule
from chaos.environments.docker import Docker, DockerNode
from chaos.environments.docker.images import tag_of
from fixtures.postgres_client import body_of
from fixtures.webstack import docker
from fixtures.webstack.docker import DockerWebStack
from fixtures.webstack.parameters import Parameters
from fixtures.webstack.service.logs import EXIT_LOG_FULL

pytestmark = pytest.mark.docker_engine
SOON_S = 20.0
MORE_THAN_A_PAGE = 60
"""So many requests log more than what is left of the file's last page when the volume is full."""


@pytest.fixture(scope="module")
def stack(docker_environment: Docker) -> Iterator[DockerWebStack]:
    """One without a weakness; every test leaves it healthy."""
    system = DockerWebStack(docker_environment, Parameters())
    yield system
    system.close()


def register(stack: DockerWebStack, reference: int) -> httpx.Response:
    """What the workload of writes does, once."""
    new = {"name": f"Company {reference}", "source": stack.writes().params["source"], "reference": reference}
    return stack.post("/api/v1/companies", {**new, "registration": body_of(reference)})


def process(node: DockerNode, name: str) -> int:
    """The pid of the first process of that name; 0: there is none."""
    return next((each.pid for each in node.processes() if each.name == name), 0)


def test_every_program_has_its_name(stack: DockerWebStack) -> None:
    """Faults find the processes under the names that they have on micro-hosts."""
    wanted = {"api-1": {"supervise", "webapi"}, "api-2": {"supervise", "webapi"}, "cache": {"redis-server"}, "balancer": {"haproxy"}}
    found = {name: {process.name for process in stack.nodes[name].processes()} for name in wanted}
    assert {name: found[name] >= names for name, names in wanted.items()} == dict.fromkeys(wanted, True), found


def test_what_the_report_says_of_it(stack: DockerWebStack) -> None:
    """Versions of all programs, both images, and Patroni as the manager, whatever the marker says."""
    told = stack.describe()
    versions = " ".join(map(str, told["versions"] if isinstance(told["versions"], list) else ()))
    assert all(name in versions for name in ("PostgreSQL", "patroni", "etcd", "Redis server v=", "HAProxy version", "Starlette")), versions
    assert str(told["image"]).count("pytest-gameday/") == 2 and stack.parameters.manager == "patroni"


def test_a_write_is_there_with_its_audit_row(stack: DockerWebStack) -> None:
    """What was registered through the balancer survives, whole, and only what this drill registered is counted."""
    stack.begin_drill("another")
    register(stack, 1)
    stack.begin_drill("mine")
    assert [register(stack, reference).status_code for reference in (1, 2)] == [201, 201]
    read = stack.read_survivors("now")
    assert (read.ids, read.mutated, read.source) == ((1, 2), (), stack.primary.name)


def test_only_the_databases_own_members_are_its_peers(stack: DockerWebStack) -> None:
    """A partition between a server and its peers does not touch the APIs."""
    assert sorted(node.name for node in stack.database.peers(stack.primary)) == sorted({"etcd", "pg0", "pg1", "pg2"} - {stack.primary.name})


def test_clients_are_no_node(stack: DockerWebStack) -> None:
    """Who asks for the node of the clients is told why there is none, and what to do."""
    with pytest.raises(Unavailable, match="clients live on the machine of pytest") as refused:
        _ = stack.client
    assert "--drill-env embedded" in refused.value.next_step and refused.value.capability == "client"


def test_a_killed_api_is_started_again(stack: DockerWebStack) -> None:
    """The supervisor starts the process anew, in the same container, and says so."""
    node = stack.nodes["api-1"]
    before = process(node, "webapi")
    starts = stack.supervisor_log(node.ref).count('"started"')
    assert node.signal(next(each for each in node.processes() if each.pid == before), signal.SIGKILL)
    wait_for(lambda: process(node, "webapi") not in (0, before), timeout_s=SOON_S, what="another webapi")
    assert stack.supervisor_log(node.ref).count('"started"') == starts + 1
    assert stack.prove_whole(SOON_S)
    assert [line["event"] for line in stack.api_log(node.ref)].count("started") == starts + 1


def test_an_api_that_loses_power_comes_back(stack: DockerWebStack) -> None:
    """While it is gone its log cannot be read and nobody stumbles over that; afterwards the log is whole, and so is the stack."""
    node = stack.nodes["api-2"]
    lines = len(stack.api_log(node.ref))
    node.power_off()
    try:
        assert stack.api_log(node.ref) == [] and "started" in stack.supervisor_log(node.ref)
        assert stack.services("api-2") == {"api": False}
        wait_for(lambda: {answered(stack) for _ in range(4)} == {"api-1"}, timeout_s=SOON_S, what="the balancer to use the other")
    finally:
        node.power_on()
    assert stack.prove_whole(SOON_S) and len(stack.api_log(node.ref)) > lines


def answered(stack: DockerWebStack) -> str:
    """Which API answered."""
    return str(stack.get("/api/v1/health/ping").json().get("name"))


def test_the_cache_is_looked_at_out_of_band(stack: DockerWebStack) -> None:
    """An API that is cut off from Redis answers from the database, and we can still ask Redis."""
    api, cache = stack.nodes["api-1"], stack.nodes["cache"]
    api.drop("cut", [DropRule(True, (cache.address,)), DropRule(False, (cache.address,))])
    try:
        wait_for(lambda: cached(stack, api) == "away", timeout_s=SOON_S, what="the API to notice")
        assert stack.redis("cache").ping()
    finally:
        api.undrop("cut")
    wait_for(lambda: cached(stack, api) in ("hit", "stale"), timeout_s=SOON_S, what="the API to use its cache again")


def cached(stack: DockerWebStack, api: DockerNode) -> str:
    return str(stack.get("/api/v1/companies/3", node=api.ref).headers.get("x-cache", ""))


def test_an_apis_volume_has_its_size_and_can_be_full(stack: DockerWebStack) -> None:
    """The volume is the node's own, so faults may fill it; the API goes on and loses log lines only."""
    node = stack.nodes["api-1"]
    (volume,) = node.volumes()
    assert (volume.path, volume.size_bytes) == (docker.HOME, docker.API_DISK_BYTES)
    fill(node)
    try:
        assert [stack.get("/api/v1/companies", node=node.ref).status_code for _ in range(MORE_THAN_A_PAGE)] == [200] * MORE_THAN_A_PAGE
        assert "webapi_log_lines_lost 0.0" not in stack.get("/metrics", node=node.ref).text
    finally:
        node.run(["rm", "-f", f"{docker.HOME}/ballast"], privileged=True)
    assert stack.get("/api/v1/companies/33", node=node.ref).status_code == 200
    assert "/api/v1/companies/33" in [line.get("path") for line in stack.api_log(node.ref)]


def fill(node: DockerNode) -> None:
    """Its volume has no byte left."""
    done = node.run(["sh", "-c", f"cat /dev/zero > {docker.HOME}/ballast"], privileged=True)
    assert "No space left" in done.err


def test_a_file_that_cannot_be_read_is_an_error(stack: DockerWebStack) -> None:
    """What is not there is empty; what is there and cannot be read is not."""
    assert stack.file("api-1", "no such file") == ""
    with pytest.raises(EnvironmentFailed, match="could not be read"):
        stack.file("api-1", ".")


def test_weaknesses_reach_the_containers(docker_environment: Docker) -> None:
    """An API that ends when its log is full, and that nobody restarts, ends once and for all; an operator can start it anew."""
    system = DockerWebStack(docker_environment, Parameters(survives_enospc=False, restart=False, apis=1, balancer=False))
    try:
        node = system.nodes["api-1"]
        fill(node)
        with pytest.raises(httpx.HTTPError):
            for _ in range(MORE_THAN_A_PAGE):
                system.get("/api/v1/companies")
        wait_for(lambda: not system.services("api-1")["api"], timeout_s=SOON_S, what="the supervisor to give up")
        assert f'"code": {EXIT_LOG_FULL}, "restart": "never"' in system.supervisor_log(node.ref)
        with pytest.raises(NotHealthy, match="a service does not run"):
            system.prove_whole(1.0)
        node.run(["rm", f"{docker.HOME}/ballast"], privileged=True)
        system.start_api_anew(node.ref)
        assert system.prove_healthy(SOON_S)
    finally:
        system.close()


def test_sentinels_name_another_master(docker_environment: Docker) -> None:
    """When the Redis master loses power another one is named and used; the old one comes back as its replica."""
    system = DockerWebStack(docker_environment, Parameters(cache="sentinel", apis=1))
    try:
        old = system.cache.name
        (volume,) = system.nodes[old].volumes()
        assert (old, volume.path) == ("cache-1", docker.HOME)
        system.nodes[old].power_off()
        wait_for(lambda: system.cache.name != old, timeout_s=SOON_S, what="another master")
        wait_for(lambda: system.post("/api/v1/companies/1/views", {}).status_code == 200, timeout_s=SOON_S, what="a counter to be written")
        system.nodes[old].power_on()
        assert f"{system.cache.name} is the Redis master" in system.prove_whole(SOON_S) and system.cache.name != old
        assert system.redis(old).info("replication")["role"] == "slave"
    finally:
        system.close()


def test_the_image_is_made_of_the_programs_as_they_are(stack: DockerWebStack, tmp_path: Path) -> None:
    """The running machines' image is named by what is in it, so a changed program makes another image."""
    docker.assemble(tmp_path)
    assert tag_of(docker.REPOSITORY, tmp_path, {}) in str(stack.describe()["image"])
    program = tmp_path / "app" / "fixtures" / "webstack" / "service" / "api.py"
    program.write_bytes(program.read_bytes() + b"\n")
    assert tag_of(docker.REPOSITORY, tmp_path, {}) not in str(stack.describe()["image"])
