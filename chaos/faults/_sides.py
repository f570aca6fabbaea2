"""Who hears whom: pairs of nodes, whether packets pass between them, and whether they arrive in one direction alone.

What the proofs of network faults are made of; no fault of its own, and it changes nothing on a node. A pair is two names; where it matters,
the first is the node whose port is meant.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from chaos.core.errors import EnvironmentFailed
from chaos.environments.base import Exec, Node, PacketFilter, require
from chaos.faults import _tcp

ATTEMPTS = 3  # one echo that comes late on a busy machine is no broken link
FOR_WHAT = "the proof of a network fault"
Pair: TypeAlias = tuple[str, str]


def pairs(names: Sequence[str]) -> list[Pair]:
    """Every two of them, once."""
    return [(one, two) for at, one in enumerate(names) for two in names[at + 1 :]]


def once(found: Sequence[Pair], *, both_ways: bool) -> list[Pair]:
    """Without repetition; with ``both_ways`` a pair and its reverse are the same."""
    seen: set[Pair] = set()
    kept = []
    for pair in found:
        if pair not in seen and not (both_ways and pair[::-1] in seen):
            kept.append(pair)
        seen.add(pair)
    return kept


def through(known: Mapping[str, Node], pair: Pair, port: int | None, *, attempts: int = ATTEMPTS) -> bool:
    """Does a packet get from the second to the first and back: an echo, or with ``port`` an answer (be it a refusal) to an attempt to
    connect to that port of the first?"""
    one, two = known[pair[0]], known[pair[1]]
    if port is None:
        return any(require(one, PacketFilter, for_what=FOR_WHAT).passes(two) for _ in range(attempts))
    return any(_tcp.knock(two, one.address, port, for_what=FOR_WHAT) in ("open", "refused") for _ in range(attempts))


def passes(known: Mapping[str, Node], pair: Pair) -> bool:
    """Does an echo pass between two bystanders? Where neither can send one (both are frozen, say) none does."""
    try:
        return through(known, pair, None)
    except EnvironmentFailed:
        return False


def open_ways(dropped: set[Pair], connected: Sequence[Pair]) -> list[Pair]:
    """Of the pairs that were connected, the ways (source, target) that are open although the way back is not."""
    ways = [way for pair in connected for way in (pair, pair[::-1])]
    return [way for way in ways if way not in dropped and way[::-1] in dropped]


def arrives(source: Node, target: Node) -> bool:
    """Do packets from ``source`` reach ``target``, whether or not an answer comes back? By the count of the target's kernel of echoes
    that it was asked for."""
    before = _asked(target)
    for _ in range(ATTEMPTS):
        require(source, PacketFilter, for_what=FOR_WHAT).passes(target)
        if _asked(target) > before:
            return True
    return False


def _asked(node: Node) -> int:
    done = require(node, Exec, for_what=FOR_WHAT).run(("cat", "/proc/self/net/snmp"))
    rows = [line.split() for line in done.out.splitlines() if line.startswith("Icmp:")]
    if done.code != 0 or len(rows) != 2 or "InEchos" not in rows[0]:
        raise EnvironmentFailed("the kernel's count of echoes cannot be read", where=str(node.ref), observed=(done.err or done.out)[-300:])
    return int(rows[1][rows[0].index("InEchos")])
