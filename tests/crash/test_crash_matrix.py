"""The crash matrix: every fault at every moment, whoever dies. ``CRASH=all`` asks for the whole product (``make crash``)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import ClassVar

from chaos.testing import CrashContract

CATALOGUE = "../contract/contract_places.py"


class TestMicroHosts(CrashContract):
    """They end with the process that made them; the healer closes the books."""

    catalogue = CATALOGUE
    disposable = ("embedded",)
    every_death: ClassVar[Mapping[str, tuple[str, ...]]] = {"embedded": ("pause",)}


class TestContainersOfSomebodyElse(CrashContract):
    """They outlive whoever dies: the healer puts them back, and without it the node itself does (partition: the kernel's own timeouts;
    pause and power loss: the warden)."""

    catalogue = CATALOGUE
    disposable = ()
    standing = ("docker-attach",)
    every_death: ClassVar[Mapping[str, tuple[str, ...]]] = {"docker-attach": ("partition", "pause", "power-loss")}
    # Before the switch is armed and after the heal nothing is broken, whatever the fault; after-inject is observing without a proof.
    brief: ClassVar[Mapping[str, tuple[str, ...]]] = {"docker-attach": ("after-arm", "mid-inject", "observing", "mid-heal")}
    slack_s = 1.0 if os.environ.get("GAMEDAY_QUIET_MACHINE") else 3.0  # the promise is 1 s; a machine that does other work gets more


if os.environ.get("CRASH") == "all":

    class TestContainers(CrashContract):
        """They outlive whoever made them, until the healer or the next start sweeps them."""

        catalogue = CATALOGUE
        disposable = ("docker", "embedded-routes")
