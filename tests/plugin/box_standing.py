"""A standing environment as another package would bring it: a place that says who it is by a file. Copied into the project under test."""

from __future__ import annotations

from pathlib import Path

from chaos.core.errors import EnvironmentGone
from chaos.core.model import Json, NodeRef
from chaos.environments.base import Node, ProbeLine


class Yard:
    """Boxes stand in it. ``sign`` is the file that says which yard it is."""

    kind, disposable = "yard", False

    def __init__(self, *, name: str, sign: str) -> None:
        self.name, self._sign = name, sign

    def doctor(self) -> list[ProbeLine]:
        return [ProbeLine("sign", True, self._sign)]

    def check(self) -> None:
        """It always works."""

    def open(self, *, run_id: str, state_dir: Path) -> None:
        """There is nothing to get ready."""

    def identity(self) -> dict[str, str]:
        return {"yard": Path(self._sign).read_text(encoding="utf-8").strip()}

    def settings(self) -> dict[str, Json]:
        return {"name": self.name, "sign": self._sign}

    def resolve(self, ref: NodeRef) -> Node:
        raise EnvironmentGone("boxes end with the process that made them", where=str(ref))

    def reclaim(self) -> list[str]:
        return []

    def dead_man(self) -> None:
        return None

    def close(self) -> None:
        """There is nothing to take down."""
