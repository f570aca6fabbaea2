"""The environment ``docker-attach``: containers that somebody else runs. Importing it loads no client library; using it does."""

from chaos.environments.docker.attach.environment import DockerAttach
from chaos.environments.docker.attach.node import AttachedNode

__all__ = ["AttachedNode", "DockerAttach"]
