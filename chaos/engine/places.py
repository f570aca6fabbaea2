"""Where state lives on this machine: journals, leases and audit logs. Paths only; makes nothing.

A disposable environment's are the project's own (``.gameday``); a standing one's belong to the user, under its identity, so that another
checkout on the same machine finds them.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path

JOURNAL = "journal"


def user_state() -> Path:
    """``$XDG_STATE_HOME/gameday``, by default ``~/.local/state/gameday``."""
    given = os.environ.get("XDG_STATE_HOME", "")
    base = Path(given) if given.startswith("/") else Path("~/.local/state").expanduser()
    return base / "gameday"


def identity_slug(name: str, identity: Mapping[str, str]) -> str:
    """A directory name for one identity: readable, and different for different identities."""
    digest = hashlib.sha256("\n".join(f"{key}={identity[key]}" for key in sorted(identity)).encode()).hexdigest()[:10]
    return f"{re.sub(r'[^A-Za-z0-9_.-]+', '-', name)}-{digest}"


def standing_state(name: str, identity: Mapping[str, str]) -> Path:
    """Everything that is kept of one standing environment. ``identity`` are the keys that pin it."""
    return user_state() / identity_slug(name, identity)


def journal_directories(drill_dir: Path) -> list[Path]:
    """Where journals may be: the project's own, then those of every standing environment of this user."""
    standing = sorted(user_state().glob(f"*/{JOURNAL}")) if user_state().is_dir() else []
    return [drill_dir / JOURNAL, *standing]
