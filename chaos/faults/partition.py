"""``Partition``: packets that vanish between nodes. Nobody is told: no reset, no ICMP error, only silence.

One exception: where iptables drops what a node itself sends, that node's kernel tells its own datagram senders (EPERM), never TCP."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import ClassVar, cast

import msgspec

from chaos.core.clock import now_ns
from chaos.core.errors import BadInput, EnvironmentFailed
from chaos.core.model import Json, NodeRef, Proof, Step, Undo
from chaos.environments.base import DropRule, Exec, Node, PacketFilter, require
from chaos.faults import _shapes, _sides, _tcp
from chaos.faults.base import Resolve

DIRECTIONS = ("both", "in", "out")


class Partition(msgspec.Struct, frozen=True):
    """Drops every packet between ``nodes`` and ``peers``: both ways, only ``in`` (what ``nodes`` receive) or only ``out`` (what they send;
    ``one_way`` is the older word for it). Who is cut off from whom is told in one of four ways:

    - ``peers``: each of ``nodes`` from each of them;
    - ``everybody``: each of ``nodes`` from anybody at all, clients and monitors included; ``peers`` are those by whom it is proven;
    - ``cidrs``: each of ``nodes`` from these networks; ``peers`` prove it, those outside that they are not cut off;
    - ``grudge``: node name -> names of those whose packets it drops, among ``nodes``. The shapes of Jepsen's nemesis are made of it.

    ``port``: only TCP to that port of ``nodes``; everything else passes. Rules are set on ``nodes`` alone, under a tag of this fault (an
    iptables chain of its own, or routing rules where a micro-host's machine has no iptables). Landed is proven pair by pair: no echo (with
    ``port``: no answer to an attempt to connect) where packets are dropped, an echo where they are not, and, where one direction alone is
    dropped, a count of the receiver's kernel that the other one arrives. Needs the capability ``packetfilter``, with ``port`` also
    ``exec`` and python3 on ``peers``. Nets: fixture, healer, dead-man.
    """

    nodes: tuple[NodeRef, ...]
    peers: tuple[NodeRef, ...] = ()
    everybody: bool = False
    one_way: bool = False
    direction: str = "both"
    cidrs: tuple[str, ...] = ()
    port: int | None = None
    grudge: dict[str, tuple[str, ...]] = {}

    kind: ClassVar[str] = "partition"
    version: ClassVar[int] = 2
    nets: ClassVar[tuple[str, ...]] = ("fixture", "healer", "dead-man")
    landed_within_s: ClassVar[float] = 10.0
    healed_within_s: ClassVar[float] = 30.0

    @classmethod
    def between(
        cls, node: NodeRef, peers: Sequence[NodeRef], *, one_way: bool = False, direction: str = "both", port: int | None = None
    ) -> Partition:
        """``node`` from ``peers``; whoever else there is still reaches both."""
        return cls((node,), tuple(peers), one_way=one_way, direction=direction, port=port)

    @classmethod
    def isolate(cls, node: NodeRef, witnesses: Sequence[NodeRef], *, direction: str = "both", port: int | None = None) -> Partition:
        """``node`` from everybody; ``witnesses`` prove it."""
        return cls((node,), tuple(witnesses), everybody=True, direction=direction, port=port)

    @classmethod
    def from_cidr(
        cls, node: NodeRef, cidr: str, witnesses: Sequence[NodeRef], *, direction: str = "both", port: int | None = None
    ) -> Partition:
        """``node`` from a network; at least one of ``witnesses`` is in it."""
        return cls((node,), tuple(witnesses), cidrs=(cidr,), direction=direction, port=port)

    @classmethod
    def halves(cls, nodes: Sequence[NodeRef], seed: int) -> Partition:
        """Two halves at random, the smaller one first (Jepsen: partition-random-halves)."""
        smaller, larger = _shapes.bisect(_shapes.shuffled([node.name for node in nodes], seed))
        return cls(_named(nodes, smaller), _named(nodes, larger))

    @classmethod
    def random_node(cls, nodes: Sequence[NodeRef], seed: int) -> Partition:
        """One node at random from all the others (Jepsen: partition-random-node)."""
        first, *others = _shapes.shuffled([node.name for node in nodes], seed)
        return cls(_named(nodes, [first]), _named(nodes, others))

    @classmethod
    def majority_minority(cls, nodes: Sequence[NodeRef], seed: int, *, minority: Sequence[NodeRef] = ()) -> Partition:
        """The largest minority that there is, from the majority; whoever is named in ``minority`` (a primary, say) is in it."""
        few, many = _shapes.minority_and_majority([node.name for node in nodes], seed, [node.name for node in minority])
        return cls(_named(nodes, few), _named(nodes, many))

    @classmethod
    def components(cls, components: Sequence[Sequence[NodeRef]]) -> Partition:
        """Any number of groups, none of which hears another (Jepsen: complete-grudge)."""
        grudge = _shapes.complete([[node.name for node in component] for component in components])
        return cls(tuple(node for component in components for node in component), grudge=grudge)

    @classmethod
    def bridge(cls, nodes: Sequence[NodeRef], seed: int | None = None) -> Partition:
        """Two halves and one node between them that both reach (Jepsen: bridge). Without a seed: the nodes in their order, whose middle
        one is the bridge."""
        return cls(tuple(nodes), grudge=_shapes.bridge([node.name for node in nodes], seed)[1])

    @classmethod
    def majorities_ring(cls, nodes: Sequence[NodeRef], seed: int) -> Partition:
        """Every node hears a majority, no two the same (Jepsen: majorities-ring). Of three nodes each hears one other, one way only."""
        return cls(tuple(nodes), grudge=_shapes.majorities_ring([node.name for node in nodes], seed))

    @property
    def targets(self) -> tuple[NodeRef, ...]:
        return self.nodes

    def params(self) -> dict[str, Json]:
        return {
            "peers": [peer.name for peer in self.peers],
            "everybody": self.everybody,
            "one_way": self.one_way,
            "direction": self._direction,
            "cidrs": list(self.cidrs),
            "port": self.port,
            "grudge": {name: list(others) for name, others in self.grudge.items()},
        }

    def plan(self, fault_id: str, resolve: Resolve) -> Undo:
        self._check()
        carriers = self._carriers()
        drops: dict[str, Json] = {}
        for node in map(resolve, carriers):
            held = require(node, PacketFilter, for_what="Partition").drops()
            if fault_id in held:
                raise EnvironmentFailed(f"rules under the tag {fault_id} are there already", where=str(node.ref), next_step="heal first")
            drops[node.name] = dict(held)
        known = {ref.name: resolve(ref) for ref in (*self.nodes, *self.peers)}
        cut = self._cut(known)
        for _, far in cut if self.port is not None else ():
            _tcp.check(known[far], for_what="Partition of a port")
        connected = [pair for pair in cut if _sides.through(known, pair, self.port)]
        if not connected:
            raise EnvironmentFailed("no packet passes between the two sides even now", where=str(carriers[0]), next_step="heal first")
        silent = set() if self.port is not None else {frozenset(pair) for pair in cut}
        kept = [pair for pair in _sides.pairs(list(known)) if frozenset(pair) not in silent and _sides.passes(known, pair)]
        for _, target in self._open_ways(known, connected):
            require(known[target], Exec, for_what="Partition of one direction")
        prior: dict[str, Json] = {"drops": drops, "connected": _plain(connected), "kept": _plain(kept)}
        nodes = (*carriers, *(ref for ref in (*self.nodes, *self.peers) if ref not in carriers))
        steps = tuple(Step(ref.name, "undrop", fault_id) for ref in carriers)
        return Undo(fault_id, self.kind, self.version, nodes, self.params() | {"sides": len(carriers)}, prior, steps)

    @classmethod
    def unavailable(cls, undo: Undo) -> tuple[NodeRef, ...]:
        """Whom users may lose: the nodes that are cut off, not all that it is proven by. The guard's caps count them."""
        return undo.nodes[: cast("int", undo.params["sides"])]

    def inject(self, undo: Undo, resolve: Resolve) -> None:
        addresses = {ref.name: resolve(ref).address for ref in (*self.nodes, *self.peers)}
        for node in map(resolve, self._carriers()):
            require(node, PacketFilter, for_what="Partition").drop(undo.fault_id, self._rules(node.name, addresses))

    def landed(self, undo: Undo, resolve: Resolve) -> Proof | None:
        """The kernels hold our rules; nothing passes where it is to be dropped, and everything else does as before."""
        held = [require(resolve(n), PacketFilter, for_what="Partition").drops().get(undo.fault_id, 0) for n in self._carriers()]
        if not all(held):
            return None
        known = {ref.name: resolve(ref) for ref in undo.nodes}
        connected, kept = _pairs(undo, "connected"), _pairs(undo, "kept")
        if any(_sides.through(known, pair, self.port, attempts=1) for pair in connected):
            return None
        if not all(_sides.through(known, pair, None) for pair in kept):
            return None
        open_ways = self._open_ways(known, connected)
        if not all(_sides.arrives(known[source], known[target]) for source, target in open_ways):
            return None
        what = "echo" if self.port is None else f"answer on port {self.port}"
        text = f"no {what} over any of {len(connected)} pair(s); {sum(held)} dropping rules held; echoes over {len(kept)} pair(s) as before"
        return Proof(now_ns(), text + (f"; one way is open over {len(open_ways)}" if open_ways else ""))

    @classmethod
    def heal(cls, undo: Undo, resolve: Resolve) -> None:
        """Remove what is held under this fault's tag, also what a node without power would hold again when it boots."""
        for node in _carrying(undo, resolve):
            require(node, PacketFilter, for_what="Partition").undrop(undo.fault_id)

    @classmethod
    def healed(cls, undo: Undo, resolve: Resolve) -> Proof | None:
        """The rules held are those held before, and every pair that was connected is again. Reads records of version 1 too, which have
        neither a port nor the pairs that were spared."""
        before = cast("dict[str, Json]", undo.prior["drops"])
        for node in _carrying(undo, resolve):
            if dict(require(node, PacketFilter, for_what="Partition").drops()) != before[node.name]:
                return None
        known = {ref.name: resolve(ref) for ref in undo.nodes}
        connected, port = _pairs(undo, "connected"), cast("int | None", undo.params.get("port"))
        if not all(_sides.through(known, pair, port, attempts=1) for pair in connected):
            return None
        return Proof(now_ns(), f"packets pass again over {len(connected)} pair(s); no rule of ours is left")

    @property
    def _direction(self) -> str:
        return "out" if self.one_way else self.direction

    def _check(self) -> None:
        """Raises BadInput for what makes no sense."""
        if self.direction not in DIRECTIONS or (self.one_way and self.direction == "in"):
            raise BadInput("a partition has no such direction", expected="in, out or both; one_way is out", observed=self.direction)
        names = {node.name for node in self.nodes}
        if self.grudge:
            mentioned = {*self.grudge, *(name for others in self.grudge.values() for name in others)}
            if self.peers or self.everybody or self.cidrs or self._direction != "both" or not mentioned <= names:
                raise BadInput("a grudge says all of who is cut off, among nodes", expected=", ".join(sorted(names)))
        elif not self.peers or {p.name for p in self.peers} & names:
            raise BadInput("a partition needs two sides that have no node in common", expected="nodes and peers")
        if self.everybody and self.cidrs:
            raise BadInput("a partition is from everybody or from networks, not both")
        for cidr in self.cidrs:
            _network(cidr)

    def _carriers(self) -> tuple[NodeRef, ...]:
        """The nodes that get rules."""
        return tuple(node for node in self.nodes if self.grudge.get(node.name)) if self.grudge else self.nodes

    def _rules(self, name: str, addresses: dict[str, str]) -> list[DropRule]:
        if self.grudge:
            return [DropRule(inbound=True, peers=tuple(addresses[other] for other in self.grudge[name]), port=self.port)]
        far = self.cidrs or (() if self.everybody else tuple(addresses[peer.name] for peer in self.peers))
        ways = {"both": (False, True), "in": (True,), "out": (False,)}[self._direction]
        return [DropRule(inbound=inbound, peers=far, port=self.port) for inbound in ways]

    def _cut(self, known: dict[str, Node]) -> list[tuple[str, str]]:
        """Pairs between which anything is dropped: a node with rules, and the one that it is cut off from."""
        if self.grudge:
            return _sides.once([(name, other) for name, others in self.grudge.items() for other in others], both_ways=self.port is None)
        networks = [_network(cidr) for cidr in self.cidrs]
        far = [peer.name for peer in self.peers if not networks or _within(known[peer.name], networks)]
        if not far:
            raise BadInput("no witness is in the network", expected=f"one in {', '.join(self.cidrs)}")
        cut = [(node.name, peer) for node in self.nodes for peer in far]
        also = [node.name for node in self.nodes if self.everybody or (networks and _within(known[node.name], networks))]
        return _sides.once([*cut, *((node.name, other) for node in self.nodes for other in also if other != node.name)], both_ways=True)

    def _dropped(self, known: dict[str, Node]) -> set[tuple[str, str]]:
        """Every way (source, target) on which packets are dropped."""
        if self.grudge:
            return {(other, name) for name, others in self.grudge.items() for other in others}
        outward = {(node.name, name) for node in self.nodes for name in known if self._is_far(node.name, known[name])}
        inward = {(target, source) for source, target in outward}
        return {"both": outward | inward, "in": inward, "out": outward}[self._direction]

    def _open_ways(self, known: dict[str, Node], connected: list[tuple[str, str]]) -> list[tuple[str, str]]:
        """Where only one direction is dropped: the other one."""
        return [] if self.port is not None else _sides.open_ways(self._dropped(known), connected)

    def _is_far(self, name: str, other: Node) -> bool:
        if other.name == name:
            return False
        if self.cidrs:
            return _within(other, [_network(cidr) for cidr in self.cidrs])
        return self.everybody or other.name in {peer.name for peer in self.peers}


def _named(nodes: Sequence[NodeRef], names: Sequence[str]) -> tuple[NodeRef, ...]:
    known = {node.name: node for node in nodes}
    return tuple(known[name] for name in names)


def _network(cidr: str) -> ipaddress.IPv4Network:
    try:
        return ipaddress.IPv4Network(cidr)
    except ValueError as err:
        raise BadInput(f"{cidr!r} is no IPv4 network", observed=str(err), expected="such as 10.0.0.0/8") from None


def _within(node: Node, networks: Sequence[ipaddress.IPv4Network]) -> bool:
    return any(ipaddress.IPv4Address(node.address) in network for network in networks)


def _carrying(undo: Undo, resolve: Resolve) -> list[Node]:
    """The nodes that carry the rules."""
    return [resolve(ref) for ref in undo.nodes[: cast("int", undo.params["sides"])]]


def _pairs(undo: Undo, which: str) -> list[tuple[str, str]]:
    return [(one, two) for one, two in cast("list[list[str]]", undo.prior.get(which, []))]


def _plain(pairs: Sequence[tuple[str, str]]) -> Json:
    return [list(pair) for pair in pairs]
