"""Crash tests of real drills need micro-hosts and PostgreSQL: skipped with the reason, failed where DRILL_REQUIRE names embedded."""

from __future__ import annotations

import os

import pytest

from chaos.core.errors import Unavailable
from chaos.environments.microhost.provider import Microhosts
from fixtures.postgres_binaries import find_binaries


@pytest.fixture(scope="session")
def drills_work_here() -> None:
    """Looked at once."""
    try:
        Microhosts().check()
        find_binaries()
    except Unavailable as err:
        if "embedded" in {name.split(":")[0].strip() for name in os.environ.get("DRILL_REQUIRE", "").split(",")}:
            pytest.fail(f"required by DRILL_REQUIRE, but {err}", pytrace=False)
        pytest.skip(str(err))
