"""The environment ``docker``. Importing it loads no client library; opening the environment does."""

from chaos.environments.docker.environment import Docker
from chaos.environments.docker.lan import Lan, NodeSpec, Service
from chaos.environments.docker.node import DockerNode

__all__ = ["Docker", "DockerNode", "Lan", "NodeSpec", "Service"]
