"""What the engine keeps for everybody who drills on its containers: the lease, and the kill switch. No container of theirs is touched.

The **lease** is a container that is never started, ``gameday-lease-<scope>-<n>``, with the record in a label. Its name is what makes a
swap atomic: the engine gives each name once. A renewal makes number n + 1 and removes n. The **kill switch** is a volume of the fixed
name ``gameday-stop``, which anybody who may use the engine can make by hand: ``docker volume create gameday-stop``.
"""

from __future__ import annotations

import base64
from typing import Any

from chaos.environments.docker.attach import helper
from chaos.environments.docker.engine import CALL_TIMEOUT_S, calling, connect
from chaos.environments.docker.owner import PREFIX, maker_labels

LEASE = f"{PREFIX}.lease"
RECORD = f"{PREFIX}.lease.record"
STOP = "gameday-stop"
REASON = f"{PREFIX}.stop.reason"
STOP_WITHIN_S = 1.5
_TAKEN, _GONE = 409, 404


class EngineLease:
    """Implements :class:`~chaos.environments.standing.LeaseStore` for one scope. Raises EnvironmentFailed where the engine does not answer.

    Of two that swap the same record at once, the engine lets one have the name. Where the record was removed and made anew meanwhile the
    names differ, so whoever has made one looks again: if there is another than the one that it replaced, it takes its own back. Both may;
    never do both stay.
    """

    def __init__(self, image: str, scope: str) -> None:
        self._image, self._scope, self._connection = image, scope, _Own(CALL_TIMEOUT_S)
        self._prefix = f"gameday-lease-{scope}-"

    @property
    def where(self) -> str:
        return f"the Docker engine's containers {self._prefix}*"

    def read(self) -> bytes | None:
        found = self._numbered()
        return _record(found[max(found)]) if found else None

    def swap(self, old: bytes | None, new: bytes | None) -> bool:
        found = self._numbered()
        number = max(found, default=0)
        if (_record(found[number]) if found else None) != old:
            return False
        if new is not None:
            made = self._make(number + 1, new)
            if not made:
                return False
            if set(self._numbered()) - set(found) != {number + 1}:
                self._remove(made)
                return False
        for container in found.values():
            self._remove(container["Id"])
        return True

    @property
    def _api(self) -> Any:
        return self._connection.api

    def _numbered(self) -> dict[int, dict[str, Any]]:
        with calling("list leases", self.where):
            found = self._api.containers(all=True, filters={"label": [f"{LEASE}={self._scope}"]})
        names = {one["Names"][0].lstrip("/").removeprefix(self._prefix): one for one in found}
        return {int(number): one for number, one in names.items() if number.isdigit()}

    def _make(self, number: int, record: bytes) -> str:
        """Its id; "" where somebody else has that name."""
        # By its scope and its maker it is swept where the maker is dead, as every helper that was never started.
        ours = {helper.HELPER: "lease", helper.SCOPE: self._scope, **maker_labels()}
        labels = {**ours, LEASE: self._scope, RECORD: base64.b64encode(record).decode()}
        with calling("write the lease", self.where, ignore=(_TAKEN,)):
            made = self._api.create_container(
                self._image,
                entrypoint=["/bin/true"],
                command=[],
                name=f"{self._prefix}{number}",
                labels=labels,
                network_disabled=True,
            )
            return str(made["Id"])
        return ""

    def _remove(self, container: str) -> None:
        with calling("remove a lease", self.where, ignore=(_GONE, _TAKEN)):
            self._api.remove_container(container, force=True, v=True)


class EngineStop:
    """The kill switch of one engine."""

    def __init__(self) -> None:
        self._connection = _Own(STOP_WITHIN_S)

    def requested(self) -> str:
        """Raises EnvironmentFailed or Unavailable where the engine does not answer within :data:`STOP_WITHIN_S`."""
        with calling("look for the kill switch", STOP, ignore=(_GONE,)):
            volume = self._api.inspect_volume(STOP)
            reason = str((volume.get("Labels") or {}).get(REASON, ""))
            return f"the volume {STOP} is there" + (f": {reason}" if reason else "")
        return ""

    def request(self, reason: str) -> None:
        with calling("make the kill switch", STOP):
            self._api.create_volume(STOP, labels={REASON: reason})

    def clear(self) -> None:
        with calling("remove the kill switch", STOP, ignore=(_GONE,)):
            self._api.remove_volume(STOP)

    def close(self) -> None:
        self._connection.close()

    @property
    def _api(self) -> Any:
        return self._connection.api


class _Own:
    """A connection of its own: the thread that renews or looks is not the one that drills."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._client: Any = None

    @property
    def api(self) -> Any:
        if self._client is None:
            self._client = connect(self._timeout_s)
        return self._client.api

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None


def _record(container: dict[str, Any]) -> bytes:
    return base64.b64decode(container["Labels"].get(RECORD, ""))
