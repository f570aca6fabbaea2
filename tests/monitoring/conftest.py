"""A real Prometheus on real micro-hosts: skipped with the reason where this machine has not got both, failed where TESTS_REQUIRE names
prometheus."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from chaos import Unavailable
from chaos.environments.microhost.client import Sandbox
from chaos.environments.microhost.provider import Microhosts
from fixtures.monitoring.prometheus import Program, find_prometheus


@pytest.fixture(scope="session")
def program() -> Program:
    """The installed Prometheus, where micro-hosts work, too."""
    try:
        Microhosts().check()
        return find_prometheus()
    except Unavailable as err:
        if "prometheus" in os.environ.get("TESTS_REQUIRE", "").split(","):
            pytest.fail(f"required by TESTS_REQUIRE, but {err}", pytrace=False)
        pytest.skip(str(err))


@pytest.fixture(scope="module")
def sandbox(program: Program, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """An empty sandbox, ended with the module."""
    environment = Microhosts()
    environment.open(run_id="monitoring", state_dir=Path(tmp_path_factory.mktemp("monitoring")))
    yield environment.sandbox("watched")
    environment.close()
