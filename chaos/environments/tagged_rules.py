"""Packet rules that do more than drop: reject, queue, redirect, or match TCP flags; in the same chains of our own as ``iptables``.

``filter`` and ``nat`` table, one transaction a table. What is put in under a tag is taken out by :func:`removal`, a shell script, so that
a dead-man's switch beside the node can do it too; for the filter table ``undrop`` of the same tag does it as well. Never flushes, never
reads a rule without our comment as ours. Not a way of running commands: it is given ``run``. IPv4 only.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from chaos.core.errors import EnvironmentFailed, Unavailable
from chaos.environments.iptables import COMMENT, Run, chain_of, parse

NOT_FOUND = 127  # what a shell says of a program that it does not have
HOOKS = {"I": "INPUT", "O": "OUTPUT"}


class TaggedRule(msgspec.Struct, frozen=True):
    """One rule: ``table`` (filter, nat), ``hook`` (``I`` input, ``O`` output) and the rest of the line, matches first, then the target."""

    table: str
    hook: str
    line: str


def install(run: Run, tag: str, rules: Sequence[TaggedRule], *, where: str) -> None:
    """Hold ``rules`` under ``tag``, of which nothing may be held yet (:func:`refuse_held`); each table at once or not at all.

    Raises:
        EnvironmentFailed: iptables refused.
    """
    for table in dict.fromkeys(rule.table for rule in rules):
        script = install_script(tag, table, [rule for rule in rules if rule.table == table])
        _checked(run, ("iptables-restore", "-w", "5", "--noflush"), script.encode(), where, f"take the rules of {tag}")


def install_script(tag: str, table: str, rules: Sequence[TaggedRule]) -> str:
    """Input of ``iptables-restore --noflush`` on a table that holds nothing of ``tag``. The jump comes first, before whatever is there."""
    hooks = list(dict.fromkeys(rule.hook for rule in rules))
    comment = f"-m comment --comment {COMMENT}{tag}"
    lines = [f":{chain_of(tag, hook)} - [0:0]" for hook in hooks]
    lines += [f"-A {chain_of(tag, rule.hook)} {comment} {rule.line}" for rule in rules]
    lines += [f"-I {HOOKS[hook]} 1 {comment} -j {chain_of(tag, hook)}" for hook in hooks]
    return "\n".join([f"*{table}", *lines, "COMMIT", ""])


def removal(tag: str, tables: Iterable[str]) -> str:
    """A POSIX shell script that removes all of ``tag`` from ``tables``, in one transaction each; does nothing where nothing is."""
    chain = chain_of(tag, "I")[:-1] + "[IO]"
    jump = f's/^-A \\(.*{COMMENT}{tag}[" ].*-j {chain}\\)$/-D \\1/p'
    lines = [
        f"for t in {' '.join(tables)}; do s=$(iptables-save -t $t) || exit 1",
        f"r=$(printf '%s\\n' \"$s\" | sed -n '{jump}'",
        f"printf '%s\\n' \"$s\" | sed -n 's/^:\\({chain}\\) .*/-F \\1/p'",
        f"printf '%s\\n' \"$s\" | sed -n 's/^:\\({chain}\\) .*/-X \\1/p')",
        '[ -z "$r" ] || printf \'*%s\\n%s\\nCOMMIT\\n\' $t "$r" | iptables-restore -w 5 --noflush || exit 1',
        "done",
    ]
    return "\n".join(lines)


def held(run: Run, tag: str, table: str, *, where: str) -> list[str]:
    """The lines that the kernel holds in chains of ``tag``."""
    saved = parse(_checked(run, ("iptables-save", "-t", table), b"", where, f"show its {table} table"))
    return [rule.line for rule in saved.rules if rule.chain in _chains(tag)]


def refuse_held(run: Run, tag: str, table: str, *, where: str) -> None:
    """To be asked before anything is done.

    Raises:
        EnvironmentFailed: a chain of ``tag`` is there already, ours or somebody else's of the same name.
        Unavailable: iptables does not work there.
    """
    done = run(("sh", "-c", f"exec iptables-save -t {table}"), b"")
    if done.code != 0:
        missing = done.code == NOT_FOUND
        raise Unavailable(
            f"iptables and its {table} table do not work on this node",
            where=where,
            observed=done.err.strip()[-300:] or f"exit {done.code}",
            next_step="apt-get install iptables (on the node)"
            if missing
            else f"let the node administer its network (docker: --cap-add NET_ADMIN), and load iptable_{table} or nf_tables on its machine",
            capability="iptables",
        )
    saved = parse(done.out)
    found = [rule.line for rule in saved.rules if rule.chain in _chains(tag) or rule.target in _chains(tag)]
    found += [f":{chain}" for chain in _chains(tag) if chain in saved.policies]
    if found:
        raise EnvironmentFailed(
            f"packet rules under the tag {tag} are there already",
            where=where,
            observed=found[0],
            next_step="heal first; where they do not carry our comment, find out whose they are and remove them",
        )


def _chains(tag: str) -> tuple[str, str]:
    return chain_of(tag, "I"), chain_of(tag, "O")


def _checked(run: Run, argv: Sequence[str], stdin: bytes, where: str, what: str) -> str:
    done = run(argv, stdin)
    if done.code != 0:
        raise EnvironmentFailed(f"iptables did not {what}", where=where, observed=done.err.strip()[-400:] or f"exit {done.code}")
    return done.out
