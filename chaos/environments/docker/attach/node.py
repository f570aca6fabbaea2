"""A container that somebody else runs, as a node: through the engine's API and through doors, without a tool of ours in it.

Nothing in its configuration is ever changed: power is cut by dropping every packet (for seconds, by the kernel's own clock) and killing
it, and comes back by starting it, so that networks, aliases and addresses are what the engine itself gives it back. Needs nothing in the
container but, for commands, what the command needs. A node keeps no state; two objects for one container (a healer's) agree.

Not there: ``link`` (a link set down loses its routes, and whoever wrote them down may be gone; isolate it by ``Partition``).
"""

from __future__ import annotations

import secrets
import signal
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import msgspec

from chaos.core.clock import wait_for
from chaos.core.errors import BadInput, DeadlineExceeded, EnvironmentFailed, EnvironmentGone, Unavailable
from chaos.core.model import Json, NodeRef
from chaos.environments import marks
from chaos.environments.base import Completed, DropRule, Node, Process, Volume
from chaos.environments.docker import limits, link, volumes
from chaos.environments.docker.attach import nft
from chaos.environments.docker.attach.container import SERVICE, addresses, main_address, snapshot
from chaos.environments.docker.attach.doors import HOST, NETWORK, PROCESS, SLEEPER, Doors, Target
from chaos.environments.docker.attach.filter import NftFilter
from chaos.environments.docker.engine import calling
from chaos.environments.docker.execute import run_in
from chaos.environments.docker.owner import PREFIX
from chaos.environments.docker.processes import SIGNAL, parse_processes

SILENCE_TAG = "power"
SILENCE_S = 20.0
_EXEC = "GAMEDAY_EXEC"
_NO_SHELL = (126, 127)
# Behind a process door nothing may have a child: the shell becomes the program.
_READ = 'exec grep -aH "" /proc/[0-9]*/stat /proc/[0-9]*/cmdline 2>/dev/null'
_FIND = 'exec grep -lszxF "$1" /proc/[0-9]*/environ'
_PING = 'for a in "$@"; do ping -nq -c 1 -W 0.3 "$a" >/dev/null 2>&1 & p="$p $!"; done; for q in $p; do wait $q && exit 0; done; exit 1'
_KILL = 'for p in "$@"; do kill -9 "$p"; done'


class Rights(msgspec.Struct):
    """Can the engine give a command all rights? True until it refused."""

    all: bool = True


class Beside(msgspec.Struct, frozen=True):
    """What nodes of one environment share. ``deadline_s`` tells for how long a tag's drops hold unless extended; ``others`` lists the
    environment's containers as the engine does."""

    client: Any
    doors: Doors
    deadline_s: Callable[[str], float]
    others: Callable[[], list[Mapping[str, Any]]]
    rights: Rights


class AttachedNode:
    """One container seen as a machine. ``locator`` of its reference: ``container`` (id) and ``address`` (when it was referred to)."""

    def __init__(self, beside: Beside, ref: NodeRef) -> None:
        self._beside, self._client, self._ref = beside, beside.client, ref
        self._id = ref.locator["container"]
        self._filter = NftFilter(beside.doors, str(ref))

    @property
    def ref(self) -> NodeRef:
        return self._ref

    @property
    def name(self) -> str:
        return self._ref.name

    @property
    def address(self) -> str:
        """The one on compose's default network, else on the first by name; that of its reference while it has none."""
        return main_address(self._inspect()["NetworkSettings"]["Networks"]) or self._ref.locator.get("address", "")

    @property
    def role(self) -> str:
        return self.labels.get(f"{PREFIX}.role", "")

    @property
    def zone(self) -> str:
        return self.labels.get(f"{PREFIX}.zone", "")

    @property
    def labels(self) -> dict[str, str]:
        return dict(self._inspect()["Config"]["Labels"] or {})

    def state(self) -> dict[str, Json]:
        """Comparable: configuration, networks, limits, mounts, power; where it runs also packet rules (``filter``), links and routes, and
        where it has a shell what faults leave in it."""
        seen = self._inspect()
        state = snapshot(seen)
        state["services"] = {self._service(seen): bool(state["powered"])}
        if state["powered"] and self._network_of_its_own(seen):
            done = self._beside.doors.run(_target(seen), NETWORK, ("sh", "-c", f"nft -j list ruleset || exit 1; {link.LOOK}"))
            if done.code != 0:
                raise EnvironmentFailed("looking at the node's network failed", where=str(self._ref), observed=done.err.strip()[-300:])
            rules, _, links = done.out.partition("\n")
            # The engine plugs several networks in in any order.
            state |= {key: [*sorted(cast("list[str]", lines))] for key, lines in link.parse(links).items()}
            state["filter"] = list(nft.parse(rules).lines)
        if state["powered"] and not state["frozen"]:
            state |= self._left(seen)
        return state

    def _left(self, seen: Mapping[str, Any]) -> dict[str, Json]:
        """What faults may have left inside; nothing can be there where there is no shell."""
        done = self._run(("sh", "-c", f"{volumes.state_script(seen)}; echo --; {marks.SCRIPT}"), user="0")
        if done.code in _NO_SHELL:
            return {}
        left, traced, marked = done.out.split("--\n")
        return {**marks.parse(marked), **volumes.disk_state(left, traced)}

    # Exec

    def run(self, argv: Sequence[str], *, timeout_s: float = 30.0, stdin: bytes = b"", privileged: bool = False) -> Completed:
        """``privileged`` is the container's administrator with every right that the engine can give; where it cannot give more than it has
        itself, with those of the container. At its deadline the command and what it started are killed from outside: the container
        need not have a program for that."""
        user = "0" if privileged else ""
        if privileged and self._beside.rights.all:
            done = self._run(argv, user=user, timeout_s=timeout_s, stdin=stdin, privileged=True)
            if done.code != 126 or "unable to apply caps" not in done.out + done.err:
                return done
            self._beside.rights.all = False  # an engine that has not all rights itself refuses before anything is run
        return self._run(argv, user=user, timeout_s=timeout_s, stdin=stdin)

    def _run(
        self, argv: Sequence[str], *, user: str = "", timeout_s: float = 30.0, stdin: bytes = b"", privileged: bool = False
    ) -> Completed:
        value = secrets.token_hex(8)
        try:
            return run_in(
                self._client,
                self._id,
                argv,
                user=user,
                stdin=stdin,
                timeout_s=timeout_s,
                where=str(self._ref),
                bounded=False,
                privileged=privileged,
                environment={_EXEC: value},
            )
        except DeadlineExceeded as err:
            self._kill_tagged(f"{_EXEC}={value}")
            raise DeadlineExceeded(f"{err.what} and was killed", where=str(self._ref)) from None

    def has_shell(self) -> bool:
        """Can a script be run in it?"""
        return self.run(("sh", "-c", ":")).code == 0

    def _kill_tagged(self, tag: str) -> None:
        def attempt() -> bool:
            seen = self._inspect()
            if not seen["State"]["Running"]:
                return True
            found = self._behind(seen, ("sh", "-c", _FIND, "sh", tag))
            pids = [path.split("/")[2] for path in found.out.split()] if found is not None else []
            if pids:
                self._behind(seen, ("sh", "-c", _KILL, "sh", *pids))
            return not pids

        wait_for(attempt, timeout_s=10.0, what=f"a command on {self._ref} that ran out of time to end")

    # Power

    def power_off(self) -> None:
        """First silence, then the end of every process: peers get no reset and no close. Through a port that the engine publishes they
        do: its proxy ends with the container, and it stands on the host. A frozen node is killed too."""
        seen = self._inspect()
        if not seen["State"]["Running"]:
            return
        if seen["HostConfig"]["NetworkMode"] != "none":
            rules = [DropRule(inbound=True), DropRule(inbound=False)]
            self._filter.drop(self._routed(), SILENCE_TAG, rules, SILENCE_S)
        self._send("SIGKILL")
        wait_for(lambda: not self.powered(), timeout_s=15.0, what=f"the processes of {self._ref} to be gone", interval_s=0.01)

    def power_on(self) -> None:
        """Start it; where it had not been killed yet, only let packets through again."""
        seen = self._inspect()
        if seen["State"]["Running"]:
            if self._network_of_its_own(seen):
                self._filter.undrop(_target(seen), SILENCE_TAG)
            return
        with calling("power on", str(self._ref), ignore=(304,)):
            self._client.api.start(self._id)

    def powered(self) -> bool:
        return bool(self._inspect()["State"]["Running"])

    def reachable(self) -> bool:
        """Without a running container there is no network stack that could answer; else another node asks."""
        if not self.powered():
            return False
        peers = [node for node in self._peers() if node.powered()]
        return any(node.passes(self) for node in peers) if peers else not self._silent()

    def _silent(self) -> bool:
        return SILENCE_TAG in self._filter.ruleset(_target(self._inspect())).held

    # Freeze

    def freeze(self) -> None:
        if not self.frozen():
            with calling("freeze", str(self._ref)):
                self._client.api.pause(self._id)

    def thaw(self) -> None:
        """The engine sometimes refuses once right after a pause; asked again it obeys."""

        def attempt() -> bool:
            if self.frozen():
                with calling("thaw", str(self._ref)):
                    self._client.api.unpause(self._id)
            return not self.frozen()

        wait_for(attempt, timeout_s=10.0, what=f"{self._ref} to thaw", interval_s=0.05)

    def frozen(self) -> bool:
        return bool(self._inspect()["State"]["Paused"])

    # Processes

    def processes(self) -> list[Process]:
        """Every process but our door. ``pid`` is the number inside. A node without power has none; a frozen one shows them."""
        seen = self._inspect()
        if not seen["State"]["Running"]:
            return []
        printed = self._behind(seen, ("sh", "-c", _READ))
        return [p for p in parse_processes(printed.out) if not _ours(p)] if printed is not None else []

    def signal(self, process: Process, signal_number: int) -> bool:
        """The first process takes no deadly signal from within its own namespace; it gets it from the engine's host, as from the kernel, so
        that the container's restart policy applies."""
        seen = self._inspect()
        if not seen["State"]["Running"]:
            return False
        first = process.pid == 1
        pid = int(seen["State"]["Pid"]) if first else process.pid
        argv = ("sh", "-c", SIGNAL, "sh", str(pid), str(process.started), str(int(signal.Signals(signal_number))))
        done = self._behind(seen, argv, kind=HOST if first else PROCESS)
        if done is None:
            return True
        if done.code not in (0, 1, 3):
            raise EnvironmentFailed(f"could not signal process {process.pid}", where=str(self._ref), observed=done.err.strip())
        return done.code == 0

    def _behind(self, seen: Mapping[str, Any], argv: Sequence[str], kind: str = PROCESS) -> Completed | None:
        """None: the container ended meanwhile, and every process with it."""
        if seen["HostConfig"].get("PidMode"):
            raise Unavailable(
                f"the container shares processes with {seen['HostConfig']['PidMode']}, which are not all its own",
                where=str(self._ref),
                next_step="choose Stop or PowerLoss, which act on the container as a whole",
                capability="processes",
            )
        try:
            return self._beside.doors.run(_target(seen), kind, argv)
        except EnvironmentFailed:
            if self._beside.doors.lives(_target(seen)):
                raise
            return None

    # Services

    def services(self) -> Mapping[str, bool]:
        """One: the container's first process, by the name of its compose service (else the container's)."""
        seen = self._inspect()
        return {self._service(seen): bool(seen["State"]["Running"])}

    def start_service(self, name: str) -> None:
        self._known(name)
        with calling(f"start {name}", str(self._ref), ignore=(304,)):
            if not self.powered():
                self._client.api.start(self._id)

    def stop_service(self, name: str, *, timeout_s: float = 30.0) -> None:
        """What ``docker stop`` does, with the time that the container itself asks for where that is shorter; but by us and not by the
        engine, which would go on with it whatever has become of us. Interrupted, it makes an end first: whoever puts the service back
        must not meet one that is about to stop."""
        stop_signal = str(self._known(name)["Config"].get("StopSignal") or "SIGTERM")
        within_s = min(timeout_s, self.patience_s)
        try:
            self._send(stop_signal)
            wait_for(lambda: not self.powered(), timeout_s=within_s, what=f"{name} on {self._ref} to end", interval_s=0.02)
        except BaseException as err:
            self._send("SIGKILL")
            wait_for(lambda: not self.powered(), timeout_s=15.0, what=f"the end of {name} on {self._ref}", interval_s=0.02)
            if not isinstance(err, DeadlineExceeded):
                raise

    @property
    def patience_s(self) -> int:
        """For how long the container may take to stop before it is killed."""
        own = self._inspect()["Config"].get("StopTimeout")
        return 10 if own is None else int(own)

    def _send(self, signal_name: str) -> None:
        with calling(f"send {signal_name}", str(self._ref), ignore=(404, 409)):
            self._client.api.kill(self._id, signal_name)

    # Packet filter

    def drop(self, tag: str, rules: Sequence[DropRule]) -> None:
        """Ends by itself unless it is extended. Where a peer is another node's address, all addresses of that node are meant."""
        together = [set(addresses(other["NetworkSettings"]["Networks"]).values()) for other in self._beside.others()]

        def widened(peer: str) -> set[str]:
            return {peer}.union(*(group for group in together if peer in group))

        wide = [msgspec.structs.replace(r, peers=tuple(sorted(set().union(*map(widened, r.peers))))) for r in rules]
        self._filter.drop(self._routed(), tag, wide, self._beside.deadline_s(tag))

    def undrop(self, tag: str) -> None:
        """A node that restarted holds no rules: they ended with its network stack."""
        if self.powered():
            self._filter.undrop(self._routed(), tag)

    def check_drop(self, rules: Sequence[DropRule]) -> None:
        self._filter.check(self._routed(), rules)

    def dropped(self, tag: str) -> int:
        held = self._filter.ruleset(self._routed()).held if self.powered() else {}
        return held[tag].packets if tag in held else 0

    def drops(self) -> Mapping[str, int]:
        """What the kernel holds now. 0: everything of that tag has expired; absent: also after a restart of the node."""
        if not self.powered():
            return {}
        return {held.tag: held.live for held in self._filter.ruleset(self._routed()).held.values() if held.tag != SILENCE_TAG}

    def passes(self, peer: Node) -> bool:
        """One ICMP echo per address that the two could reach, at most 0.3 s. Sent from the node's own network, be it frozen or not."""
        if not self.powered():
            return False
        candidates = self._addresses_of(peer)
        return bool(candidates) and self._beside.doors.run(self._routed(), NETWORK, ("sh", "-c", _PING, "sh", *candidates)).code == 0

    def _addresses_of(self, peer: Node) -> list[str]:
        if not isinstance(peer, AttachedNode):
            return [peer.address] if peer.address else []
        ours = addresses(self._inspect()["NetworkSettings"]["Networks"])
        theirs = addresses(peer._inspect()["NetworkSettings"]["Networks"])
        return [theirs[name] for name in ours if name in theirs]

    # Echoes

    def echoes(self, peer: Node, count: int) -> int:
        """One ping for all of them, from the node's own network, be it frozen or not."""
        candidates = self._addresses_of(peer)
        if not candidates:
            raise EnvironmentFailed(f"{peer.name} is on no network of this node's", where=str(self._ref))
        timeout_s = 10.0 + 2 * count * link.ECHO_INTERVAL_S
        done = self._beside.doors.run(self._routed(), NETWORK, link.echo_burst(candidates[0], count), timeout_s=timeout_s)
        answered = link.answered(done.out)
        if answered is None:
            raise EnvironmentFailed("ping did not say how many were answered", where=str(self._ref), observed=done.err.strip()[-300:])
        return answered

    # Limits

    def limit_cpu(self, cores: float | None) -> None:
        limits.limit(self._client, self._id, self._inspect()["HostConfig"], cores, str(self._ref))

    def cpu_limit(self) -> float | None:
        return limits.cores(self._inspect()["HostConfig"])

    def memory_limit_bytes(self) -> int | None:
        return int(self._inspect()["HostConfig"]["Memory"]) or None

    def memory_used_bytes(self) -> int:
        """As the engine measures it, without the file pages that the kernel would give up first."""
        with calling("measure the memory", str(self._ref)):
            memory = self._client.api.stats(self._id, stream=False, one_shot=True)["memory_stats"]
        details = memory.get("stats", {})
        return int(memory.get("usage", 0)) - int(details.get("total_inactive_file", details.get("inactive_file", 0)))

    def volumes(self) -> list[Volume]:
        """See :mod:`chaos.environments.docker.volumes` for what counts; none where the container has no shell to look with."""
        seen = self._inspect()
        candidates = volumes.places(seen)
        if not candidates or not seen["State"]["Running"]:
            return []
        shared = volumes.shared_places(self._client, self._id, seen, lambda _: False, str(self._ref))
        done = self._run(("sh", "-c", volumes.LOOK, "sh", *candidates), user="0")
        return [] if done.code in _NO_SHELL else [v for v in volumes.own(done.out) if v.path not in shared]

    # How

    def _inspect(self) -> dict[str, Any]:
        import docker.errors

        with calling("inspect", str(self._ref)):
            try:
                seen: dict[str, Any] = self._client.api.inspect_container(self._id)
            except docker.errors.NotFound:
                raise EnvironmentGone("the container does not exist any more", where=str(self._ref)) from None
        return seen

    def _service(self, seen: Mapping[str, Any]) -> str:
        return str((seen["Config"]["Labels"] or {}).get(SERVICE) or self.name)

    def _known(self, name: str) -> dict[str, Any]:
        seen = self._inspect()
        if name != self._service(seen):
            raise BadInput(f"no service {name!r} on {self._ref}", expected=f"{self._service(seen)}, the container's first process")
        return seen

    def _network_of_its_own(self, seen: Mapping[str, Any]) -> bool:
        mode = str(seen["HostConfig"]["NetworkMode"])
        return mode not in ("host", "none") and not mode.startswith("container:")

    def _routed(self) -> Target:
        """Its present life, behind a door. Raises Unavailable where its network is another's too, EnvironmentFailed without power."""
        seen = self._inspect()
        if not self._network_of_its_own(seen):
            raise Unavailable(
                f"the container has no network of its own (network mode {seen['HostConfig']['NetworkMode']})",
                where=str(self._ref),
                next_step="aim at the container whose network it is, or give it one",
                capability="packetfilter",
            )
        if not seen["State"]["Running"]:
            raise EnvironmentFailed("the node has no power, hence no network", where=str(self._ref), next_step="boot it first")
        return _target(seen)

    def _peers(self) -> list[AttachedNode]:
        ours = set(addresses(self._inspect()["NetworkSettings"]["Networks"]))
        peers = []
        for other in self._beside.others():
            if other["Id"] != self._id and ours & set(addresses(other["NetworkSettings"]["Networks"])):
                name = other["Names"][0].lstrip("/")
                peers.append(AttachedNode(self._beside, NodeRef(self._ref.environment, self._ref.system, name, {"container": other["Id"]})))
        return peers


def _target(seen: Mapping[str, Any]) -> Target:
    return Target(str(seen["Id"]), str(seen["State"]["StartedAt"]))


def _ours(process: Process) -> bool:
    """Our door, or what it runs: it was started from outside, and calls itself so."""
    if process.parent != 0 or process.pid == 1:
        return False
    return process.cmdline == SLEEPER or process.cmdline[:3] == ("grep", "-aH", "")
