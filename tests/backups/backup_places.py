"""What the tests of backups call things. No fixtures."""

from __future__ import annotations

import subprocess
from typing import Protocol


class RunCourier(Protocol):
    """Runs the courier once."""

    def __call__(self, verb: str, *arguments: str, key: str = "one", stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]: ...
