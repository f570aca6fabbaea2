"""Whose container is it? Labels from an owner, and an owner from labels. It removes nothing (see ``sweep``)."""

from __future__ import annotations

import os
from collections.abc import Mapping

from chaos.environments.owner import Owner

PREFIX = "org.pytest-gameday"
RUN = f"{PREFIX}.run"
OWNER_PID = f"{PREFIX}.owner-pid"
OWNER_START = f"{PREFIX}.owner-start"
OWNER_SCOPE = f"{PREFIX}.owner-scope"


def owner_labels(run_id: str) -> dict[str, str]:
    """Labels that say that this process owns what bears them, and by which a dead run's containers are swept."""
    return {RUN: run_id, **maker_labels()}


def maker_labels() -> dict[str, str]:
    """Labels that say that this process made what bears them; nothing is swept by them alone."""
    owner = Owner.of(os.getpid())
    return {OWNER_PID: str(owner.pid), OWNER_START: f"{owner.started}@{owner.boot}", OWNER_SCOPE: owner.scope}


def owner_is_dead(labels: Mapping[str, str]) -> bool:
    """Is the process that these labels name known to be gone? False where that cannot be known from here."""
    started, _, boot = labels.get(OWNER_START, "").partition("@")
    pid = labels.get(OWNER_PID, "")
    return pid.isdigit() and Owner(int(pid), started, boot, labels.get(OWNER_SCOPE, "")).dead()
