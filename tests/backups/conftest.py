"""A repository and couriers on this machine, and real clusters on micro-hosts, which are skipped with the reason where there are none."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from backup_places import RunCourier

from chaos.core.errors import Unavailable
from chaos.environments.microhost.provider import Microhosts
from fixtures.backups import courier as courier_module
from fixtures.backups.repository import Repository
from fixtures.postgres_binaries import find_binaries
from fixtures.postgres_embedded import EmbeddedPostgres


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[Repository]:
    """A running repository; ``root`` is where its objects lie."""
    server = Repository(("127.0.0.1", 0), tmp_path / "objects")
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def courier(repository: Repository, tmp_path: Path) -> RunCourier:
    """Runs the courier as a node does: ``courier("load", "a", key="other")``. ``key`` names one of the keys; "": none."""

    def run(verb: str, *arguments: str, key: str = "one", stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        key_file = tmp_path / f"{key}.key" if key else None
        if key_file is not None and not key_file.exists():
            key_file.write_bytes(os.urandom(32).hex().encode())
        config = tmp_path / f"{key or 'none'}.json"
        url = f"http://127.0.0.1:{repository.server_address[1]}"
        config.write_text(json.dumps({"repository": url, "key": str(key_file or "")}))
        argv = [sys.executable, "-I", "-S", str(courier_module.__file__), verb, str(config), *arguments]
        return subprocess.run(argv, input=stdin, capture_output=True, timeout=30, check=False)

    return run


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    """A healthy replicated PostgreSQL, shared by a module's tests."""
    environment = Microhosts()
    try:
        environment.check()
        binaries = find_binaries()
    except Unavailable as err:
        if "embedded" in {name.split(":")[0].strip() for name in os.environ.get("DRILL_REQUIRE", "").split(",")}:
            pytest.fail(f"required by DRILL_REQUIRE, but {err}", pytrace=False)
        pytest.skip(str(err))
    environment.open(run_id="backups", state_dir=tmp_path_factory.mktemp("state"))
    try:
        yield EmbeddedPostgres(environment, binaries)
    finally:
        environment.close()
