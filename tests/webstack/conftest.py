"""Real stacks on micro-hosts: skipped with the reason and the fix where there are none, failed where DRILL_REQUIRE names embedded."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from webstack_places import MakeStack

from chaos.core.errors import Unavailable
from chaos.environments.microhost.provider import Microhosts
from fixtures.postgres_binaries import find_binaries
from fixtures.webstack.embedded import EmbeddedWebStack
from fixtures.webstack.parameters import Parameters
from fixtures.webstack.programs import Programs, find_programs


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Microhosts]:
    """Micro-hosts, and Redis."""
    environment = Microhosts()
    try:
        environment.check()
        find_programs()
    except Unavailable as err:
        if "embedded" in {name.split(":")[0].strip() for name in os.environ.get("DRILL_REQUIRE", "").split(",")}:
            pytest.fail(f"required by DRILL_REQUIRE, but {err}", pytrace=False)
        pytest.skip(str(err))
    environment.open(run_id="webstack", state_dir=tmp_path_factory.mktemp("state"))
    yield environment
    environment.close()


@pytest.fixture
def make_stack(environment: Microhosts) -> Iterator[MakeStack]:
    """Makes stacks of this test's own, ended with it."""
    with ExitStack() as ends:

        def make(programs: Programs | None = None, **parameters: object) -> EmbeddedWebStack:
            stack = EmbeddedWebStack(environment, find_binaries(), programs or find_programs(), Parameters(**parameters))  # type: ignore[arg-type]
            ends.callback(stack.close)
            return stack

        yield make


@pytest.fixture(scope="module")
def stack(environment: Microhosts) -> Iterator[EmbeddedWebStack]:
    """One without a weakness, for the tests of a module that break nothing."""
    stack = EmbeddedWebStack(environment, find_binaries(), find_programs(), Parameters())
    yield stack
    stack.close()
