"""Containers as a compose project would have left them, for tests that attach to them. They bear no label of ours, and hold no tool."""

from __future__ import annotations

import io
import ipaddress
import secrets
import tarfile
from typing import Any

from chaos.environments.docker.engine import connect

IMAGE = "debian:bookworm-slim"
BARE = "pytest-gameday/test-bare:1"
# A server that accepts and keeps every connection; Perl is in every Debian.
LISTEN = [
    "perl",
    "-MIO::Socket::INET",
    "-e",
    "$s = IO::Socket::INET->new(LocalPort => 8080, Listen => 9) or die; push @c, $_ while $_ = $s->accept",
]
_BARE = f"""
FROM {IMAGE}
RUN mkdir /bare && cp --parents $(ldd /bin/sleep | grep -o '/[^ ]*') /bin/sleep /bare
FROM scratch
COPY --from=0 /bare /
"""


class Project:
    """A project with two networks: ``db`` (on both, with aliases and, on the second, a fixed address), ``web-1`` and ``web-2`` (scaled; the
    first restarts always, the second has half a processor and 256 MB), ``bare`` (a program and nothing else)."""

    def __init__(self) -> None:
        self.name = f"gdtest-{secrets.token_hex(4)}"
        self.client = connect()
        self.api = self.client.api
        self.containers: dict[str, str] = {}
        self._networks: list[str] = []

    def up(self) -> Project:
        front = self._network("default", None)
        probe = self._network("probe", None)
        subnet = ipaddress.IPv4Network(self.api.inspect_network(probe)["IPAM"]["Config"][0]["Subnet"])
        self.api.remove_network(self._networks.pop())
        self.fixed = str(subnet.network_address + 77)
        back = self._network("back", subnet)
        self.start("db", "db", 1, {front: {"aliases": ["primary", "db"]}, back: {"aliases": ["store"], "ipv4_address": self.fixed}})
        self.start("web-1", "web", 1, {front: {"aliases": ["web"]}}, restart_policy={"Name": "always"})
        self.start("web-2", "web", 2, {front: {}, back: {}}, nano_cpus=500_000_000, mem_limit=256 << 20, memswap_limit=256 << 20)
        self._bare_image()
        self.start("bare", "bare", 1, {front: {}}, image=BARE, command=["/bin/sleep", "100000"])
        return self

    def start(
        self,
        key: str,
        service: str,
        number: int,
        networks: dict[str, dict[str, Any]],
        *,
        image: str = IMAGE,
        command: Any = LISTEN,
        stop_timeout_s: int = 1,
        **host: Any,
    ) -> str:
        api = self.api
        first, *more = networks
        labels = {
            "com.docker.compose.project": self.name,
            "com.docker.compose.service": service,
            "com.docker.compose.container-number": str(number),
        }
        made = api.create_container(
            image,
            entrypoint=command,
            command=[],
            name=f"{self.name}-{service}-{number}",
            labels=labels,
            stop_signal="SIGTERM",
            stop_timeout=stop_timeout_s,
            host_config=api.create_host_config(network_mode=first, **host),
            networking_config=api.create_networking_config({first: api.create_endpoint_config(**networks[first])}),
        )["Id"]
        self.containers[key] = made
        for network in more:
            api.connect_container_to_network(made, network, **networks[network])
        api.start(made)
        return str(made)

    def _network(self, name: str, subnet: ipaddress.IPv4Network | None) -> str:
        from docker.types import IPAMConfig, IPAMPool

        full = f"{self.name}_{name}"
        ipam = None if subnet is None else IPAMConfig(pool_configs=[IPAMPool(subnet=str(subnet))])
        self.api.create_network(full, ipam=ipam, labels={"com.docker.compose.project": self.name})
        self._networks.append(full)
        return full

    def _bare_image(self) -> None:
        if self.client.images.list(name=BARE):
            return
        context = io.BytesIO()
        with tarfile.open(fileobj=context, mode="w") as tar:
            member = tarfile.TarInfo("Dockerfile")
            member.size = len(_BARE.encode())
            tar.addfile(member, io.BytesIO(_BARE.encode()))
        context.seek(0)
        self.client.images.build(fileobj=context, custom_context=True, tag=BARE, rm=True, forcerm=True)

    def ours(self) -> list[str]:
        """Containers that pytest-gameday has put beside these, running or not."""
        targets = set(self.containers.values())
        found = self.api.containers(all=True, filters={"label": "org.pytest-gameday.attach"})
        scopes = {
            c["Labels"]["org.pytest-gameday.attach.scope"] for c in found if c["Labels"].get("org.pytest-gameday.attach.target") in targets
        }
        return [c["Names"][0] for c in found if c["Labels"]["org.pytest-gameday.attach.scope"] in scopes | {self.scope}]

    scope = ""

    def down(self) -> None:
        for container in self.containers.values():
            self.client.api.remove_container(container, force=True, v=True)
        for network in self._networks:
            self.api.remove_network(network)
        self.client.close()
