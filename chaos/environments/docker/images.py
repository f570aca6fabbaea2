"""Builds a drill's images from a directory with a Dockerfile, once: the tag is a hash of what went in.

Not a registry client: images stay on the engine. Proxies and pip settings of this process reach the build as build arguments and
only where they are set, so that no host name of a machine ever stands in a file.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from chaos.core.errors import EnvironmentFailed
from chaos.environments.docker.engine import BASE_IMAGE, calling, image_present

_PASSED = (
    "PIP_INDEX_URL",
    "PIP_EXTRA_INDEX_URL",
    "PIP_TRUSTED_HOST",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
)
_DEBIAN_BUNDLE = "/etc/ssl/certs/ca-certificates.crt"


def tag_of(repository: str, context: Path, arguments: Mapping[str, str]) -> str:
    """``<repository>:<12 hex digits>`` of the directory's files (name, mode, content) and the build arguments."""
    digest = hashlib.sha256()
    for path in sorted(path for path in context.rglob("*") if path.is_file()):
        digest.update(f"{path.relative_to(context)}\0{path.stat().st_mode & 0o111}\0".encode() + path.read_bytes() + b"\0")
    for key, value in sorted(arguments.items()):
        digest.update(f"{key}={value}\0".encode())
    return f"{repository}:{digest.hexdigest()[:12]}"


def build(client: Any, repository: str, context: Path, arguments: Mapping[str, str]) -> str:
    """The tag of the image, built where the engine does not hold it yet.

    Raises:
        EnvironmentFailed: the build failed, with its last lines and what to do where the base image is what is missing.
    """
    import docker.errors

    tag = tag_of(repository, context, arguments)
    if image_present(client, tag):
        return tag
    try:
        with calling(f"build {tag}"):
            client.images.build(
                path=str(context), tag=tag, rm=True, forcerm=True, network_mode="host", buildargs={**_from_environment(), **arguments}
            )
    except EnvironmentFailed as err:
        if not isinstance(err.__cause__, docker.errors.BuildError):
            raise
        tail = "".join(str(line.get("stream") or line.get("error") or "") for line in err.__cause__.build_log)[-1500:]
        raise EnvironmentFailed(
            f"building {tag} failed",
            where=str(context / "Dockerfile"),
            observed=tail.strip(),
            next_step=f"make the base image with .ci/base-image if {BASE_IMAGE} cannot be pulled, else mend what the log says",
        ) from err
    return tag


def _from_environment() -> dict[str, str]:
    found = {name: os.environ[name] for name in _PASSED if os.environ.get(name)}
    if os.environ.get("PIP_CERT") == _DEBIAN_BUNDLE:
        found["PIP_CERT"] = _DEBIAN_BUNDLE
    return found
