"""Micro-hosts: machines made of Linux namespaces, with addresses, disks, power and silence, for any user, without a daemon.

``provider`` is the environment, ``client`` the pytest side, ``supervisor``/``serve``/``hosts`` the process that holds them, ``probe`` what
``gameday doctor`` says of this machine. Not a container runtime: hosts share the machine's file system and programs.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from chaos.environments.microhost.provider import Microhosts as Microhosts

__all__ = ["Microhosts"]


def __getattr__(name: str) -> object:
    """Loads the provider when it is asked for: the supervisor imports this package too, and has no use for it."""
    if name == "Microhosts":
        from chaos.environments.microhost.provider import Microhosts

        return Microhosts
    raise AttributeError(name)
