"""What a standing environment's owner allows, as ``gameday.toml`` says it: frozen data, one struct a table.

Decoding (with line numbers) is the plugin's (``chaos.plugin.gamedayfile``); deciding is the guard's. Nothing here reads a file or a clock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

import msgspec

Tier = Literal["development", "test", "staging", "production"]
Duration: TypeAlias = "str | int | float"
Share: TypeAlias = "int | str"
"""How many of them: a number, or ``"34%"``."""
Sha256 = Annotated[str, msgspec.Meta(pattern="^([0-9a-f]{64})?$")]
Text = Annotated[str, msgspec.Meta(min_length=1)]


class Allow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``allow``: what is not listed is refused. ``faults`` are kinds; ``nodes`` globs over node names; ``labels`` must all stand on the
    node with these values. Where both ``nodes`` and ``labels`` are given, a node must satisfy both."""

    faults: tuple[Text, ...] = ()
    nodes: tuple[Text, ...] = ()
    labels: dict[str, str] = {}


class Caps(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``caps``: how much may be down at once, counted over all open faults of all runs and over what is down already.

    ``per_role`` and ``per_zone`` map globs of roles and zones to a number or share of *their* members. ``min_healthy_replicas`` counts
    the members whose role is ``replica``.
    """

    max_unavailable: Share = 1
    per_role: dict[str, Share] = {}
    per_zone: dict[str, Share] = {}
    min_healthy_replicas: Annotated[int, msgspec.Meta(ge=0)] = 0


class FreezeWindow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One of ``freeze``: no drill from each moment that ``cron`` names, for ``duration``. ``timezone`` is an IANA name."""

    cron: Text
    duration: Duration
    timezone: Text = "UTC"
    reason: str = ""


class HttpStop(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Stop where a GET of ``http`` does not answer with ``expect_status``, and with ``expect_text`` somewhere in its body."""

    http: Text
    expect_status: int = 200
    expect_text: str = ""
    name: str = ""
    poll: Duration = "2s"
    timeout: Duration = "2s"


class PrometheusStop(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Stop where any sample of the instant ``query`` is ``above`` or ``below`` a number. No sample at all counts as unreadable."""

    prometheus: Text
    query: Text
    above: float | None = None
    below: float | None = None
    name: str = ""
    poll: Duration = "5s"
    timeout: Duration = "2s"


class CloudWatchStop(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Stop where the alarm is in the state ALARM. INSUFFICIENT_DATA, or no such alarm, counts as unreadable."""

    cloudwatch_alarm: Text
    region: Text
    profile: str = ""
    name: str = ""
    poll: Duration = "5s"
    timeout: Duration = "5s"


class ProbeStop(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Stop where the function says so: it returns the reason as text, or ``True``; ``""``, ``False`` and ``None`` mean "go on".

    ``probe`` is ``package.module:function``, or ``path/to/file.py::function`` relative to ``gameday.toml``; ``params`` are its keyword
    arguments.
    """

    probe: Text
    params: dict[str, object] = {}
    name: str = ""
    poll: Duration = "2s"
    timeout: Duration = "2s"


StopCondition: TypeAlias = HttpStop | PrometheusStop | CloudWatchStop | ProbeStop
if TYPE_CHECKING:
    Conditions: TypeAlias = tuple[StopCondition, ...]
else:
    Conditions = tuple[object, ...]  # which kind each is tells its first key, and that no decoder of msgspec can express
CONDITIONS: dict[str, type[HttpStop] | type[PrometheusStop] | type[CloudWatchStop] | type[ProbeStop]] = {
    "http": HttpStop,
    "prometheus": PrometheusStop,
    "cloudwatch_alarm": CloudWatchStop,
    "probe": ProbeStop,
}
"""The key that tells which kind of condition a table is."""


class LeaseSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``lease``: ``ttl`` is how long it holds without a heartbeat (renewed every third of it); ``wait`` how long a drill waits for
    another *run* to let go (workers of one run always take turns)."""

    ttl: Duration = "60s"
    wait: Duration = "0s"


class KillSwitch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``kill_switch``: places beside the standard ones. ``file`` is relative to ``gameday.toml``; ``env`` names a variable."""

    file: str = ""
    env: str = ""


class StandingEnvironment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[environments.NAME]``: a place that exists whether or not a drill runs.

    ``identity`` pins it: what :meth:`chaos.environments.base.Environment.identity` says of the real thing must be the same.
    ``approver`` (who may approve) and ``second_key_sha256`` are for ``tier = "production"``. ``settings`` are keyword arguments of the
    provider.
    """

    kind: Text
    identity: Text | dict[str, str]
    tier: Tier = "staging"
    description: str = ""
    settings: dict[str, object] = {}
    allow: Allow = Allow()
    caps: Caps = Caps()
    freeze: tuple[FreezeWindow, ...] = ()
    stop_when: Conditions = ()
    lease: LeaseSettings = LeaseSettings()
    approver: Text | tuple[Text, ...] = ()
    second_key_sha256: Sha256 = ""
    kill_switch: KillSwitch = KillSwitch()

    @property
    def approvers(self) -> tuple[str, ...]:
        return (self.approver,) if isinstance(self.approver, str) else self.approver

    @property
    def pinned(self) -> dict[str, str]:
        """The identity as a table; one word alone stands for the only part that there is."""
        return {"": self.identity} if isinstance(self.identity, str) else self.identity


def condition_name(condition: StopCondition) -> str:
    """What people call it: its name, or what it looks at (an address without what may be secret in it)."""
    if condition.name:
        return condition.name
    if isinstance(condition, HttpStop):
        return f"http {without_secrets(condition.http)}"
    if isinstance(condition, PrometheusStop):
        return f"prometheus {condition.query}"
    if isinstance(condition, CloudWatchStop):
        return f"alarm {condition.cloudwatch_alarm} in {condition.region}"
    return f"probe {condition.probe}"


def without_secrets(url: str) -> str:
    """An address without user, password, query and fragment."""
    scheme, separator, rest = url.partition("://")
    place = rest.partition("?")[0].partition("#")[0]
    host, slash, path = place.partition("/")
    return f"{scheme}{separator}{host.rpartition('@')[2]}{slash}{path}"
