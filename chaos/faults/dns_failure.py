"""``DnsFailure``: a node whose names do not resolve, or resolve to something else."""

from __future__ import annotations

import ipaddress
from typing import ClassVar, Literal, cast, get_args

import msgspec

from chaos.core.clock import now_ns
from chaos.core.errors import BadInput, Unavailable
from chaos.core.model import Json, NodeRef, Proof, Undo
from chaos.environments.base import Exec, Node, require
from chaos.environments.tagged_rules import TaggedRule, held, install, refuse_held, removal
from chaos.faults import _helper
from chaos.faults._onnode import with_steps
from chaos.faults._traffic import HARD_END_S, Scripted, checked_port, leave_running, number_of, python_of, runner, tell
from chaos.faults.base import Resolve

Mode = Literal["refuse", "nxdomain", "wrong", "timeout"]
REFUSED, NXDOMAIN = 5, 3
ASK_WITHIN_S = 1.0
TRIES = 3


class Asked(msgspec.Struct, frozen=True):
    """Answer of ``ask_dns ask``: ``outcome`` is ``answer``, ``timeout`` or ``error``."""

    outcome: str
    rcode: int
    addresses: tuple[str, ...]
    said: str

    def in_words(self) -> str:
        if self.outcome != "answer":
            return self.said or self.outcome
        codes = {0: "no error", 2: "server failure", NXDOMAIN: "no such name", REFUSED: "refused"}
        return f"{codes.get(self.rcode, f'rcode {self.rcode}')}, {', '.join(self.addresses) or 'no address'}"


class Resolvers(msgspec.Struct, frozen=True):
    """Answer of ``ask_dns resolvers``."""

    resolvers: tuple[str, ...]


class DnsFailure(Scripted, frozen=True):
    """Lets the DNS queries fail that a node sends (UDP and TCP, to whatever server, on ``port``). ``mode`` says how: ``refuse`` (the
    server answers REFUSED, so a client gives up at once or goes to its next server), ``nxdomain`` (there is no such name), ``wrong``
    (every IPv4 address is ``address``, by default one of those that are reserved for documentation; other records are empty) or
    ``timeout`` (silence). With ``names`` only these and what is below them fail; other queries go on to the server.

    A rule in the node's nat table, before all others (the engine's own for a container's resolver too), leads new queries to a small
    server on the node, the fault's own. It does not touch /etc/hosts, what a program has in its own cache, nor a socket that was in use
    for queries already (it keeps its way until it has been idle for half a minute). ``resolver``, a node or an address, is asked for
    the proof; "" takes the first that /etc/resolv.conf names. It is asked for the first of ``names``, or the node's own name.

    Needs the capability ``exec``; Python 3 and iptables on the node, nat in its kernel; a server that answers it now. Nets: fixture,
    healer, dead-man. Landed: a query from the node, by UDP and by TCP, gets what the mode says, and got something else before.
    """

    mode: Mode = "refuse"
    names: tuple[str, ...] = ()
    resolver: NodeRef | str = ""
    address: str = "192.0.2.1"
    port: int = 53

    kind: ClassVar[str] = "dns-failure"
    landed_within_s: ClassVar[float] = 30.0

    def params(self) -> dict[str, Json]:
        return super().params() | {"resolver": self.resolver if isinstance(self.resolver, str) else self.resolver.name}

    def plan(self, fault_id: str, resolve: Resolve) -> Undo:
        self._check()
        node = resolve(self.node)
        require(node, Exec, for_what="DnsFailure")
        python = python_of(node, for_what="DnsFailure")
        run = runner(node, for_what="DnsFailure")
        refuse_held(run, fault_id, "nat", where=str(node.ref))
        server = self._server(node, python, resolve)
        name = self.names[0] if self.names else node.name
        undo = self.undo_record(fault_id, resolve, python=python, server=server, name=name)
        before = next((one for one in (_ask(undo, resolve) for _ in range(TRIES)) if one.outcome == "answer"), None)
        if before is None:
            raise Unavailable(
                "no DNS server answers this node, so there is nothing to fail",
                where=str(node.ref),
                observed=f"{server} port {self.port}: {_ask(undo, resolve).in_words()}",
                next_step="give resolver=, a node or an address whose DNS server the node reaches",
                capability="dns",
            )
        if as_asked(self.mode, self.address, before):
            raise BadInput(
                f"DnsFailure: the answer for {name!r} is already what {self.mode} would make of it",
                observed=before.in_words(),
                next_step="give names=, with one first that resolves now",
            )
        undo = msgspec.structs.replace(undo, prior=undo.prior | {"answer": msgspec.to_builtins(before)})
        return with_steps(undo, ("shell", removal(fault_id, ("nat",)) + "\n" + _helper.stop_script(fault_id)))

    def _check(self) -> None:
        if self.mode not in get_args(Mode):
            raise BadInput(f"DnsFailure: no mode {self.mode!r}", expected=f"one of {', '.join(get_args(Mode))}")
        checked_port(self.port, "DnsFailure")
        for what in (self.address, *([self.resolver] if isinstance(self.resolver, str) and self.resolver else [])):
            try:
                ipaddress.IPv4Address(what)
            except ValueError as err:
                raise BadInput(f"DnsFailure: {what!r} is no IPv4 address", observed=str(err)) from None

    def _server(self, node: Node, python: str, resolve: Resolve) -> str:
        if isinstance(self.resolver, NodeRef):
            return resolve(self.resolver).address
        if self.resolver:
            return self.resolver
        found = tell(node, python, "ask_dns", "resolvers", answer=Resolvers, for_what="DnsFailure").resolvers
        if not found:
            raise Unavailable(
                "no resolver is configured on this node",
                where=f"{node.ref}: /etc/resolv.conf",
                next_step="give resolver=, a node or an address whose DNS server the node reaches",
                capability="dns",
            )
        return found[0]

    def inject(self, undo: Undo, resolve: Resolve) -> None:
        node, number, mark = resolve(self.node), _port(undo.fault_id), number_of(undo.fault_id, 1 << 20, 1 << 30)
        arguments = (number, self.mode, self.address, undo.prior["server"], self.port, mark, HARD_END_S, *self.names)
        leave_running(node, undo.fault_id, str(undo.prior["python"]), "answer_dns", *arguments, for_what="DnsFailure")
        rules = [
            TaggedRule("nat", "O", f"-p {way} -m {way} --dport {self.port} -m mark ! --mark {mark:#x} -j REDIRECT --to-ports {number}")
            for way in ("udp", "tcp")
        ]
        install(runner(node, for_what="DnsFailure"), undo.fault_id, rules, where=str(node.ref))

    def landed(self, undo: Undo, resolve: Resolve) -> Proof | None:
        """A query of the node's gets what was asked for, by UDP and by TCP."""
        node = resolve(self.node)
        if not held(runner(node, for_what="DnsFailure"), undo.fault_id, "nat", where=str(node.ref)):
            return None
        seen = [_ask(undo, resolve, *how) for how in ((), ("tcp",))]
        if not all(as_asked(self.mode, self.address, one) for one in seen):
            return None
        before = msgspec.convert(undo.prior["answer"], Asked).in_words()
        return Proof(
            now_ns(), f"{undo.prior['name']} on {node.name}: {seen[0].in_words()} (before: {before}); by TCP: {seen[1].in_words()}"
        )

    @classmethod
    def healed(cls, undo: Undo, resolve: Resolve) -> Proof | None:
        """The node is as before, and the server's own answer is back."""
        if resolve(undo.nodes[0]).state() != undo.prior["state"]:
            return None
        now, before = _ask(undo, resolve), msgspec.convert(undo.prior.get("answer"), Asked)
        if (now.outcome, now.rcode, bool(now.addresses)) != (before.outcome, before.rcode, bool(before.addresses)):
            return None
        return Proof(now_ns(), f"{undo.prior['name']} on {undo.nodes[0].name}: {now.in_words()}, as before; no rule or program is left")


def as_asked(mode: str, address: str, seen: Asked) -> bool:
    """Is this what the mode makes of a query?"""
    if mode == "timeout":
        return seen.outcome == "timeout"
    if seen.outcome != "answer":
        return False
    if mode == "wrong":
        return seen.rcode == 0 and seen.addresses == (address,)
    return seen.rcode == (REFUSED if mode == "refuse" else NXDOMAIN)


def _ask(undo: Undo, resolve: Resolve, *how: str) -> Asked:
    """One query of the node's."""
    server, name = undo.prior["server"], undo.prior["name"]
    arguments = ("ask", server, undo.params["port"], name, ASK_WITHIN_S, *how)
    python = cast("str", undo.prior["python"])
    return tell(resolve(undo.nodes[0]), python, "ask_dns", *arguments, answer=Asked, for_what="DnsFailure")


def _port(fault_id: str) -> int:
    """Below the ephemeral ports, so that no client of the node holds it."""
    return number_of(fault_id, 20000, 32000)
