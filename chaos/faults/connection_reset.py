"""``ConnectionReset``: TCP connections end with a reset, and new ones are refused, as behind a load balancer that forgot them."""

from __future__ import annotations

from typing import ClassVar, cast

import msgspec

from chaos.core.clock import now_ns
from chaos.core.errors import BadInput, EnvironmentFailed
from chaos.core.model import Json, NodeRef, Proof, Step, Undo
from chaos.environments.base import DropRule, Exec, Node, PacketFilter, Power, require
from chaos.faults import _helper, _tcp
from chaos.faults.base import Resolve

FOR_WHAT = "ConnectionReset"
CONNECT_WITHIN_S = 10.0


class ConnectionReset(msgspec.Struct, frozen=True):
    """Resets the TCP connections between ``node`` and ``peers`` (``everybody``: anybody; ``peers`` then prove it), with ``port`` only those
    to that port of the node, and goes on doing so while it lasts: whoever connects anew is refused.

    By rules that answer a packet with a reset (REJECT, in a chain of this fault's own); where the node has ``ss`` and its kernel allows it,
    connections on which nothing is said are ended at once as well, else at their next packet. Landed is proven by each peer: a connection
    that it made before (to ``port``, or to a listener that this fault starts for the purpose) ends with ECONNRESET, and another attempt
    is refused. Healed: each connects again. No byte of data is sent over any of them.

    Needs the capabilities ``packetfilter`` (iptables; routing rules cannot reset) and ``exec``, and python3 on the peers, without ``port``
    on the node too. Nets: fixture, healer, dead-man.
    """

    node: NodeRef
    peers: tuple[NodeRef, ...]
    port: int | None = None
    everybody: bool = False

    kind: ClassVar[str] = "connection-reset"
    version: ClassVar[int] = 1
    nets: ClassVar[tuple[str, ...]] = ("fixture", "healer", "dead-man")
    landed_within_s: ClassVar[float] = 15.0
    healed_within_s: ClassVar[float] = 30.0

    @property
    def targets(self) -> tuple[NodeRef, ...]:
        return (self.node,)

    def params(self) -> dict[str, Json]:
        names: list[Json] = [peer.name for peer in self.peers]
        return {"peers": names, "port": self.port, "everybody": self.everybody}

    def plan(self, fault_id: str, resolve: Resolve) -> Undo:
        if not self.peers or self.node.name in {peer.name for peer in self.peers}:
            raise BadInput("a reset is proven by other nodes that connect", expected="peers", observed="none, or the node itself")
        node = resolve(self.node)
        held = require(node, PacketFilter, for_what=FOR_WHAT).drops()
        require(node, PacketFilter, for_what=FOR_WHAT).check_drop(self._rules(resolve))
        if fault_id in held:
            raise EnvironmentFailed(f"rules under the tag {fault_id} are there already", where=str(self.node), next_step="heal first")
        for ref in (*self.peers, *(() if self.port is not None else (self.node,))):
            _tcp.check(resolve(ref), for_what=FOR_WHAT)
        for peer in self.peers if self.port is not None else ():
            answer = _tcp.knock(resolve(peer), node.address, cast("int", self.port), for_what=FOR_WHAT)
            if answer != "open":
                raise EnvironmentFailed(f"{peer.name} cannot connect to port {self.port} even now", where=str(self.node), observed=answer)
        prior: dict[str, Json] = {"drops": dict(held)}
        helpers = (Step(ref.name, "shell", _helper.stop_script(fault_id)) for ref in (self.node, *self.peers))
        steps = (Step(self.node.name, "undrop", fault_id), *helpers)
        return Undo(fault_id, self.kind, self.version, (self.node, *self.peers), self.params(), prior, steps)

    def inject(self, undo: Undo, resolve: Resolve) -> None:
        """Connections first, and then their end."""
        node = resolve(self.node)
        port = self.port if self.port is not None else _listening(node, undo.fault_id)
        for peer in map(resolve, self.peers):
            _tcp.hold(peer, undo.fault_id, node.address, port, for_what=FOR_WHAT)
        for peer in map(resolve, self.peers):
            _word(peer, undo.fault_id, "connected")
        require(node, PacketFilter, for_what=FOR_WHAT).drop(undo.fault_id, self._rules(resolve))
        # Best effort: without it a connection ends at its next packet, and our own by the probes that keep it alive.
        require(node, Exec, for_what=FOR_WHAT).run(("sh", "-c", self._end_at_once(resolve)), privileged=True)

    def landed(self, undo: Undo, resolve: Resolve) -> Proof | None:
        """What each peer's connection met, and what an attempt to make another one does."""
        node = resolve(self.node)
        if not require(node, PacketFilter, for_what=FOR_WHAT).drops().get(undo.fault_id):
            return None
        if any(_tcp.says(peer, undo.fault_id, for_what=FOR_WHAT) != "reset" for peer in map(resolve, self.peers)):
            return None
        port = self.port if self.port is not None else int(_tcp.says(node, undo.fault_id, for_what=FOR_WHAT))
        if any(_tcp.knock(peer, node.address, port, for_what=FOR_WHAT) != "refused" for peer in map(resolve, self.peers)):
            return None
        names = ", ".join(peer.name for peer in self.peers)
        return Proof(now_ns(), f"a connection of {names} to port {port} of {self.node.name} met a reset, and another attempt is refused")

    @classmethod
    def heal(cls, undo: Undo, resolve: Resolve) -> None:
        """The rules first, then what was started to prove them; a node without power runs nothing of it."""
        nodes = [resolve(ref) for ref in undo.nodes]
        require(nodes[0], PacketFilter, for_what=FOR_WHAT).undrop(undo.fault_id)
        started = [(node, undo.fault_id) for node in nodes] + [(nodes[0], _again(undo))]
        for node, tag in started:
            if not isinstance(node, Power) or node.powered():
                _helper.stop(node, tag, for_what=FOR_WHAT)

    @classmethod
    def healed(cls, undo: Undo, resolve: Resolve) -> Proof | None:
        """The rules held are those held before, and every peer connects again."""
        node, *peers = (resolve(ref) for ref in undo.nodes)
        if dict(require(node, PacketFilter, for_what=FOR_WHAT).drops()) != undo.prior["drops"]:
            return None
        port = cast("int | None", undo.params["port"])
        try:
            port = port if port is not None else _listening(node, _again(undo))
            if any(_tcp.knock(peer, node.address, port, for_what=FOR_WHAT) != "open" for peer in peers):
                return None
        finally:
            if undo.params["port"] is None:
                _helper.stop(node, _again(undo), for_what=FOR_WHAT)
        return Proof(now_ns(), f"{', '.join(peer.name for peer in peers)} connect to {node.name} again; no rule of ours is left")

    def _rules(self, resolve: Resolve) -> list[DropRule]:
        peers = () if self.everybody else tuple(resolve(peer).address for peer in self.peers)
        return [DropRule(inbound=inbound, peers=peers, port=self.port, reject=True) for inbound in (True, False)]

    def _end_at_once(self, resolve: Resolve) -> str:
        """``ss -K`` for the connections that the rules are about; addresses once more as an IPv6 socket shows them. What the node says to
        itself is spared."""
        addresses = [resolve(peer).address for peer in self.peers]
        own = ["127.0.0.0/8", resolve(self.node).address]
        known = " or ".join(f"dst {form}" for a in addresses for form in (a, f"[::ffff:{a}]"))
        others = " and ".join(f"not dst {form}" for a in own for form in (a, f"[::ffff:{a}]" if "/" not in a else "[::ffff:127.0.0.0]/104"))
        which = f"( {others if self.everybody else known} )" + ("" if self.port is None else f" and sport = :{self.port}")
        return f"ss -K -t -n -H '{which}' >/dev/null 2>&1; true"


def _again(undo: Undo) -> str:
    """The tag of the listener by which healing is proven."""
    return f"{undo.fault_id}.again"


def _listening(node: Node, tag: str) -> int:
    """The port of a listener of ours on ``node``, which is started where it is not there."""
    if not _tcp.says(node, tag, for_what=FOR_WHAT):
        _tcp.listen(node, tag, for_what=FOR_WHAT)
    return int(_word(node, tag, ""))


def _word(node: Node, tag: str, word: str) -> str:
    """What the helper says, once it says ``word`` ("": anything)."""
    said = _tcp.says(node, tag, for_what=FOR_WHAT, word=word, within_s=CONNECT_WITHIN_S)
    if not said:
        raise EnvironmentFailed(f"a helper was not {word or 'ready'} within {CONNECT_WITHIN_S:g} s", where=str(node.ref))
    return said
