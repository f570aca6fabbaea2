"""What faults on a node's traffic share: Python programs on the node, whom to ask for a proof, heals that are one script.

No fault of its own. The programs are in :mod:`chaos.faults.programs`; they go to the node as text, so nothing is installed there.
"""

from __future__ import annotations

import hashlib
import statistics
import sys
from collections.abc import Sequence
from importlib.resources import files
from typing import ClassVar, TypeVar

import msgspec

from chaos.core.errors import BadInput, EnvironmentFailed, Unavailable
from chaos.core.model import Json, NodeRef, Undo
from chaos.environments.base import Completed, Exec, Node, require
from chaos.environments.iptables import Run
from chaos.faults import _helper
from chaos.faults._onnode import on_power, script
from chaos.faults._single import OneNode
from chaos.faults.base import Resolve

HARD_END_S = 3600
DISCARD_PORT = 9
_FIND_PYTHON = """
for p in /usr/bin/python3 python3 "$1"; do
  "$p" -I -S -c 'import sys; sys.exit(sys.version_info < (3, 7))' 2>/dev/null && command -v "$p" && exit 0
done
exit 0
"""
_DEVICE = 'ip -o -4 addr show | while read -r n d f a r; do [ "${a%/*}" != "$1" ] || echo "$d"; done'
T = TypeVar("T")


class Near(msgspec.Struct, frozen=True):
    """Answer of ``probe_tcp near``."""

    addresses: tuple[str, ...]


class Rtt(msgspec.Struct, frozen=True):
    """Answer of ``probe_tcp rtt``."""

    millis: tuple[float, ...]
    asked: int

    def median_ms(self) -> float | None:
        """None where fewer than half were answered."""
        return statistics.median(self.millis) if len(self.millis) * 2 > self.asked else None


class Scripted(OneNode, frozen=True):
    """Base of faults whose whole heal is the shell steps of their undo, on their one node."""

    nets: ClassVar[tuple[str, ...]] = ("fixture", "healer", "dead-man")

    def undo_record(self, fault_id: str, resolve: Resolve, **more: Json) -> Undo:
        """Refuses where a program under this tag is there already: whoever ends ours would end it too."""
        undo = super().undo_record(fault_id, resolve, **more)
        state = undo.prior["state"]
        programs = state.get("programs") if isinstance(state, dict) else None
        if isinstance(programs, list) and fault_id in programs:
            raise EnvironmentFailed(f"a program under the tag {fault_id} runs already", where=str(self.node), next_step="heal first")
        return undo

    @classmethod
    def heal(cls, undo: Undo, resolve: Resolve) -> None:
        """What a dead-man's switch would do; nothing on a node without power, whose kernel has forgotten."""
        node = resolve(undo.nodes[0])
        if on_power(node):
            for step in undo.steps:
                script(node, step.argument, for_what=undo.kind)


def python_of(node: Node, *, for_what: str) -> str:
    """Path of a Python on the node. Raises Unavailable where there is none."""
    path = script(node, _FIND_PYTHON, sys.executable, for_what=for_what).strip()
    if not path:
        raise Unavailable(
            f"{for_what} needs Python 3.7 or later on the node",
            where=str(node.ref),
            next_step="install it there: apt-get install python3-minimal (Alpine: apk add python3)",
            capability="python3",
        )
    return path.splitlines()[-1]


def tell(node: Node, python: str, program: str, *arguments: object, answer: type[T], for_what: str, timeout_s: float = 30.0) -> T:
    """Run a program to its end and decode what it says.

    Raises:
        EnvironmentFailed: it failed, with its last words.
    """
    argv = (python, "-I", "-S", "-", *map(str, arguments))
    done = require(node, Exec, for_what=for_what).run(argv, stdin=text_of(program).encode(), privileged=True, timeout_s=timeout_s)
    try:
        if done.code != 0:
            raise ValueError(f"exit {done.code}")
        return msgspec.json.decode(done.out, type=answer)
    except (ValueError, msgspec.MsgspecError) as err:
        said = (done.err.strip() or done.out.strip())[-300:] or str(err)
        raise EnvironmentFailed(f"the program {program} of {for_what} failed", where=str(node.ref), observed=said) from err


def leave_running(node: Node, tag: str, python: str, program: str, *arguments: object, for_what: str) -> None:
    """Start a program in the background under ``tag``. It ends by itself within the hour; ``_helper.stop_script`` ends it before."""
    _helper.start(node, tag, (python, "-I", "-S", "-c", text_of(program), *map(str, arguments)), for_what=for_what)


def text_of(program: str) -> str:
    return (files("chaos.faults.programs") / f"{program}.py").read_text(encoding="utf-8")


def runner(node: Node, *, for_what: str) -> Run:
    """How packet rules are set on ``node``."""
    able = require(node, Exec, for_what=for_what)

    def run(argv: Sequence[str], stdin: bytes) -> Completed:
        return able.run(argv, stdin=stdin, privileged=True)

    return run


def number_of(tag: str, low: int, high: int) -> int:
    """A number in ``[low, high)`` that is always the same for ``tag``."""
    return low + int.from_bytes(hashlib.sha256(tag.encode()).digest()[:4], "big") % (high - low)


def device_of(node: Node, *, for_what: str) -> str:
    """The network device that has the node's address."""
    found = script(node, _DEVICE, node.address, for_what=for_what).split()
    if not found:
        raise EnvironmentFailed(f"no network device of the node has its address {node.address}", where=str(node.ref))
    return found[0].partition("@")[0]


def checked_port(port: int, what: str) -> int:
    if not 0 < port < 65536:
        raise BadInput(f"{what}: {port} is no port", expected="1 to 65535")
    return port


def sides(fault: str, node: NodeRef, peers: tuple[NodeRef, ...]) -> None:
    """Raises BadInput where ``peers`` cannot prove anything about ``node``."""
    if not peers or node.name in {peer.name for peer in peers}:
        raise BadInput(f"{fault} needs peers other than the node, by whom it is proven", expected="peers=(another node, …)")


def to_whom(peers: Sequence[str], *, outward: bool) -> list[str]:
    """The matches of rules: one for each peer, or one for everybody but the node itself. ``outward``: packets that the node sends."""
    if not peers:
        return ["! -o lo" if outward else "! -i lo"]
    return [f"{'-d' if outward else '-s'} {peer}" for peer in peers]
