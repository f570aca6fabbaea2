"""An environment as another package would bring it: the machine that we are on. Copied into the project under test."""

from __future__ import annotations

from pathlib import Path

from chaos.core.errors import EnvironmentGone
from chaos.core.model import Json, NodeRef
from chaos.environments.base import Node, ProbeLine


class Here:
    """Nothing to make and nothing to take down."""

    name, kind, disposable = "here", "here", True

    def doctor(self) -> list[ProbeLine]:
        return [ProbeLine("here", True, "we are here")]

    def check(self) -> None:
        """It always works."""

    def open(self, *, run_id: str, state_dir: Path) -> None:
        """There is nothing to get ready."""

    def identity(self) -> dict[str, str]:
        return {"place": "here"}

    def settings(self) -> dict[str, Json]:
        return {}

    def resolve(self, ref: NodeRef) -> Node:
        raise EnvironmentGone("boxes end with the process that made them", where=str(ref))

    def reclaim(self) -> list[str]:
        return []

    def dead_man(self) -> None:
        return None

    def close(self) -> None:
        """There is nothing to take down."""
