"""Tests that need a Docker engine: skipped with the reason and the fix where there is none, failed where DRILL_REQUIRE names docker."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from attach_containers import Project

from chaos.core.errors import Unavailable
from chaos.environments.docker import Docker, DockerNode, Lan, NodeSpec, Service

IMAGE_CONTEXT = Path(__file__).resolve().parents[2] / "fixtures" / "images" / "patroni"
LISTENER = Service(("python3", "-m", "http.server", "8080"), "nobody")
_UNAVAILABLE = pytest.StashKey[str]()


@pytest.fixture(scope="module")
def project() -> Iterator[Project]:
    """A project that somebody else runs."""
    project = Project()
    try:
        yield project.up()
    finally:
        project.down()


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "docker_engine: needs a Docker engine on which the drills' images can be built")


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("docker_engine") is None:
        return
    if _UNAVAILABLE not in item.config.stash:
        item.config.stash[_UNAVAILABLE] = _why_not()
    reason = item.config.stash[_UNAVAILABLE]
    if reason:
        required = {name.split(":")[0].strip() for name in os.environ.get("DRILL_REQUIRE", "").split(",")}
        if "docker" in required:
            pytest.fail(f"required by DRILL_REQUIRE, but {reason}", pytrace=False)
        pytest.skip(reason)


def _why_not() -> str:
    try:
        Docker().check()
    except Unavailable as err:
        return str(err)
    return ""


@pytest.fixture(scope="session")
def docker_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Docker]:
    """An open environment; everything it made is removed at the end of the session."""
    environment = Docker()
    environment.open(run_id="tests", state_dir=tmp_path_factory.mktemp("docker"))
    yield environment
    environment.close()


@pytest.fixture(scope="session")
def machine_image(docker_environment: Docker) -> str:
    """The image of the drills' own machines."""
    return docker_environment.image("pytest-gameday/patroni-3.1.2", IMAGE_CONTEXT, {"PATRONI": "3.1.2"})


@pytest.fixture(scope="session")
def listener_spec(machine_image: str) -> Callable[[str], NodeSpec]:
    """Makes the description of a node that listens on port 8080."""
    data = {"/pgdata": "postgres"}
    return lambda name: NodeSpec(name=name, image=machine_image, services={"listener": LISTENER}, data=data, ports=(8080,))


@pytest.fixture(scope="module")
def lan(docker_environment: Docker, listener_spec: Callable[[str], NodeSpec]) -> Iterator[Lan]:
    """Two listening nodes, ``a`` and ``b``."""
    network = docker_environment.lan("pair")
    network.start_all([listener_spec(name) for name in ("a", "b")])
    yield network
    network.close()


@pytest.fixture
def pair(lan: Lan) -> Iterator[tuple[DockerNode, DockerNode]]:
    """``a`` and ``b``, put back as they were: a test that fails half-way must not fail the next."""
    a, b = lan.nodes["a"], lan.nodes["b"]
    yield a, b
    for node in (a, b):
        node.power_on()
        node.thaw()
        for tag in node.drops():
            node.undrop(tag)
        node.start_service("listener")
