"""Three containers as a compose project would have left them, for ``docker-attach``: without any label of ours.

Not for tests of attaching itself (``tests/docker``): all three are alike, and each has the tools that the examples of faults need.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from chaos.environments.docker import Docker
from chaos.environments.docker.attach import DockerAttach, helper
from chaos.environments.docker.attach.container import NUMBER, PROJECT, SERVICE
from chaos.environments.docker.engine import connect
from chaos.testing.places import Place

DEADLINE_S = 4.0
# The first process ends on SIGTERM, and starts the sleeper again when that is killed: the container lives on.
_MAIN = 'trap "exit 0" TERM; {others} while :; do /bin/sleep 1000000 & wait $!; done'


@contextlib.contextmanager
def attached(directory: Path, names: Sequence[str], image: Callable[[Docker], str], others: Sequence[str]) -> Iterator[Place]:
    """``others`` are commands that run beside the sleeper. The place's own environment looks at them; victims attach anew."""
    maker = Docker()
    maker.check()
    maker.open(run_id="attached", state_dir=directory)
    client = connect()
    project = f"gdcontract-{secrets.token_hex(4)}"
    network, made = f"{project}_default", list[str]()
    try:
        tag = image(maker)
        client.api.create_network(network, labels={PROJECT: project})
        command = ["/bin/sh", "-c", _MAIN.format(others=" ".join(f"{other} &" for other in others))]
        for name in names:
            made.append(_start(client.api, project, network, name, tag, command))
        environment = DockerAttach(project=project, deadline_s=DEADLINE_S)
        environment.open(run_id="attached", state_dir=directory)
        found = environment.nodes()
        one, two, three = (found[name].ref for name in names)
        try:
            yield Place(
                "docker-attach", (one, two, three), environment.resolve, environment, lambda: beside(client, made, environment._scope())
            )
        finally:
            environment.close()
    finally:
        for container in made:
            client.api.remove_container(container, force=True, v=True)
        for left in client.api.networks(names=[network]):
            client.api.remove_network(left["Id"])
        client.close()
        maker.close()


def _start(api: Any, project: str, network: str, name: str, image: str, command: Sequence[str]) -> str:
    container: str = api.create_container(
        image,
        entrypoint=list(command),
        command=[],
        name=f"{project}-{name}-1",
        labels={PROJECT: project, SERVICE: name, NUMBER: "1"},
        stop_signal="SIGTERM",
        host_config=api.create_host_config(network_mode=network, mem_limit=256 << 20, memswap_limit=256 << 20, tmpfs={"/data": "size=1m"}),
        networking_config=api.create_networking_config({network: api.create_endpoint_config(aliases=[name])}),
    )["Id"]
    api.start(container)
    return container


def beside(client: Any, containers: Sequence[str], scope: str) -> list[str]:
    """Doors and wardens of these containers, running or not."""
    found = client.api.containers(all=True, filters={"label": helper.HELPER})
    own = [c for c in found if c["Labels"].get(helper.TARGET) in containers or c["Labels"].get(helper.SCOPE) == scope]
    return [f"{c['Names'][0].lstrip('/')} ({c['Labels'][helper.HELPER]}, {c['Status']})" for c in own]
