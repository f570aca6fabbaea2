"""What a provider of a standing environment may offer the guard besides :class:`~chaos.environments.base.Environment`. All optional.

Each is a protocol of its own, found by ``isinstance``: a provider that lacks one gets the guard's own way (files on this machine), one
that has it makes the promise hold for every machine that reaches the environment.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from chaos.core.model import Undo
from chaos.environments.base import Environment


class LeaseStore(Protocol):
    """Holds one small record. Both calls raise :class:`~chaos.core.errors.GamedayError` or OSError where the store cannot be reached."""

    @property
    def where(self) -> str:
        """What a person looks at."""
        ...

    def read(self) -> bytes | None: ...
    def swap(self, old: bytes | None, new: bytes | None) -> bool:
        """Atomically: where the record is ``old`` (None: there is none), make it ``new`` (None: remove it). False where it is not."""
        ...


@runtime_checkable
class HoldsLease(Protocol):
    """The environment itself keeps the lease, so that machines without a common disk cannot both drill on it."""

    def lease_store(self) -> LeaseStore: ...


@runtime_checkable
class HoldsStop(Protocol):
    """The environment has a kill switch of its own: an object that anybody who may administer it can make."""

    def stop_requested(self) -> str:
        """The reason why drills must stop, or "". In a thread of its own; at most 1.5 s, since drills must learn of it within 2 s."""
        ...

    def request_stop(self, reason: str) -> None: ...
    def clear_stop(self) -> None:
        """A no-op where there is none."""
        ...


@runtime_checkable
class PermitsUndo(Protocol):
    """Knows beforehand whether it may put a fault back (credentials, roles, a helper that must be installed)."""

    def permit_undo(self, undo: Undo) -> None:
        """Changes nothing. Raises BadInput or Unavailable that names the permission that is missing and how to grant it."""
        ...


@runtime_checkable
class Pinned(Protocol):
    """Says which parts of ``identity()`` pin it (the others are for the report only). Without this all of them do."""

    @property
    def identity_keys(self) -> tuple[str, ...]: ...


@runtime_checkable
class Placed(Protocol):
    """A node that says where it belongs. ``labels`` are those that its administrator gave it."""

    @property
    def role(self) -> str: ...
    @property
    def zone(self) -> str: ...
    @property
    def labels(self) -> dict[str, str]: ...


def pinned_identity(environment: Environment) -> dict[str, str]:
    """The part of its identity that pins it."""
    identity = environment.identity()
    return {key: identity[key] for key in environment.identity_keys} if isinstance(environment, Pinned) else identity
