"""Where evidence lies: ``.gameday/runs/<run-id>/<drill>/`` and the link ``runs/latest``; and how a file gets there whole.

Nothing here knows what a report is.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
from pathlib import Path

from chaos.core.errors import BadInput

_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
_LONGEST = 96


def safe_name(text: str, *, longest: int = _LONGEST) -> str:
    """``text`` as one path component: readable, ASCII, without separators, and unique by a digest of the whole.

    The end of a node id says more than its beginning, so that is what a long one keeps.
    """
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    readable = _UNSAFE.sub("-", text.replace("::", "."))[-(longest - 9) :].strip("-.")
    return f"{readable}-{digest}" if readable else digest


def run_directory(base: Path, run_id: str) -> Path:
    """``base/runs/<run-id>``, made where it is missing. ``base`` is ``.gameday``.

    Raises:
        BadInput: where the run id is no plain file name, or the place cannot be written to.
    """
    if not run_id or _UNSAFE.search(run_id) or run_id in {".", "..", "latest"}:
        raise BadInput(f"run id {run_id!r} is not a plain file name", next_step="use letters, digits, '.', '_' and '-'")
    path = base / "runs" / run_id
    _make(path, exist_ok=True)
    return path


def drill_directory(run: Path, drill: str) -> Path:
    """A **new** directory for one drill below its run: ``<name>``, or ``<name>.2`` … where the drill already ran in it.

    Safe among processes. Raises BadInput where the place cannot be written to.
    """
    name, number = safe_name(drill), 1
    while True:
        path = run / (name if number == 1 else f"{name}.{number}")
        try:
            _make(path, exist_ok=False)
            return path
        except FileExistsError:
            number += 1


def _make(path: Path, *, exist_ok: bool) -> None:
    try:
        path.mkdir(parents=True, exist_ok=exist_ok)
    except FileExistsError:
        if exist_ok:
            raise BadInput("a file is where a directory must be made", where=str(path), next_step="move it away") from None
        raise
    except OSError as err:
        next_step = "free space there, or choose another place with --drill-dir"
        raise BadInput("cannot make a directory for evidence", where=str(path), observed=str(err), next_step=next_step) from err


def point_latest(run: Path) -> Path:
    """Point ``runs/latest`` at ``run``, in one step: readers see the old one or the new one, never none. Returns the link.

    Raises:
        BadInput: where something that is not a link has its name.
    """
    link = run.parent / "latest"
    if link.exists() and not link.is_symlink():
        raise BadInput("expected a symlink to the newest run", where=str(link), observed="a file or directory", next_step="move it away")
    fresh = run.parent / f".latest.{secrets.token_hex(4)}"
    fresh.symlink_to(run.name, target_is_directory=True)
    fresh.replace(link)
    return link


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file so that it is there whole or not at all, after a crash of the machine too.

    Raises OSError where the disk is full or the place is gone; what was there before is then untouched.
    """
    data = content.encode("utf-8") if isinstance(content, str) else content
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
