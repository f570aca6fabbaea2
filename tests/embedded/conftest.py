"""Tests on real micro-hosts: skipped with the reason and the fix where this machine has none, failed where DRILL_REQUIRE names embedded."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from microhost_services import MakeSandbox, listener

from chaos.core.errors import Unavailable
from chaos.environments.microhost import client
from chaos.environments.microhost.client import MicroHost, Sandbox
from chaos.environments.microhost.provider import Microhosts

_UNAVAILABLE = pytest.StashKey[str]()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Every test below this directory needs micro-hosts."""
    if _UNAVAILABLE not in item.config.stash:
        try:
            Microhosts().check()
            item.config.stash[_UNAVAILABLE] = ""
        except Unavailable as err:
            item.config.stash[_UNAVAILABLE] = str(err)
    reason = item.config.stash[_UNAVAILABLE]
    if reason:
        required = {name.split(":")[0].strip() for name in os.environ.get("DRILL_REQUIRE", "").split(",")}
        if "embedded" in required:
            pytest.fail(f"required by DRILL_REQUIRE, but {reason}", pytrace=False)
        pytest.skip(reason)


@pytest.fixture
def new_sandbox(tmp_path: Path) -> Iterator[MakeSandbox]:
    """Makes sandboxes of this test's own, ended with it."""
    with ExitStack() as stack:

        def make(name: str) -> Sandbox:
            sandbox = Sandbox(name, tmp_path / name)
            stack.callback(sandbox.close)
            return sandbox

        yield make


@pytest.fixture(params=["iptables", "routing rules"])
def filter_kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How packets are dropped: with iptables, or as on a machine that has none."""
    kind = str(request.param)
    if kind == "iptables" and client.iptables_path() is None:
        pytest.skip("iptables is not installed: apt-get install iptables")
    if kind == "routing rules":
        monkeypatch.setattr(client, "iptables_path", lambda: None)
    return kind


@pytest.fixture
def pair(new_sandbox: MakeSandbox) -> tuple[MicroHost, MicroHost]:
    """Two micro-hosts, ``a`` and ``b``, each of which listens on port 8080."""
    sandbox = new_sandbox("pair")
    return sandbox.add("a", disk_bytes=1 << 20, services=[listener(8080)]), sandbox.add("b", disk_bytes=1 << 20, services=[listener(8080)])
