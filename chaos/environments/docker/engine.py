"""The connection to a Docker engine: one client, its errors as ours, and what the engine can do. It makes no container.

The client libraries are imported here and only inside functions: loading this module costs nothing and needs neither of them.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from typing import Any

from chaos.core.errors import EnvironmentFailed, Unavailable

CALL_TIMEOUT_S = 60.0
BASE_IMAGE = "debian:bookworm-slim"
_DEFAULT_HOST = "unix:///var/run/docker.sock"


def connect(timeout_s: float = CALL_TIMEOUT_S) -> Any:
    """A client of the engine that testcontainers would use too (``DOCKER_HOST``, context, default socket).

    Raises:
        Unavailable: no client library, no engine, or no permission; with the exact fix.
    """
    try:
        import docker.errors
        from testcontainers.core.docker_client import DockerClient, get_docker_host
    except ImportError as err:
        raise Unavailable(
            "the docker environment needs the packages docker and testcontainers",
            observed=str(err),
            next_step="pip install -e '.[docker]' in a checkout of pytest-gameday (or: pip install docker testcontainers)",
        ) from None
    try:
        _knock(get_docker_host() or _DEFAULT_HOST)
        client = DockerClient(timeout=timeout_s).client
        client.ping()
    except (docker.errors.DockerException, OSError) as err:
        raise Unavailable("no Docker engine answers", observed=_short(err), next_step=_fix_for(err)) from None
    return client


@contextlib.contextmanager
def calling(what: str, where: str = "", *, ignore: tuple[int, ...] = ()) -> Iterator[None]:
    """Turn the client's errors into :class:`EnvironmentFailed`. HTTP statuses in ``ignore`` are what was wanted anyway (404 for a
    removal, say), and end the block silently."""
    import docker.errors
    import requests

    try:
        yield
    except docker.errors.APIError as err:
        if err.response is not None and err.response.status_code in ignore:
            return
        raise EnvironmentFailed(f"the Docker engine refused to {what}", where=where, observed=_short(err)) from err
    except (docker.errors.DockerException, requests.RequestException) as err:
        raise EnvironmentFailed(f"the Docker engine failed to {what}", where=where, observed=_short(err)) from err


def image_present(client: Any, image: str) -> bool:
    """Does the engine hold ``image``?"""
    import docker.errors

    try:
        client.images.get(image)
    except docker.errors.ImageNotFound:
        return False
    return True


def container_exists(client: Any, container: str) -> bool:
    """Does the engine know ``container``, running or not? Raises EnvironmentFailed where it does not say."""
    import docker.errors

    with calling("look a container up"):
        try:
            client.api.inspect_container(container)
        except docker.errors.NotFound:
            return False
    return True


def image_pullable(image: str, timeout_s: float = 4.0) -> bool:
    """Can the engine reach the registry of ``image`` and find it there? Decided within ``timeout_s``; pulls nothing."""
    import docker.errors
    import requests

    client = connect(timeout_s)
    try:
        client.api.inspect_distribution(image)
    except (docker.errors.DockerException, requests.RequestException):
        return False
    finally:
        client.close()
    return True


def _knock(host: str) -> None:
    """Raises OSError where ``host`` is a Unix socket that nobody listens on: the client library would leak a socket finding out."""
    if host.startswith("unix://"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as knock:
            try:
                knock.connect(host.removeprefix("unix://"))
            except OSError as err:
                raise type(err)(err.errno, err.strerror, host) from None


def _short(err: BaseException) -> str:
    text = str(getattr(err, "explanation", None) or err)
    return text.splitlines()[0][:300] if text else type(err).__name__


def _fix_for(err: BaseException) -> str:
    text = f"{type(err).__name__} {err}"
    if "Permission denied" in text or "PermissionError" in text:
        return "add yourself to the group docker (sudo usermod -aG docker $USER), then log in again"
    if "FileNotFoundError" in text or "No such file" in text:
        return "install an engine (apt-get install docker.io) and start it (sudo systemctl start docker), or set DOCKER_HOST"
    return "start the engine (sudo systemctl start docker), or set DOCKER_HOST to one that answers"
