"""Drops packets by iptables (all of them, a random share, or with a TCP reset), in chains of our own: what to run, and what the
kernel's answer means.

Two user chains per tag (one for each direction), one jump rule each in INPUT and OUTPUT, and our comment on every rule, so that
each is recognised as ours. Nothing else is read as ours, changed or flushed: where a chain or a jump of our name exists without our
comment, it is foreign and we refuse. Changes are one ``iptables-restore --noflush`` transaction: all of a tag's rules or none.

Not a firewall library, and no way of running commands: it is given ``run``. IPv4 only (the networks it is used on have no IPv6).
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeAlias

import msgspec

from chaos.core.errors import BadInput, EnvironmentFailed, Unavailable
from chaos.environments.base import Completed, DropRule

Run: TypeAlias = Callable[[Sequence[str], bytes], Completed]
"""Runs a command with network administration rights in the node's network namespace, with this on its standard input."""

COMMENT = "gameday:"
_TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_HOOKS = (("INPUT", "I"), ("OUTPUT", "O"))
_CATCHING = ("DROP", "REJECT")
_COUNTED = re.compile(r"\[(\d+):\d+\] (-A .*)")


class Rule(msgspec.Struct, frozen=True):
    """One ``-A`` line of ``iptables-save``: its chain, what it jumps to, its comment ("" for none), and the line."""

    chain: str
    target: str
    comment: str
    line: str


class Table(msgspec.Struct, frozen=True):
    """The filter table as saved. ``policies`` maps a chain to its policy ("-" for user chains)."""

    policies: Mapping[str, str]
    rules: tuple[Rule, ...]


def chain_of(tag: str, direction: str) -> str:
    """The chain of ``tag`` for direction ``I`` or ``O``: short and legal whatever the tag is."""
    return f"GAMEDAY-{hashlib.sha256(tag.encode()).hexdigest()[:12]}-{direction}"


def parse(saved: str) -> Table:
    """Read what ``iptables-save -t filter`` printed."""
    policies: dict[str, str] = {}
    rules: list[Rule] = []
    for line in saved.splitlines():
        if line.startswith(":"):
            chain, policy, *_ = line[1:].split()
            policies[chain] = policy
        elif line.startswith("-A "):
            words = shlex.split(line)
            rules.append(Rule(words[1], _after(words, "-j"), _after(words, "--comment"), line))
    return Table(policies, tuple(rules))


def normal_form(saved: str) -> list[str]:
    """The filter table in comparable form: every rule in order, and the policies that are not ACCEPT. An untouched kernel gives []."""
    table = parse(saved)
    policies = sorted(f":{chain} {policy}" for chain, policy in table.policies.items() if policy not in ("ACCEPT", "-"))
    chains = sorted(f":{chain}" for chain, policy in table.policies.items() if policy == "-")
    return policies + chains + [rule.line for rule in table.rules]


def held(table: Table) -> dict[str, int]:
    """Tag -> number of dropping rules that the kernel holds, among ours."""
    counts: dict[str, int] = {}
    for rule in table.rules:
        if rule.comment.startswith(COMMENT):
            tag = rule.comment.removeprefix(COMMENT)
            counts[tag] = counts.get(tag, 0) + (rule.target in _CATCHING)
    return counts


def caught(counted: str, tag: str) -> int:
    """Packets that the rules of ``tag`` have caught, from what ``iptables-save -c -t filter`` printed."""
    packets = 0
    for found in filter(None, map(_COUNTED.fullmatch, counted.splitlines())):
        (rule,) = parse(found[2]).rules
        if rule.comment == f"{COMMENT}{tag}" and rule.target in _CATCHING:
            packets += int(found[1])
    return packets


def install_script(tag: str, rules: Sequence[DropRule], table: Table) -> str:
    """Input of ``iptables-restore --noflush`` that makes ``tag`` hold exactly ``rules``."""
    lines = ["*filter", *(f":{chain_of(tag, letter)} - [0:0]" for _, letter in _HOOKS)]
    for rule in rules:
        target = "REJECT --reject-with tcp-reset" if rule.reject else "DROP"
        lines += [f"-A {line} {_comment(tag)} -j {target}" for line in _matches(tag, rule)]
    jumps = {rule.chain for rule in table.rules if rule.target in _chains(tag)}
    lines += [f"-I {hook} 1 {_comment(tag)} -j {chain_of(tag, letter)}" for hook, letter in _HOOKS if hook not in jumps]
    return "\n".join([*lines, "COMMIT", ""])


def remove_script(tag: str, table: Table) -> str:
    """Input of ``iptables-restore --noflush`` that removes all of ``tag``; "" where there is nothing."""
    lines = [rule.line.replace("-A ", "-D ", 1) for rule in table.rules if rule.target in _chains(tag)]
    present = [chain for chain in _chains(tag) if chain in table.policies]
    lines += [f"-F {chain}" for chain in present] + [f"-X {chain}" for chain in present]
    return "\n".join(["*filter", *lines, "COMMIT", ""]) if lines else ""


class IptablesFilter:
    """The packet filter of one node (:class:`~chaos.environments.base.PacketFilter` without ``passes``)."""

    def __init__(self, run: Run, *, where: str) -> None:
        self._run, self._where = run, where

    def drop(self, tag: str, rules: Sequence[DropRule]) -> None:
        """Make ``tag`` hold exactly ``rules``.

        Raises:
            BadInput: a tag or an address that iptables would not take.
            EnvironmentFailed: foreign state in the way, or iptables refused.
        """
        _check_tag(tag)
        if not rules:
            self.undrop(tag)
            return
        table = self._table()
        self._refuse_foreign(tag, table)
        self._restore(install_script(tag, rules, table), f"drop {tag}")

    def undrop(self, tag: str) -> None:
        """Remove all of ``tag``; a no-op where nothing is held."""
        _check_tag(tag)
        table = self._table()
        self._refuse_foreign(tag, table)
        script = remove_script(tag, table)
        if script:
            self._restore(script, f"undrop {tag}")

    def check_drop(self, rules: Sequence[DropRule]) -> None:
        """A trial that commits nothing.

        Raises:
            Unavailable: this iptables, or the kernel beneath it, does not know what such rules need.
        """
        done = self._run(("iptables-restore", "--test", "--noflush"), install_script("trial", rules, Table({}, ())).encode())
        if done.code != 0:
            raise Unavailable(
                "iptables cannot hold such rules here",
                where=self._where,
                observed=(done.err.strip() or f"exit {done.code}")[-300:],
                next_step="load what it needs on the machine whose kernel this is: sudo modprobe -a xt_statistic ipt_REJECT",
                capability="packetfilter",
            )

    def drops(self) -> dict[str, int]:
        """Tag -> number of dropping rules held now."""
        return held(self._table())

    def dropped(self, tag: str) -> int:
        """Packets that the rules of ``tag`` have caught so far."""
        return caught(self._saved("-c"), tag)

    def _table(self) -> Table:
        return parse(self._saved())

    def _saved(self, *options: str) -> str:
        done = self._run(("iptables-save", *options, "-t", "filter"), b"")
        if done.code != 0:
            raise EnvironmentFailed("iptables-save failed", where=self._where, observed=done.err.strip() or f"exit {done.code}")
        return done.out

    def _restore(self, script: str, what: str) -> None:
        done = self._run(("iptables-restore", "-w", "5", "--noflush"), script.encode())
        if done.code != 0:
            raise EnvironmentFailed(f"iptables refused {what!r}", where=self._where, observed=done.err.strip() or f"exit {done.code}")

    def _refuse_foreign(self, tag: str, table: Table) -> None:
        mine = f"{COMMENT}{tag}"
        for rule in table.rules:
            if (rule.chain in _chains(tag) or rule.target in _chains(tag)) and rule.comment != mine:
                raise EnvironmentFailed(
                    "a packet filter rule of somebody else's is in the way",
                    where=self._where,
                    expected=f"only rules with the comment {mine!r} in and to {rule.chain}",
                    observed=rule.line,
                    next_step="find out whose it is, remove it, and run again",
                )


def _matches(tag: str, rule: DropRule) -> Iterator[str]:
    """The matching part of the rules (chain first) that one DropRule stands for. A network may have the node's own address in it: what it
    says to itself is spared there too."""
    chain = chain_of(tag, "I" if rule.inbound else "O")
    lo, which = f"! {'-i' if rule.inbound else '-o'} lo", _which(rule)
    if not rule.peers:
        yield f"{chain} {lo}{which}"
    for peer in map(_checked_peer, rule.peers):
        spared = "" if peer.endswith("/32") else f"{lo} "
        yield f"{chain} {spared}{'-s' if rule.inbound else '-d'} {peer}{which}"


def _which(rule: DropRule) -> str:
    """Which packets of those peers. A reset is never answered by another: that one has to get through."""
    words = " -p tcp -m tcp" if rule.reject or rule.port is not None else ""
    words += "" if rule.port is None else f" --{'d' if rule.inbound else 's'}port {_checked_port(rule.port)}"
    words += " ! --tcp-flags RST RST" if rule.reject else ""
    return words if rule.share == 1 else f"{words} -m statistic --mode random --probability {_checked_share(rule.share):.9f}"


def _comment(tag: str) -> str:
    return f"-m comment --comment {COMMENT}{tag}"


def _chains(tag: str) -> tuple[str, str]:
    return chain_of(tag, "I"), chain_of(tag, "O")


def _after(words: Sequence[str], option: str) -> str:
    return words[words.index(option) + 1] if option in words[:-1] else ""


def _check_tag(tag: str) -> None:
    if not _TAG.fullmatch(tag):
        raise BadInput(
            f"packet filter tag {tag!r} is not usable", next_step="use up to 64 of A-Z a-z 0-9 _ . - and begin with a letter or digit"
        )


def _checked_port(port: int) -> int:
    if not 0 < port < 65536:
        raise BadInput(f"{port} is no TCP port", next_step="give one of 1 to 65535")
    return port


def _checked_share(share: float) -> float:
    if not 0 < share <= 1:
        raise BadInput(f"{share} is no share of packets", expected="more than 0, at most 1")
    return share


def _checked_peer(peer: str) -> str:
    try:
        return str(ipaddress.IPv4Network(peer, strict=False))
    except ValueError as err:
        raise BadInput(f"{peer!r} is no IPv4 address or network", observed=str(err), next_step="give node addresses, not names") from None
