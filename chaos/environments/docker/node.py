"""A container as a node: commands, power, freezing, processes, services, packet filter, all through the engine's API.

The container must come from an image of the drill kind: ``gameday-init`` as process 1 (services), coreutils, iptables, ping. No
rights on the host are needed: what touches the network stack runs inside, where the container has NET_ADMIN. A node keeps no state
of its own; everything is asked of the engine, so two objects for one container (another process, a healer) agree.
"""

from __future__ import annotations

import errno
import json
import socket
from collections.abc import Mapping, Sequence
from typing import Any

from chaos.core.clock import wait_for
from chaos.core.errors import BadInput, EnvironmentFailed
from chaos.core.model import Json, NodeRef
from chaos.environments import marks
from chaos.environments.base import Completed, DropRule, Node, Process, Volume
from chaos.environments.docker import limits, link, volumes
from chaos.environments.docker.engine import calling
from chaos.environments.docker.execute import run_in
from chaos.environments.docker.owner import PREFIX, RUN, owner_labels
from chaos.environments.docker.processes import READ_PROCESSES, SIGNAL, parse_processes
from chaos.environments.iptables import IptablesFilter, normal_form

SYSTEM = f"{PREFIX}.system"
NODE = f"{PREFIX}.node"
ADDRESS = f"{PREFIX}.address"
NETWORK = f"{PREFIX}.network"
SERVICES = f"{PREFIX}.services"
USER = f"{PREFIX}.user"
REACH = f"{PREFIX}.reach"
DIRECT, PUBLISHED = "direct", "published"

_STOP_SUPERVISED = """
p=$(head -1 "$1") && kill -INT "$p" || exit 0
n=0; while [ -d /proc/$p ] && [ $n -lt $2 ]; do n=$((n + 1)); sleep 0.05; done
[ ! -d /proc/$p ] || kill -9 $p
"""
_STOP = """
own=/run/gameday
pid() { tr -d ' {}\\n"' < $own/services | tr , '\\n' | grep "^$1:" | cut -d: -f2; }
await() { n=0; while [ "$(pid $1)" != "$2" ]; do n=$((n + 1)); [ $n -ge $3 ] && return 1; sleep 0.05; done; }
[ "$(pid $1)" = null ] && exit 0
echo "stop $1" > $own/control
await $1 null $2 && exit 0
echo "kill $1" > $own/control
await $1 null 100
"""
_START = """
own=/run/gameday
[ "$(tr -d ' {}\\n"' < $own/services | tr , '\\n' | grep "^$1:" | cut -d: -f2)" != null ] && exit 0
echo "start $1" > $own/control
n=0; while tr -d ' {}\\n"' < $own/services | tr , '\\n' | grep -q "^$1:null$"; do n=$((n + 1)); [ $n -ge 100 ] && exit 1; sleep 0.05; done
"""


class DockerNode:
    """One container seen as a machine. ``locator`` of its reference is ``{"container": <id>}``."""

    def __init__(self, client: Any, ref: NodeRef) -> None:
        self._client, self._ref = client, ref
        self._id = ref.locator["container"]
        self._labels: dict[str, str] = dict(self._inspect()["Config"]["Labels"] or {})
        self._filter = IptablesFilter(self._run_as_root, where=str(ref))

    @property
    def ref(self) -> NodeRef:
        return self._ref

    @property
    def name(self) -> str:
        return self._ref.name

    @property
    def address(self) -> str:
        return self._labels[ADDRESS]

    @property
    def container_id(self) -> str:
        return self._id

    def state(self) -> dict[str, Json]:
        """Comparable: ``powered``, ``frozen``, ``linked``, ``services``, ``links``, ``routes``, ``filter`` (rules), ``limits``."""
        seen = self._inspect()
        state: dict[str, Json] = {
            "powered": bool(seen["State"]["Running"]),
            "frozen": bool(seen["State"]["Paused"]),
            "linked": self._linked(seen),
            "limits": {**limits.of(seen["HostConfig"])},
        }
        if state["powered"] and not state["frozen"]:
            script = f"{link.LOOK}; echo --; iptables-save -t filter; echo --; " + self._services_script()
            script += "; echo --; " + volumes.state_script(seen)
            script += f"; echo --; {marks.SCRIPT}"
            links, rules, services, left, traced, marked = self._checked(("sh", "-c", script)).split("--\n")
            state |= marks.parse(marked)
            state |= volumes.disk_state(left, traced)
            state |= link.parse(links)
            state["filter"] = list(normal_form(rules))
            state["services"] = dict(self._read_services(services))
        return state

    # Exec

    def run(self, argv: Sequence[str], *, timeout_s: float = 30.0, stdin: bytes = b"", privileged: bool = False) -> Completed:
        user = "root" if privileged else self._labels.get(USER, "")
        return run_in(self._client, self._id, argv, user=user, stdin=stdin, timeout_s=timeout_s, where=str(self._ref))

    # Power

    def power_off(self) -> None:
        """First silence (the link goes; a frozen node too), then every process. Peers get no reset and no close."""
        seen = self._inspect()
        if not seen["State"]["Running"]:
            return
        if self._linked(seen):
            with calling("unplug", str(self._ref), ignore=(404,)):
                self._client.api.disconnect_container_from_network(self._id, self._labels[NETWORK], force=True)
        with calling("cut the power", str(self._ref), ignore=(409,)):
            self._client.api.kill(self._id, "SIGKILL")
        wait_for(lambda: not self.powered(), timeout_s=15.0, what=f"the processes of {self._ref} to be gone", interval_s=0.01)

    def power_on(self) -> None:
        seen = self._inspect()
        if not self._linked(seen):
            with calling("plug in", str(self._ref), ignore=(403,)):
                self._client.api.connect_container_to_network(
                    self._id, self._labels[NETWORK], ipv4_address=self.address, aliases=[self.name]
                )
        if not seen["State"]["Running"]:
            with calling("power on", str(self._ref), ignore=(304,)):
                self._client.api.start(self._id)

    def powered(self) -> bool:
        return bool(self._inspect()["State"]["Running"])

    def reachable(self) -> bool:
        """Seen from this host where it shares the containers' network (a TCP knock is answered, be it with a refusal), else by
        ping from another node of the same network."""
        seen = self._inspect()
        if not (seen["State"]["Running"] and self._linked(seen)):
            return False
        if self._labels[REACH] == DIRECT:
            return _knock(self.address)
        return self._other_node().ping(self.address)

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
        """Every process but our own reader. ``pid`` is the number inside the container's pid namespace. A node without power has
        none. Raises EnvironmentFailed on a frozen node: the engine runs nothing there."""
        if not self.powered():
            return []
        done = self._run_as_root(("sh", "-c", READ_PROCESSES), b"")
        return _parse_processes(done.out)

    def signal(self, process: Process, signal_number: int) -> bool:
        argv = ("sh", "-c", SIGNAL, "sh", str(process.pid), str(process.started), str(int(signal_number)))
        if not self.powered():
            return False
        done = self._run_as_root(argv, b"")
        if done.code not in (0, 1, 3):
            raise EnvironmentFailed(f"could not signal process {process.pid}", where=str(self._ref), observed=done.err.strip())
        return done.code == 0

    # Services

    def services(self) -> Mapping[str, bool]:
        """Boot services first, then those that a boot service supervises."""
        if not self.powered():
            return dict.fromkeys(self._service_kinds(), False)
        return self._read_services(self._checked(("sh", "-c", self._services_script())))

    def start_service(self, name: str) -> None:
        """For a supervised service: wait until its supervisor has brought it back."""
        if self._service_kinds().get(self._known(name)):
            wait_for(lambda: self.services()[name], timeout_s=30.0, what=f"{name} on {self._ref} to run", interval_s=0.1)
        elif self._run_as_root(("sh", "-c", _START, "sh", name), b"").code != 0:
            raise EnvironmentFailed(f"service {name} did not start", where=str(self._ref))

    def stop_service(self, name: str, *, timeout_s: float = 30.0) -> None:
        """A supervised service gets SIGINT (PostgreSQL's fast shutdown); its supervisor may start it again at once."""
        pid_file = self._service_kinds().get(self._known(name))
        if pid_file:
            argv = ("sh", "-c", _STOP_SUPERVISED, "sh", pid_file, str(int(timeout_s * 20)))
        else:
            argv = ("sh", "-c", _STOP, "sh", name, str(int(timeout_s * 20)))
        done = self.run(argv, timeout_s=timeout_s + 10.0, privileged=True)
        if done.code != 0:
            raise EnvironmentFailed(f"service {name} did not stop", where=str(self._ref), observed=done.err.strip())

    # Volumes

    def volumes(self) -> list[Volume]:
        """See :mod:`chaos.environments.docker.volumes` for what counts. A node without power has none that anybody could use."""
        seen = self._inspect()
        candidates = volumes.places(seen)
        if not candidates or not seen["State"]["Running"]:
            return []
        shared = volumes.shared_places(self._client, self._id, seen, _keeps, str(self._ref))
        return [v for v in volumes.own(self._checked(("sh", "-c", volumes.LOOK, "sh", *candidates))) if v.path not in shared]

    # Packet filter

    def drop(self, tag: str, rules: Sequence[DropRule]) -> None:
        self._filter.drop(tag, rules)

    def undrop(self, tag: str) -> None:
        """A node without power holds no rules: they are gone with its network stack."""
        if self.powered():
            self._filter.undrop(tag)

    def drops(self) -> Mapping[str, int]:
        return self._filter.drops() if self.powered() else {}

    def passes(self, peer: Node) -> bool:
        """One ICMP echo, at most 0.3 s. A frozen node cannot ask; its peer does, which is the same two ways."""
        if not self.powered():
            return False
        if not self.frozen():
            return self.ping(peer.address)
        if isinstance(peer, DockerNode) and peer.powered() and not peer.frozen():
            return peer.ping(self.address)
        raise EnvironmentFailed("neither end can send an echo: both are frozen", where=str(self._ref))

    def ping(self, address: str) -> bool:
        """Does one echo to ``address`` come back within 0.3 s?"""
        return self._run_as_root(("ping", "-n", "-q", "-c", "1", "-W", "0.3", address), b"").code == 0

    def check_drop(self, rules: Sequence[DropRule]) -> None:
        if any(rule.reject or rule.share != 1 for rule in rules):
            self._filter.check_drop(rules)

    def dropped(self, tag: str) -> int:
        return self._filter.dropped(tag) if self.powered() else 0

    # Echoes

    def echoes(self, peer: Node, count: int) -> int:
        """One ping for all of them. A frozen node cannot ask; its peer does, which is the same two ways."""
        if self.frozen() and isinstance(peer, DockerNode):
            return peer.echoes(self, count)
        timeout_s = 30.0 + 10 * count * link.ECHO_INTERVAL_S  # a busy machine sends more slowly than it was asked to
        done = self.run(link.echo_burst(peer.address, count), timeout_s=timeout_s, privileged=True)
        answered = link.answered(done.out)
        if answered is None:
            raise EnvironmentFailed("ping did not say how many were answered", where=str(self._ref), observed=done.err.strip()[-300:])
        return answered

    # Link

    def link_down(self) -> None:
        """From within (see :mod:`chaos.environments.docker.link`): the node's own kernel says "network is unreachable" to whoever
        sends anew; a reboot brings the link back."""
        self._checked(("sh", "-c", link.DOWN))

    def link_up(self) -> None:
        """Without power, and after a reboot, there is nothing to do."""
        if self.powered():
            self._checked(("sh", "-c", link.UP))

    def linked(self) -> bool:
        """Plugged into its network, and (where the node can still be asked) with a link that is up."""
        seen = self._inspect()
        if not (seen["State"]["Running"] and self._linked(seen)):
            return False
        return bool(seen["State"]["Paused"]) or self._run_as_root(("sh", "-c", link.LINKED), b"").code == 0

    # Sysctls

    def sysctl(self, name: str) -> str:
        return self._checked(("cat", f"/proc/sys/net/{name}")).strip()

    def set_sysctl(self, name: str, value: str) -> None:
        """Inside a container /proc/sys cannot be written. A second one in the same network namespace, made for this and gone at once,
        has it set by the engine."""
        setting = {"net." + name.replace("/", "."): value or "\n"}
        labels = owner_labels(self._labels.get(RUN, ""))
        api = self._client.api
        with calling(f"set net/{name}", str(self._ref)):
            config = api.create_host_config(network_mode=f"container:{self._id}", sysctls=setting)
            made = api.create_container(
                self._inspect()["Image"], ["-c", "exit 0"], entrypoint=["/bin/sh"], labels=labels, host_config=config
            )
            try:
                api.start(made["Id"])
            finally:
                api.remove_container(made["Id"], force=True, v=True)

    # Quotas

    def limit_cpu(self, cores: float | None) -> None:
        limits.limit(self._client, self._id, self._inspect()["HostConfig"], cores, str(self._ref))

    def cpu_limit(self) -> float | None:
        return limits.cores(self._inspect()["HostConfig"])

    def memory_limit_bytes(self) -> int | None:
        return int(self._inspect()["HostConfig"]["Memory"]) or None

    def memory_used_bytes(self) -> int:
        """Without file pages that the kernel would give up at once."""
        return limits.memory_used(self._checked(("sh", "-c", limits.MEMORY_SCRIPT)), str(self._ref))

    # For systems

    def endpoint(self, port: int) -> tuple[str, int]:
        """Host and port by which this process reaches the node's TCP ``port``: the node itself where this host shares its network,
        else the fixed port published on the loopback address.

        Raises:
            BadInput: this host does not share the network and the port was not published.
        """
        if self._labels[REACH] == DIRECT:
            return self.address, port
        published = (self._inspect()["HostConfig"]["PortBindings"] or {}).get(f"{port}/tcp")
        if not published:
            raise BadInput(f"port {port} of {self._ref} cannot be reached from here", next_step="name it in the node's ports")
        return "127.0.0.1", int(published[0]["HostPort"])

    def logs(self, lines: int = 40) -> str:
        """The last lines that process 1 and its services printed."""
        with calling("show the logs", str(self._ref)):
            raw: bytes = self._client.api.logs(self._id, tail=lines)
        return raw.decode("utf-8", "replace")

    # How

    def _inspect(self) -> dict[str, Any]:
        with calling("inspect", str(self._ref)):
            seen: dict[str, Any] = self._client.api.inspect_container(self._id)
        return seen

    def _linked(self, seen: Mapping[str, Any]) -> bool:
        return self._labels[NETWORK] in (seen["NetworkSettings"]["Networks"] or {})

    def _other_node(self) -> DockerNode:
        filters = {"label": [f"{SYSTEM}={self._labels[SYSTEM]}", f"{NETWORK}={self._labels[NETWORK]}"], "status": "running"}
        with calling("list the peers", str(self._ref)):
            peers = [c for c in self._client.api.containers(filters=filters) if c["Id"] != self._id and c["State"] == "running"]
        if not peers:
            raise EnvironmentFailed("no peer is left to look from", where=str(self._ref), expected="another running node on its network")
        labels = peers[0]["Labels"]
        return DockerNode(self._client, NodeRef(self._ref.environment, labels[SYSTEM], labels[NODE], {"container": peers[0]["Id"]}))

    def _run_as_root(self, argv: Sequence[str], stdin: bytes) -> Completed:
        return self.run(argv, stdin=stdin, privileged=True)

    def _checked(self, argv: Sequence[str]) -> str:
        done = self._run_as_root(argv, b"")
        if done.code != 0:
            raise EnvironmentFailed("looking at the node failed", where=str(self._ref), observed=(done.err or done.out).strip()[-300:])
        return done.out

    def _service_kinds(self) -> dict[str, str]:
        """Service -> "" for one that process 1 starts, else the pid file of a supervised one."""
        kinds: dict[str, str] = json.loads(self._labels.get(SERVICES, "{}"))
        return kinds

    def _known(self, name: str) -> str:
        if name not in self._service_kinds():
            raise BadInput(f"no service {name!r} on {self._ref}", expected=f"one of {', '.join(self._service_kinds()) or '(none)'}")
        return name

    def _services_script(self) -> str:
        """Prints process 1's own table, then one line ``name pid command`` per supervised service that is alive."""
        script = "n=0; while ! cat /run/gameday/services 2>/dev/null; do n=$((n+1)); [ $n -ge 100 ] && exit 1; sleep 0.02; done; echo; "
        for name, pid_file in self._service_kinds().items():
            if pid_file:
                script += f"p=$(head -1 '{pid_file}' 2>/dev/null) && [ -r /proc/$p/comm ] && echo {name} $(cat /proc/$p/comm); "
        return script + "true"

    def _read_services(self, printed: str) -> dict[str, bool]:
        table, *alive = printed.splitlines() or [""]
        try:
            boot: dict[str, int | None] = json.loads(table)
        except ValueError as err:  # read while process 1 replaced it; whoever waits looks again
            raise EnvironmentFailed(
                "the table of services is not readable now", where=str(self._ref), observed=repr(printed[:200])
            ) from err
        supervised = {line.split()[0] for line in alive if len(set(line.split())) == 1}
        return {name: name in supervised if pid_file else boot.get(name) is not None for name, pid_file in self._service_kinds().items()}


def _keeps(labels: Mapping[str, str]) -> bool:
    """Of ours, and no node: it keeps volumes (:meth:`~chaos.environments.docker.lan.Lan.keep`)."""
    return SYSTEM in labels and NODE not in labels


def _knock(address: str) -> bool:
    """Does ``address`` answer a TCP segment within 0.3 s? Port 9 is closed there, so the kernel's refusal is the answer."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as knock:
        knock.settimeout(0.3)
        try:
            return knock.connect_ex((address, 9)) in (0, errno.ECONNREFUSED)
        except TimeoutError:
            return False


def _parse_processes(printed: str) -> list[Process]:
    """All but our own reader and what it started."""
    processes = parse_processes(printed)
    own = {p.pid for p in processes if READ_PROCESSES in p.cmdline}
    return [p for p in processes if p.pid not in own and p.parent not in own]
