"""Who, where and with what: labels for the evidence. Reads this machine; judges nothing."""

from __future__ import annotations

import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path

_PACKAGES = ("pytest-gameday", "pytest", "psycopg", "docker", "testcontainers", "pyroute2")


def host_facts() -> dict[str, str]:
    """Name, kernel, architecture."""
    return {"name": platform.node(), "kernel": f"{platform.system()} {platform.release()}", "machine": platform.machine()}


def git_facts(directory: Path) -> dict[str, str]:
    """Commit, branch and whether the tree differs from it; empty outside a repository."""

    def git(*arguments: str) -> str:
        try:
            done = subprocess.run(["git", "-C", str(directory), *arguments], capture_output=True, text=True, timeout=5, check=False)
        except (OSError, subprocess.TimeoutExpired):
            return ""
        return done.stdout.strip() if done.returncode == 0 else ""

    commit = git("rev-parse", "HEAD")
    if not commit:
        return {}
    changed = git("status", "--porcelain", "--untracked-files=no")
    return {"commit": commit, "branch": git("rev-parse", "--abbrev-ref", "HEAD"), "state": "modified" if changed else "clean"}


def version_facts() -> dict[str, str]:
    """Python, ours, and the libraries that took part as far as they are installed."""
    found = {"python": sys.version.split()[0]}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
