"""How much may be down at once: pure counting over the members of a system and everything that is open on them. Observes nothing."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Sequence
from fnmatch import fnmatchcase

import msgspec

from chaos.core.errors import BadInput
from chaos.engine.policy import Caps

REPLICA = "replica"
_PERCENT = re.compile(r"\s*(\d+(?:\.\d+)?)\s*%\s*")


class Member(msgspec.Struct, frozen=True):
    """One node of the environment, as the caps see it. ``role`` and ``zone`` are "" where nobody said."""

    name: str
    role: str = ""
    zone: str = ""


def share_of(share: int | str, members: int) -> int:
    """How many of ``members`` that is, rounded down.

    Raises:
        BadInput: neither a number of nodes nor a percentage.
    """
    if isinstance(share, int) and not isinstance(share, bool) and share >= 0:
        return share
    percent = _PERCENT.fullmatch(share) if isinstance(share, str) else None
    if percent is None or float(percent.group(1)) > 100:
        raise BadInput(f"{share!r} is no share of nodes", expected='a number, or a percentage such as "34%"')
    return math.floor(members * float(percent.group(1)) / 100 + 1e-9)


def exceeded(caps: Caps, members: Sequence[Member], down: Collection[str], more: Collection[str]) -> str:
    """Which cap would break if ``more`` went down beside what is ``down`` (node names); "" where none would.

    Names that are no member count too: what is not known to be well is not counted as well.
    """
    away = set(down) | set(more)
    names = {member.name for member in members} | away
    said = _over("max_unavailable", caps.max_unavailable, names, away)
    for title, shares, label in (("per_role", caps.per_role, _role), ("per_zone", caps.per_zone, _zone)):
        for group in sorted({label(member) for member in members}):
            rule = next((pattern for pattern in shares if fnmatchcase(group, pattern)), None)
            if rule is not None and not said:
                inside = {member.name for member in members if label(member) == group}
                said = _over(f"{title}.{group or '(none)'}", shares[rule], inside, away & inside)
    if said:
        return said
    replicas = {member.name for member in members if member.role == REPLICA}
    if caps.min_healthy_replicas and len(replicas - away) < caps.min_healthy_replicas:
        return (
            f"min_healthy_replicas = {caps.min_healthy_replicas}: only {len(replicas - away)} of {len(replicas)} replicas would be left"
            f" ({_listed(replicas & away)} down)"
        )
    return ""


def _over(title: str, share: int | str, members: Collection[str], away: Collection[str]) -> str:
    most = share_of(share, len(members))
    if len(away) <= most:
        return ""
    return f"{title} = {share}: that is {most} of {len(members)}, and {len(away)} would be down ({_listed(away)})"


def _role(member: Member) -> str:
    return member.role


def _zone(member: Member) -> str:
    return member.zone


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"
