"""A network of nodes on a Docker engine: one per system, with addresses that survive a node's restart.

It starts and removes containers, through testcontainers; what a started one can do is in ``node``. Everything it makes bears the
owner's labels. Where this host has the network's gateway address (an engine on this very machine) clients talk to the nodes
directly and so see what a peer would see: silence when power is lost. Elsewhere (Docker Desktop, a remote engine) the named ports
are published on 127.0.0.1; there a proxy stands between, and it refuses when a node has lost its power.
"""

from __future__ import annotations

import ipaddress
import json
import secrets
import socket
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec

from chaos.core.errors import BadInput, EnvironmentFailed
from chaos.core.model import NodeRef
from chaos.environments.docker import node as labels_of
from chaos.environments.docker.engine import calling
from chaos.environments.docker.node import DIRECT, PUBLISHED, DockerNode
from chaos.environments.docker.owner import PREFIX, owner_labels

_LAN = f"{PREFIX}.lan"
_FIRST_HOST = 10
_ATTEMPTS = 8
_LEAST_FILES = 4096


class Service(msgspec.Struct, frozen=True):
    """A program that process 1 starts as ``user`` when the node boots."""

    argv: tuple[str, ...]
    user: str = "root"


class NodeSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A node to be started.

    ``supervised`` maps programs that a service keeps running to their pid files (the process has the program's name). ``data`` are paths
    that survive a restart, with the users that own them: volumes on the engine's disk, or, where ``disk_bytes`` is set, in memory
    with that size (see :meth:`Lan.keep`). ``user`` runs unprivileged commands. ``ports`` are those that clients use.
    """

    name: str
    image: str
    role: str = ""
    zone: str = ""
    services: Mapping[str, Service] = {}
    supervised: Mapping[str, str] = {}
    env: Mapping[str, str] = {}
    data: Mapping[str, str] = {}
    disk_bytes: int | None = None
    user: str = "root"
    ports: tuple[int, ...] = ()
    memory_bytes: int = 1 << 30
    shm_bytes: int = 128 << 20


class Lan:
    """The network of one system and the nodes on it."""

    def __init__(self, client: Any, *, environment: str, system: str, run_id: str, reach: str = "auto") -> None:
        self._client, self._environment, self.system = client, environment, system
        self._unique = f"gameday-{system}-{secrets.token_hex(4)}"
        self._labels = {**owner_labels(run_id), labels_of.SYSTEM: system, _LAN: self._unique}
        self._addresses: dict[str, str] = {}
        self._nodes: dict[str, DockerNode] = {}
        self._kept: set[str] = set()
        self._subnet = self._create_network()
        gateway = str(self._subnet.network_address + 1)
        local = str(client.api.base_url).startswith("http+docker://") and host_has_address(gateway)
        self.reach = (DIRECT if local else PUBLISHED) if reach == "auto" else reach

    @property
    def nodes(self) -> Mapping[str, DockerNode]:
        return dict(self._nodes)

    def address(self, name: str) -> str:
        """The address that the node ``name`` has, or will have when it is started."""
        if name not in self._addresses:
            self._addresses[name] = str(self._subnet.network_address + _FIRST_HOST + len(self._addresses))
        return self._addresses[name]

    def keep(self, specs: Sequence[NodeSpec]) -> None:
        """Hold the in-memory disks of these nodes, so that they outlive a power loss: the engine empties such a volume when nobody has it
        mounted. This takes one more container, which is no node. Must come before the nodes are started."""
        kept = [(spec, path) for spec in specs if spec.disk_bytes for path in spec.data]
        if not kept:
            return
        container = self._plain_container("keeper", kept[0][0].image, {}, {})
        for number, (spec, path) in enumerate(kept):
            container.with_volume_mapping(self._volume(spec, path), f"/kept/{number}", "rw")
        container.with_kwargs(labels=self._labels, network="none")
        self._start_container(container, "keeper")
        self._kept.update(spec.name for spec, _ in kept)

    def start(self, spec: NodeSpec) -> DockerNode:
        """Make the container and start it. Its services have been started too, but need not be ready.

        Raises:
            EnvironmentFailed: the engine refused; nothing half-made stays behind.
        """
        if spec.disk_bytes and spec.data and spec.name not in self._kept:
            raise BadInput(f"nobody keeps the disk of {spec.name}", where=self.system, next_step="call keep before start")
        for attempt in range(_ATTEMPTS):
            published = {port: _free_port() for port in spec.ports} if self.reach == PUBLISHED else {}
            container = self._container(spec, published)
            try:
                self._start_container(container, spec.name)
                break
            except EnvironmentFailed as err:
                if not _port_was_taken(err.observed) or attempt + 1 == _ATTEMPTS:
                    raise
        ref = NodeRef(self._environment, self.system, spec.name, {"container": container.get_container_id()})
        node = DockerNode(self._client, ref)
        self._nodes[spec.name] = node
        return node

    def start_all(self, specs: Sequence[NodeSpec]) -> list[DockerNode]:
        """Start several at once. Where one fails the others are left for ``close``."""
        for spec in specs:
            self.address(spec.name)
        with ThreadPoolExecutor(max(1, len(specs))) as pool:
            return list(pool.map(self.start, specs))

    def close(self) -> None:
        """Kill and remove the nodes (at once), their volumes and the network. Safe to repeat."""
        from chaos.environments.docker.sweep import remove_labelled

        remove_labelled(self._client, lambda labels: labels.get(_LAN) == self._unique)
        self._nodes.clear()

    def _plain_container(self, name: str, image: str, services: Mapping[str, Service], owners: Mapping[str, str]) -> Any:
        from testcontainers.core.container import DockerContainer

        booted = {service: {"argv": list(program.argv), "user": program.user} for service, program in services.items()}
        container = DockerContainer(image).with_name(f"{self._unique}-{name}")
        container.with_env("GAMEDAY_SERVICES", json.dumps(booted))
        return container.with_env("GAMEDAY_OWNERS", json.dumps(dict(owners)))

    def _start_container(self, container: Any, name: str) -> None:
        """Start it; where that fails, remove what was created."""
        try:
            with calling(f"start {name}", f"{self._environment}/{self.system}"):
                container.start()
        except BaseException:
            self._discard(container)
            raise
        finally:
            container.get_docker_client().client.close()

    def _container(self, spec: NodeSpec, published: Mapping[int, int]) -> Any:
        from docker.types import EndpointConfig

        own = {
            labels_of.NODE: spec.name,
            labels_of.ADDRESS: self.address(spec.name),
            labels_of.NETWORK: self._unique,
            labels_of.USER: spec.user,
            labels_of.REACH: self.reach,
            labels_of.SERVICES: json.dumps({**dict.fromkeys(spec.services, ""), **spec.supervised}),
            f"{PREFIX}.role": spec.role,
            f"{PREFIX}.zone": spec.zone,
        }
        container = self._plain_container(spec.name, spec.image, spec.services, spec.data)
        for key, value in spec.env.items():
            container.with_env(key, value)
        for port, host_port in published.items():
            container.ports[f"{port}/tcp"] = ("127.0.0.1", host_port)
        for path in spec.data:
            container.with_volume_mapping(self._volume(spec, path), path, "rw")
        endpoint = EndpointConfig(self._client.api.api_version, aliases=[spec.name], ipv4_address=self.address(spec.name))
        return container.with_kwargs(
            labels={**self._labels, **own},
            hostname=spec.name,
            network=self._unique,
            networking_config={self._unique: endpoint},
            cap_add=["NET_ADMIN"],
            shm_size=spec.shm_bytes,
            mem_limit=spec.memory_bytes,
            dns_opt=["timeout:1", "attempts:1"],
            stop_signal="SIGTERM",
        )

    def _volume(self, spec: NodeSpec, path: str) -> str:
        """A volume of the engine's (made once): it survives a restart of its container, and needs no directory that an ordinary user
        could not remove again."""
        from testcontainers.core.labels import create_labels

        name = f"{self._unique}-{spec.name}-{list(spec.data).index(path)}"
        options = _in_memory(spec.disk_bytes) if spec.disk_bytes else None
        with calling("make a volume", self.system):
            self._client.api.create_volume(name, driver="local", driver_opts=options, labels=create_labels("", self._labels))
        return name

    def _discard(self, container: Any) -> None:
        """A failed start leaves a created container behind."""
        with calling("remove a container that did not start", ignore=(404, 409)):
            self._client.api.remove_container(container._name, force=True, v=True)

    def _create_network(self) -> ipaddress.IPv4Network:
        """Fixed addresses need a subnet that was asked for by name. The engine picks a free one, which is then asked for; another
        process may be faster in between, so this is tried several times."""
        from docker.types import IPAMConfig, IPAMPool
        from testcontainers.core.network import Network

        refused = ""
        for _ in range(_ATTEMPTS):
            with calling("make a network", self.system):
                probe = self._client.api.create_network(f"{self._unique}-probe", labels=self._labels)
                pool = self._client.api.inspect_network(probe["Id"])["IPAM"]["Config"][0]
                self._client.api.remove_network(probe["Id"])
            subnet = ipaddress.IPv4Network(pool["Subnet"])
            ipam = IPAMConfig(pool_configs=[IPAMPool(subnet=str(subnet), gateway=str(subnet.network_address + 1))])
            network = Network(docker_network_kw={"labels": self._labels, "ipam": ipam})
            network.name = self._unique
            try:
                with calling("make a network", self.system):
                    network.create()
                return subnet
            except EnvironmentFailed as err:
                if "overlap" not in err.observed:
                    raise
                refused = err.observed
            finally:
                network._docker.client.close()
        raise EnvironmentFailed("no free subnet was to be had", where=self.system, observed=refused, next_step="docker network prune")


def _in_memory(size_bytes: int) -> dict[str, str]:
    """As many files as it has pages, so that a node can run out of them; the kernel's own limit grows with the host's memory."""
    return {"type": "tmpfs", "device": "tmpfs", "o": f"size={size_bytes},nr_inodes={max(_LEAST_FILES, size_bytes // 4096)}"}


def host_has_address(address: str) -> bool:
    """Is ``address`` one of this machine's own?"""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return True


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _port_was_taken(text: str) -> bool:
    return "port is already allocated" in text or "address already in use" in text
