"""Decides whether testcontainers' reaper (Ryuk) can be had on this engine. It is on wherever it can; our own sweep works either way.

Looking for an image that cannot be pulled takes seconds, so the answer is kept in a file for an hour.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import Any

import msgspec

from chaos.environments.docker.engine import image_present, image_pullable

_KEEP_S = 3600.0


class RyukAnswer(msgspec.Struct, frozen=True):
    """What was found for one image on one engine. ``asked_at_s`` is wall-clock time, compared coarsely: it only ages the answer."""

    engine: str
    image: str
    pullable: bool
    asked_at_s: float


def ryuk_choice(client: Any, memory: Path | None) -> tuple[bool, str]:
    """Is Ryuk to be used, and why (not). ``memory`` is the file that keeps the answer."""
    from testcontainers.core.config import testcontainers_config

    image = testcontainers_config.ryuk_image
    if os.environ.get("TESTCONTAINERS_RYUK_DISABLED", "").lower() in ("1", "y", "t", "yes", "true"):
        return False, "disabled by TESTCONTAINERS_RYUK_DISABLED"
    if image_present(client, image):
        return True, f"{image} is present"
    if _pullable(str(client.info().get("ID", "")), image, memory):
        return True, f"{image} can be pulled"
    return False, f"{image} is neither present nor to be had from its registry"


def use_ryuk(wanted: bool) -> None:
    """Tell testcontainers, for this process."""
    from testcontainers.core.config import testcontainers_config

    testcontainers_config.ryuk_disabled = not wanted


def _pullable(engine: str, image: str, memory: Path | None) -> bool:
    now_s = time.time()
    if memory is not None:
        with contextlib.suppress(OSError, msgspec.DecodeError):
            kept = msgspec.json.decode(memory.read_bytes(), type=RyukAnswer)
            if (kept.engine, kept.image) == (engine, image) and 0 <= now_s - kept.asked_at_s < _KEEP_S:
                return kept.pullable
    answer = RyukAnswer(engine, image, image_pullable(image), now_s)
    if memory is not None:
        fresh = memory.with_suffix(f".{os.getpid()}")
        fresh.write_bytes(msgspec.json.encode(answer))
        fresh.replace(memory)
    return answer.pullable
