"""What the figures were measured on, and how busy it was with something else. Names no person, no host and no directory."""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path

import psutil

from bench.row import ROOT
from chaos.core.clock import utc_label, utc_now
from chaos.core.errors import GamedayError
from chaos.engine.facts import git_facts, version_facts
from chaos.environments.docker.engine import calling, connect
from fixtures.postgres_binaries import all_binaries

LOOK_S = 1.0


def facts() -> list[tuple[str, str]]:
    """Name and value, in the order in which they are shown."""
    versions = version_facts()
    git = git_facts(ROOT)
    commit = git.get("commit", "?")[:12] + (", with changes" if git.get("state") == "modified" else "")
    memory_gib = psutil.virtual_memory().total / 2**30
    return [
        ("machine", f"{os.cpu_count()} cores {_processor()}, {memory_gib:.0f} GiB, {platform.system()} {platform.release()}"),
        ("system", platform.freedesktop_os_release().get("PRETTY_NAME", "?")),
        ("PostgreSQL", ", ".join(f"{found.version} ({found.source})" for found in all_binaries()) or "none"),
        ("Docker", _docker()),
        ("Python", f"{versions['python']}, pytest {versions.get('pytest', '?')}"),
        ("commit", commit),
        ("measured", f"{utc_label(utc_now())[:10]}, load {os.getloadavg()[0]:.1f} at the end"),
    ]


def busy_share(seconds: float = LOOK_S) -> float:
    """How much of all cores somebody used in the last while: 0.0 (idle) to 1.0. Looks for ``seconds``."""
    before = psutil.cpu_times()
    time.sleep(seconds)
    after = psutil.cpu_times()
    total = sum(after) - sum(before)
    idle = after.idle - before.idle + getattr(after, "iowait", 0.0) - getattr(before, "iowait", 0.0)
    return max(0.0, 1.0 - idle / total) if total else 0.0


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return f"({line.partition(':')[2].strip()})"
    return f"({platform.machine()})"


def _docker() -> str:
    try:
        client = connect(5.0)
    except GamedayError:
        return "none"
    try:
        with calling("say its version"):
            return str(client.version()["Version"])
    finally:
        client.close()
