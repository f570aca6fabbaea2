"""The packet filter of a container that is not ours: nft, run behind a network door. Holds no state: what is dropped, the kernel says.

Not :class:`~chaos.environments.base.PacketFilter` itself, which a node is: here every call names the target in its present life.
"""

from __future__ import annotations

from collections.abc import Sequence

from chaos.core.errors import EnvironmentFailed, Unavailable
from chaos.environments.base import Completed, DropRule
from chaos.environments.docker.attach import nft
from chaos.environments.docker.attach.doors import NETWORK, Doors, Target

_PROBE = "probe"


class NftFilter:
    """Rules of ours in one container's network namespace."""

    def __init__(self, doors: Doors, where: str) -> None:
        self._doors, self._where = doors, where

    def ruleset(self, target: Target) -> nft.Ruleset:
        """What the kernel holds now."""
        done = self._doors.run(target, NETWORK, nft.LIST)
        if done.code != 0:
            raise self._refused("list the packet rules", done)
        return nft.parse(done.out)

    def drop(self, target: Target, tag: str, rules: Sequence[DropRule], deadline_s: float) -> None:
        """Make ``tag`` hold exactly ``rules`` until ``deadline_s`` from now.

        Raises:
            BadInput: a tag or an address that nft would not take.
            EnvironmentFailed: foreign state in the way, or nft refused.
        """
        script = nft.install_script(tag, rules, deadline_s)
        self._refuse_foreign(tag, self.ruleset(target))
        self._feed(target, script if rules else nft.remove_script(tag), f"drop packets for {tag}")

    def check(self, target: Target, rules: Sequence[DropRule]) -> None:
        """Could the kernel hold such rules? It is asked: in one transaction that takes back what it adds."""
        script = nft.install_script(_PROBE, rules, 1.0) + nft.remove_script(_PROBE)
        done = self._doors.run(target, NETWORK, nft.FEED, stdin=script.encode())
        if done.code != 0:
            raise Unavailable(
                "this kernel cannot filter packets so",
                where=self._where,
                observed=done.err.strip()[:300],
                next_step="load nf_tables with nft_numgen and nft_reject_inet on the engine's machine (modprobe), or choose Partition",
                capability="packetfilter",
            )

    def undrop(self, target: Target, tag: str) -> None:
        """Remove all of ``tag``; a no-op where nothing is held."""
        script = nft.remove_script(tag)
        found = self.ruleset(target)
        self._refuse_foreign(tag, found)
        if tag in found.held:
            self._feed(target, script, f"undrop {tag}")

    def renew(self, target: Target, tag: str, elements: nft.Elements, deadline_s: float) -> None:
        """Give what ``tag`` holds a new deadline. Raises EnvironmentFailed where any of it has expired or is gone."""
        self._feed(target, nft.renew_script(tag, elements, deadline_s), f"extend {tag}")

    def _feed(self, target: Target, script: str, what: str) -> None:
        done = self._doors.run(target, NETWORK, nft.FEED, stdin=script.encode())
        if done.code != 0:
            raise self._refused(what, done)

    def _refused(self, what: str, done: Completed) -> EnvironmentFailed:
        return EnvironmentFailed(f"nft refused to {what}", where=self._where, observed=done.err.strip()[:300] or f"exit {done.code}")

    def _refuse_foreign(self, tag: str, found: nft.Ruleset) -> None:
        if nft.table_of(tag) in found.foreign:
            raise EnvironmentFailed(
                "a packet filter table of somebody else's is in the way",
                where=self._where,
                expected=f"only rules with the comment {nft.COMMENT + tag!r} in it",
                observed=f"table inet {nft.table_of(tag)}",
                next_step="find out whose it is, remove it, and run again",
            )
