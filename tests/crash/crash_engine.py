"""A Docker engine of a test's own: beside the machine's, with its own data, socket and process tree, without a bridge and without a single
packet rule. It can be restarted as an administrator would. No fixtures and no assertions.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from chaos.core.clock import wait_for
from chaos.core.errors import EnvironmentFailed, Unavailable
from chaos.environments.docker.attach import DockerAttach, helper
from chaos.environments.docker.attach.container import NUMBER, PROJECT, SERVICE
from chaos.environments.docker.engine import connect
from chaos.testing.places import Place

STARTS_WITHIN_S = 40.0
DEADLINE_S = 8.0
NAMES = ("a", "b", "c")
# Ends at once on SIGTERM, so that the engine need not wait when it stops.
MAIN = ["/bin/sh", "-c", 'trap "exit 0" TERM; /bin/sleep 1000000 & wait $!; exit 1']


class Engine:
    """``host`` is what ``DOCKER_HOST`` says to reach it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.host = f"unix://{directory}/sock"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Raises Unavailable where no second engine works here."""
        program = shutil.which("dockerd")
        if program is None or os.geteuid() != 0:
            raise Unavailable("a second engine needs dockerd, and root", next_step="run this test as root where Docker is installed")
        paths = {"data-root": "root", "exec-root": "exec", "pidfile": "pid"}
        argv = [program, *(f"--{option}={self._directory}/{name}" for option, name in paths.items()), f"--host={self.host}"]
        argv += ["--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-masq=false", "--ip-forward=false"]
        argv += ["--cgroup-parent=/gameday-second", "--shutdown-timeout=2"]
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        wait_for(self._answers, timeout_s=STARTS_WITHIN_S, what="the second engine", interval_s=0.1)

    def _answers(self) -> bool:
        if self._process is None or self._process.poll() is not None:
            said = (self._directory / "log").read_text(errors="replace")[-400:]
            raise Unavailable("a second engine does not start here", observed=said, next_step="see the log of dockerd")
        done = subprocess.run(["docker", "-H", self.host, "version"], capture_output=True, timeout=20, check=False)
        return done.returncode == 0

    def stop(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(STARTS_WITHIN_S)
            self._process = None

    def restart(self) -> None:
        """As ``systemctl restart docker`` does."""
        self.stop()
        self.start()

    def take_over(self, image: str) -> None:
        """Copy an image from the machine's own engine."""
        with subprocess.Popen(["docker", "save", image], stdout=subprocess.PIPE) as saved:
            done = subprocess.run(["docker", "-H", self.host, "load"], stdin=saved.stdout, capture_output=True, timeout=180, check=False)
        if done.returncode != 0:
            raise EnvironmentFailed("the second engine did not take an image", where=image, observed=done.stderr.decode()[-300:])


@contextlib.contextmanager
def second_engine(directory: Path) -> Iterator[Engine]:
    """Started, with the helper image; it, and everything in it, is gone at the end."""
    own = connect()
    try:
        image = helper.helper_image(own, "")
    finally:
        own.close()
    engine = Engine(directory)
    engine.start()
    try:
        engine.take_over(image)
        yield engine
    finally:
        engine.stop()
        _unmount(directory)
        shutil.rmtree(directory, ignore_errors=True)


def _unmount(directory: Path) -> None:
    """What a stopped engine leaves mounted below its own directory."""
    mounted = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for path in sorted((path for path in mounted if path.startswith(f"{directory}/")), reverse=True):
        subprocess.run(["umount", path], capture_output=True, timeout=10, check=False)


@contextlib.contextmanager
def three(directory: Path) -> Iterator[Place]:
    """Containers of somebody else on the engine that ``DOCKER_HOST`` names; they come back with it."""
    client = connect()
    project, made = f"gdsecond-{secrets.token_hex(4)}", list[str]()
    try:
        image = helper.helper_image(client, "")
        for name in NAMES:
            made.append(_start(client.api, project, name, image))
        environment = DockerAttach(project=project, deadline_s=DEADLINE_S)
        environment.open(run_id="second", state_dir=directory)
        found = environment.nodes()
        one, two, three = (found[name].ref for name in NAMES)
        try:
            yield Place("docker-attach", (one, two, three), environment.resolve, environment, lambda: _beside(client))
        finally:
            environment.close()
    finally:
        for container in made:
            client.api.remove_container(container, force=True, v=True)
        client.close()


def _start(api: Any, project: str, name: str, image: str) -> str:
    config = api.create_host_config(network_mode="none", restart_policy={"Name": "always"})
    labels = {PROJECT: project, SERVICE: name, NUMBER: "1"}
    container: str = api.create_container(
        image, entrypoint=MAIN, command=[], name=f"{project}-{name}-1", labels=labels, stop_signal="SIGTERM", host_config=config
    )["Id"]
    api.start(container)
    return container


def _beside(client: Any) -> list[str]:
    found = client.api.containers(all=True, filters={"label": helper.HELPER})
    return [f"{c['Names'][0].lstrip('/')} ({c['Labels'][helper.HELPER]}, {c['Status']})" for c in found]


def settled(place: Place, within_s: float) -> list[Any]:
    """The states of its nodes once two looks in a row agree and all run."""
    seen: list[Any] = []

    def agree() -> bool:
        previous, now = list(seen), place.states()
        seen[:] = now
        return previous == now and all(state["powered"] for state in now)

    wait_for(agree, timeout_s=within_s, what="the containers to be back", interval_s=0.3)
    return seen
