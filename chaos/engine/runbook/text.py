"""What a step said, as it may be kept and shown: its last lines, without secrets and without control characters."""

from __future__ import annotations

import re
from collections.abc import Sequence

LINES_KEPT, CHARACTERS_KEPT = 8, 1200
BLOT = "***"
_NAMED = re.compile(
    r"(?i)\b([\w.-]*(?:passw(?:or)?d|passphrase|secret|token|api[_-]?key|private[_-]?key)[\w.-]*[\"']?\s*[=:]\s*)(\"[^\"]*\"|'[^']*'|\S+)"
)
_BEARER = re.compile(r"(?i)\b((?:bearer|basic)\s+)[\w.~+/=-]{8,}")
_USERINFO = re.compile(r"(\w+://[^\s:/@]*):[^\s@/]+@")
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b.|[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def kept(text: str, secrets: Sequence[str]) -> str:
    """The last lines of ``text``, fit to be shown to anybody: what is named as a secret, and what looks like one, is blotted out."""
    text = without_secrets(_ESCAPES.sub("", text.replace("\r\n", "\n")), secrets)
    lines = [line.rstrip() for line in text.splitlines() if line.strip()]
    last = "\n".join(lines[-LINES_KEPT:])
    return last if len(last) <= CHARACTERS_KEPT else f"… {last[-CHARACTERS_KEPT:]}"


def without_secrets(text: str, secrets: Sequence[str]) -> str:
    """``text`` with every one of ``secrets``, and the value of everything that is called a password or the like, blotted out."""
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        text = text.replace(secret, BLOT)
    text = _NAMED.sub(rf"\g<1>{BLOT}", text)
    return _USERINFO.sub(rf"\g<1>:{BLOT}@", _BEARER.sub(rf"\g<1>{BLOT}", text))
