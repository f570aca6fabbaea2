"""The helper image and the programs that run in it: where they are, how the image is built. Starts nothing."""

from __future__ import annotations

from importlib.resources import as_file, files
from typing import Any

from chaos.core.errors import Unavailable
from chaos.environments.docker import images
from chaos.environments.docker.engine import image_present
from chaos.environments.docker.owner import PREFIX

REPOSITORY = "pytest-gameday/helper"
HELPER = f"{PREFIX}.attach"
SCOPE = f"{PREFIX}.attach.scope"
OWNER = f"{PREFIX}.attach.owner"
TARGET = f"{PREFIX}.attach.target"
STARTED = f"{PREFIX}.attach.started"
"""Labels of every container of ours. None is a label by which disposable systems are swept: a warden must outlive its run."""

_PACKAGE = "chaos.environments.docker.attach"


def script(name: str) -> str:
    """The text of a shipped shell script."""
    return (files(_PACKAGE) / "scripts" / f"{name}.sh").read_text(encoding="utf-8")


def helper_image(client: Any, wanted: str) -> str:
    """``wanted`` where it is given, else our own, built where the engine does not hold it yet.

    Raises:
        Unavailable: the engine does not hold ``wanted``; EnvironmentFailed: the build failed.
    """
    if not wanted:
        with as_file(files(_PACKAGE) / "helper") as context:
            return images.build(client, REPOSITORY, context, {})
    if not image_present(client, wanted):
        raise Unavailable(f"the helper image {wanted} is not on the engine", next_step=f"docker pull {wanted}, or leave helper_image out")
    return wanted


def helper_present(client: Any, wanted: str) -> bool:
    """Would :func:`helper_image` return without building?"""
    with as_file(files(_PACKAGE) / "helper") as context:
        return image_present(client, wanted or images.tag_of(REPOSITORY, context, {}))
