"""pytest-gameday: disaster-recovery drills as pytest suites.

The public face. What stands here, and in :mod:`chaos.testing`, is kept compatible; everything else is private. Names are
loaded when they are first used, so that importing the plugin costs next to nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from chaos.core.clock import now_ns as now_ns
    from chaos.core.clock import wait_for as wait_for
    from chaos.core.errors import BadInput as BadInput
    from chaos.core.errors import DeadlineExceeded as DeadlineExceeded
    from chaos.core.errors import EnvironmentFailed as EnvironmentFailed
    from chaos.core.errors import GamedayError as GamedayError
    from chaos.core.errors import NotHealthy as NotHealthy
    from chaos.core.errors import Unavailable as Unavailable
    from chaos.core.model import Json as Json
    from chaos.core.model import NodeRef as NodeRef
    from chaos.core.model import Verdict as Verdict
    from chaos.engine.drill import Drill as Drill
    from chaos.engine.pool import SystemPool as SystemPool
    from chaos.engine.system import System as System
    from chaos.environments.base import ClientProcess as ClientProcess
    from chaos.environments.base import DropRule as DropRule
    from chaos.environments.base import Environment as Environment
    from chaos.environments.base import Node as Node
    from chaos.faults.kill import Kill as Kill
    from chaos.faults.noop import Noop as Noop
    from chaos.faults.partition import Partition as Partition
    from chaos.faults.pause import Pause as Pause
    from chaos.faults.power_loss import PowerLoss as PowerLoss
    from chaos.faults.stop import Stop as Stop
    from chaos.measure.history import SurvivorRead as SurvivorRead
    from chaos.measure.workload import Call as Call
    from chaos.measure.workload import Refused as Refused
    from chaos.measure.workload import WorkloadSpec as WorkloadSpec

__version__ = "0.1.0"

_HOME = {
    "now_ns": "chaos.core.clock",
    "wait_for": "chaos.core.clock",
    "BadInput": "chaos.core.errors",
    "DeadlineExceeded": "chaos.core.errors",
    "EnvironmentFailed": "chaos.core.errors",
    "GamedayError": "chaos.core.errors",
    "NotHealthy": "chaos.core.errors",
    "Unavailable": "chaos.core.errors",
    "Json": "chaos.core.model",
    "NodeRef": "chaos.core.model",
    "Verdict": "chaos.core.model",
    "Drill": "chaos.engine.drill",
    "SystemPool": "chaos.engine.pool",
    "System": "chaos.engine.system",
    "ClientProcess": "chaos.environments.base",
    "DropRule": "chaos.environments.base",
    "Environment": "chaos.environments.base",
    "Node": "chaos.environments.base",
    "Kill": "chaos.faults.kill",
    "Noop": "chaos.faults.noop",
    "Partition": "chaos.faults.partition",
    "Pause": "chaos.faults.pause",
    "PowerLoss": "chaos.faults.power_loss",
    "Stop": "chaos.faults.stop",
    "SurvivorRead": "chaos.measure.history",
    "Call": "chaos.measure.workload",
    "Refused": "chaos.measure.workload",
    "WorkloadSpec": "chaos.measure.workload",
}
__all__ = ["__version__", *_HOME]


def __getattr__(name: str) -> object:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'chaos' has no attribute {name!r}")
