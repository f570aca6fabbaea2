"""Drops packets by nft, in sets whose elements the kernel itself expires: what to feed to it, and what its answer means.

One table of our own per tag (``inet``, so IPv4 and IPv6), named after a hash of the tag, our comment on every rule. Elements come with a
timeout and are renewed by one transaction that deletes and adds them: where they have expired the deletion fails and with it the whole
transaction, so that nothing that has ended is ever raised from the dead. Nothing of ours has to survive for a fault to end.

Not a way of running commands, and no reader of other people's rules: those are compared as they stand, never understood.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from chaos.core.errors import BadInput
from chaos.environments.base import DropRule

COMMENT = "gameday:"
PREFIX = "gameday_"
LIST = ("nft", "-j", "list", "ruleset")
FEED = ("nft", "-f", "-")
_TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
_RESOLVER = "127.0.0.11"
_SHARES = 10000
_VOLATILE = ("handle", "expires", "packets", "bytes", "metainfo")
Elements = Mapping[str, tuple[str, ...]]
"""Set name -> its elements, as nft writes them."""


class Held(msgspec.Struct, frozen=True):
    """What the kernel holds under one tag. ``live`` counts the rules that still drop something, ``left_s`` is the shortest time left (whole
    seconds; None: everything has expired), ``packets`` how many the rules have caught."""

    tag: str
    live: int
    elements: dict[str, tuple[str, ...]]
    left_s: float | None
    packets: int = 0


class Ruleset(msgspec.Struct, frozen=True):
    """A network namespace's rules. ``foreign``: tables with a name of ours that are not ours. ``lines``: everything, comparable."""

    held: dict[str, Held]
    foreign: tuple[str, ...]
    lines: tuple[str, ...]


def table_of(tag: str) -> str:
    """The table of ``tag``: short and legal whatever the tag is."""
    if not _TAG.fullmatch(tag):
        raise BadInput(
            f"packet filter tag {tag!r} is not usable", expected="up to 100 of A-Z a-z 0-9 _ . - that begin with a letter or digit"
        )
    return PREFIX + hashlib.sha256(tag.encode()).hexdigest()[:12]


def install_script(tag: str, rules: Sequence[DropRule], deadline_s: float) -> str:
    """Makes ``tag`` hold exactly ``rules`` for ``deadline_s``, in one transaction, whatever it held before."""
    table = table_of(tag)
    sets: list[str] = []
    chains: dict[bool, list[str]] = {True: [], False: []}
    for number, rule in enumerate(rules):
        for letter, kind, match, elements in _sets_of(rule):
            name = f"s{number}{letter}"
            timed = ", ".join(f"{element} timeout {_time(deadline_s)}" for element in elements)
            sets.append(f"  set {name} {{ {kind}; elements = {{ {timed} }} }}")
            verdict = "reject with tcp reset" if rule.reject else "drop"
            chains[rule.inbound].append(f'    {match} @{name}{_narrowed(rule)} counter {verdict} comment "{COMMENT}{tag}"')
    body = [f"add table inet {table}", f"delete table inet {table}", f"table inet {table} {{", *sets]
    for inbound, hook in ((True, "input"), (False, "output")):
        body += [f"  chain {hook} {{ type filter hook {hook} priority -50; policy accept;", *chains[inbound], "  }"]
    return "\n".join([*body, "}", ""])


def remove_script(tag: str) -> str:
    """Removes all of ``tag``; a no-op where there is nothing."""
    return f"add table inet {table_of(tag)}\ndelete table inet {table_of(tag)}\n"


def renew_script(tag: str, elements: Elements, deadline_s: float) -> str:
    """Gives ``elements`` a new deadline; refused as a whole by the kernel where any of them has expired."""
    lines = []
    for name, members in elements.items():
        lines.append(f"delete element inet {table_of(tag)} {name} {{ {', '.join(members)} }}")
        timed = ", ".join(f"{member} timeout {_time(deadline_s)}" for member in members)
        lines.append(f"add element inet {table_of(tag)} {name} {{ {timed} }}")
    return "\n".join([*lines, ""])


def parse(listed: str) -> Ruleset:
    """Read what :data:`LIST` printed."""
    entries: list[dict[str, Any]] = [entry for entry in json.loads(listed)["nftables"] if "metainfo" not in entry]
    lines = tuple(json.dumps(_comparable(entry), sort_keys=True) for entry in entries)
    held: dict[str, Held] = {}
    foreign: list[str] = []
    for table in [entry["table"] for entry in entries if "table" in entry]:
        if table["name"].startswith(PREFIX) and table["family"] == "inet":
            own = _held(table["name"], entries)
            if own is None:
                foreign.append(table["name"])
            else:
                held[own.tag] = own
    return Ruleset(held, tuple(foreign), lines)


def _held(table: str, entries: Sequence[dict[str, Any]]) -> Held | None:
    """None: not ours, for a rule without our comment, or with that of another tag."""
    rules = [entry["rule"] for entry in entries if "rule" in entry and entry["rule"]["table"] == table]
    comments = {str(rule.get("comment", "")) for rule in rules}
    if len(comments) != 1 or not (comment := comments.pop()).startswith(COMMENT):
        return None
    tag = comment.removeprefix(COMMENT)
    if not _TAG.fullmatch(tag) or table_of(tag) != table:
        return None
    members = {entry["set"]["name"]: entry["set"].get("elem", []) for entry in entries if "set" in entry and entry["set"]["table"] == table}
    elements = {name: tuple(_element(member["elem"]["val"]) for member in found) for name, found in members.items() if found}
    times = [float(member["elem"]["expires"]) for found in members.values() for member in found]
    live = sum(any(f'"@{name}"' in json.dumps(rule["expr"]) for name in elements) for rule in rules)
    packets = sum(int(part["counter"]["packets"]) for rule in rules for part in rule["expr"] if part.get("counter"))
    return Held(tag, live, elements, min(times, default=None), packets)


def _element(value: Any) -> str:
    if isinstance(value, dict) and "prefix" in value:
        return f"{value['prefix']['addr']}/{value['prefix']['len']}"
    return str(value)


def _comparable(entry: Any) -> Any:
    """Without handles, counters and times; the engine's resolver in a container gets other ports after every start."""
    if isinstance(entry, list):
        return [_comparable(member) for member in entry]
    if not isinstance(entry, dict):
        return entry
    if "expr" in entry and _RESOLVER in json.dumps(entry["expr"]):
        entry = {**entry, "expr": [_without_port(part) for part in entry["expr"]]}
    return {key: _comparable(value) for key, value in entry.items() if key not in _VOLATILE}


def _without_port(part: dict[str, Any]) -> dict[str, Any]:
    match = part.get("match", {})
    if isinstance(match.get("left"), dict) and match["left"].get("payload", {}).get("field") == "sport":
        return {"match": {**match, "right": "any"}}
    return part


def _sets_of(rule: DropRule) -> Iterator[tuple[str, str, str, list[str]]]:
    """For each set that one rule needs: a letter, its type, the match before its name, its elements."""
    away = 'iifname != "lo"' if rule.inbound else 'oifname != "lo"'
    side = "saddr" if rule.inbound else "daddr"
    networks = [_network(peer) for peer in rule.peers]
    families = {4: "ipv4", 6: "ipv6"}
    everybody = sorted({families[n.version] for n in networks if n.prefixlen == 0}) if rule.peers else ["ipv4", "ipv6"]
    if everybody:
        yield "e", "typeof meta nfproto; flags timeout", f"{away} meta nfproto", everybody
    for version, word in ((4, "ip"), (6, "ip6")):
        some = [n for n in networks if n.version == version and n.prefixlen]
        members = [str(n) for n in ipaddress.collapse_addresses(some)]  # type: ignore[type-var]
        members = [text.removesuffix("/32" if version == 4 else "/128") for text in members]
        if members:
            yield str(version), f"type ipv{version}_addr; flags interval, timeout", f"{word} {side}", members


def _narrowed(rule: DropRule) -> str:
    text = ""
    if rule.port is not None:
        if not 0 < rule.port < 65536:
            raise BadInput(f"{rule.port} is no TCP port", next_step="give one of 1 to 65535")
        text += f" tcp {'dport' if rule.inbound else 'sport'} {rule.port}"
    if rule.reject:
        text += " tcp flags & rst == 0x0"  # a reset is not answered by another
    if not 0 < rule.share <= 1:
        raise BadInput(f"{rule.share:g} is no share of packets", expected="more than 0, at most 1")
    if rule.share < 1:
        text += f" numgen random mod {_SHARES} < {max(1, round(rule.share * _SHARES))}"
    return text


def _network(peer: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    try:
        return ipaddress.ip_network(peer, strict=False)
    except ValueError as err:
        raise BadInput(f"{peer!r} is no address or network", observed=str(err), next_step="give node addresses, not names") from None


def _time(span_s: float) -> str:
    milliseconds = max(1, round(span_s * 1000))
    return f"{milliseconds // 1000}s{milliseconds % 1000}ms"
