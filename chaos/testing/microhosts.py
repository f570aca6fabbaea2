"""A place that is there wherever namespaces are: three micro-hosts with a sleeping service each, made in a tenth of a second."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from chaos.core.model import NodeRef
from chaos.environments.microhost.client import MicroHost, Sandbox
from chaos.environments.microhost.protocol import ServiceSpec
from chaos.environments.microhost.provider import Microhosts
from chaos.testing.places import Place, Three

NAMES = ("a", "b", "c")
# The process that is killed is not the service itself: the service ends a moment after it.
SLEEPER = ServiceSpec("sleeper", ("/bin/sh", "-c", "/bin/sleep 1000000; exit 1"))


@contextlib.contextmanager
def micro_hosts(directory: Path, services: Sequence[ServiceSpec] = (SLEEPER,), *, disk_bytes: int = 1 << 20) -> Iterator[Place]:
    """Three micro-hosts, named a, b and c.

    Raises:
        Unavailable: micro-hosts do not work here, with the fix.
    """
    environment = Microhosts()
    environment.open(run_id="testing", state_dir=directory)
    try:
        sandbox = environment.sandbox("testing")
        hosts = [sandbox.add(name, disk_bytes=disk_bytes, services=list(services)) for name in NAMES]
        yield place_of(environment, sandbox, [host.ref for host in hosts])
    finally:
        environment.close()


def place_of(environment: Microhosts, sandbox: Sandbox, refs: Sequence[NodeRef]) -> Place:
    """Three hosts of a sandbox as a place. Each look makes a new object, as another process would."""
    one, two, three = refs
    found: Three = (one, two, three)
    return Place("embedded", found, lambda ref: MicroHost(sandbox, ref.name), environment)
