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
    from chaos.core.errors import CheckFailed as CheckFailed
    from chaos.core.errors import DeadlineExceeded as DeadlineExceeded
    from chaos.core.errors import EnvironmentFailed as EnvironmentFailed
    from chaos.core.errors import GamedayError as GamedayError
    from chaos.core.errors import NotHealthy as NotHealthy
    from chaos.core.errors import RunbookFailed as RunbookFailed
    from chaos.core.errors import Unavailable as Unavailable
    from chaos.core.model import Json as Json
    from chaos.core.model import NodeRef as NodeRef
    from chaos.core.model import Verdict as Verdict
    from chaos.engine.drill import Drill as Drill
    from chaos.engine.pool import SystemPool as SystemPool
    from chaos.engine.runbook.steps import Phase as Phase
    from chaos.engine.runbook.steps import Playbook as Playbook
    from chaos.engine.runbook.steps import Runbook as Runbook
    from chaos.engine.runbook.steps import Shell as Shell
    from chaos.engine.system import System as System
    from chaos.environments.base import ClientProcess as ClientProcess
    from chaos.environments.base import DropRule as DropRule
    from chaos.environments.base import Environment as Environment
    from chaos.environments.base import Node as Node
    from chaos.faults.bandwidth import Bandwidth as Bandwidth
    from chaos.faults.clock_skew import ClockSkew as ClockSkew
    from chaos.faults.composition import Repeat as Repeat
    from chaos.faults.composition import Sequence as Sequence
    from chaos.faults.composition import Together as Together
    from chaos.faults.connection_reset import ConnectionReset as ConnectionReset
    from chaos.faults.corrupt_file import CorruptFile as CorruptFile
    from chaos.faults.cpu_limit import CpuLimit as CpuLimit
    from chaos.faults.cpu_stress import CpuStress as CpuStress
    from chaos.faults.crash_loop import CrashLoop as CrashLoop
    from chaos.faults.disk_errors import DiskErrors as DiskErrors
    from chaos.faults.disk_fill import DiskFill as DiskFill
    from chaos.faults.dns_failure import DnsFailure as DnsFailure
    from chaos.faults.fd_exhaustion import FdExhaustion as FdExhaustion
    from chaos.faults.half_open import HalfOpen as HalfOpen
    from chaos.faults.inode_exhaustion import InodeExhaustion as InodeExhaustion
    from chaos.faults.kill import Kill as Kill
    from chaos.faults.latency import Latency as Latency
    from chaos.faults.link_down import LinkDown as LinkDown
    from chaos.faults.memory_pressure import MemoryPressure as MemoryPressure
    from chaos.faults.monotonic_skew import MonotonicSkew as MonotonicSkew
    from chaos.faults.noop import Noop as Noop
    from chaos.faults.packet_loss import PacketLoss as PacketLoss
    from chaos.faults.partition import Partition as Partition
    from chaos.faults.pause import Pause as Pause
    from chaos.faults.port_exhaustion import PortExhaustion as PortExhaustion
    from chaos.faults.power_loss import PowerLoss as PowerLoss
    from chaos.faults.read_only_filesystem import ReadOnlyFilesystem as ReadOnlyFilesystem
    from chaos.faults.replication_stop import ReplicationStop as ReplicationStop
    from chaos.faults.restart import Restart as Restart
    from chaos.faults.slow_close import SlowClose as SlowClose
    from chaos.faults.slow_disk import SlowDisk as SlowDisk
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
    "CheckFailed": "chaos.core.errors",
    "RunbookFailed": "chaos.core.errors",
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
    "Phase": "chaos.engine.runbook.steps",
    "Playbook": "chaos.engine.runbook.steps",
    "Runbook": "chaos.engine.runbook.steps",
    "Shell": "chaos.engine.runbook.steps",
    "System": "chaos.engine.system",
    "ClientProcess": "chaos.environments.base",
    "DropRule": "chaos.environments.base",
    "Environment": "chaos.environments.base",
    "Node": "chaos.environments.base",
    "CorruptFile": "chaos.faults.corrupt_file",
    "DiskErrors": "chaos.faults.disk_errors",
    "DiskFill": "chaos.faults.disk_fill",
    "InodeExhaustion": "chaos.faults.inode_exhaustion",
    "Kill": "chaos.faults.kill",
    "MonotonicSkew": "chaos.faults.monotonic_skew",
    "Noop": "chaos.faults.noop",
    "ConnectionReset": "chaos.faults.connection_reset",
    "LinkDown": "chaos.faults.link_down",
    "PacketLoss": "chaos.faults.packet_loss",
    "Bandwidth": "chaos.faults.bandwidth",
    "DnsFailure": "chaos.faults.dns_failure",
    "HalfOpen": "chaos.faults.half_open",
    "Latency": "chaos.faults.latency",
    "PortExhaustion": "chaos.faults.port_exhaustion",
    "SlowClose": "chaos.faults.slow_close",
    "Partition": "chaos.faults.partition",
    "Pause": "chaos.faults.pause",
    "PowerLoss": "chaos.faults.power_loss",
    "ReadOnlyFilesystem": "chaos.faults.read_only_filesystem",
    "SlowDisk": "chaos.faults.slow_disk",
    "Stop": "chaos.faults.stop",
    "ClockSkew": "chaos.faults.clock_skew",
    "CpuLimit": "chaos.faults.cpu_limit",
    "CpuStress": "chaos.faults.cpu_stress",
    "CrashLoop": "chaos.faults.crash_loop",
    "FdExhaustion": "chaos.faults.fd_exhaustion",
    "MemoryPressure": "chaos.faults.memory_pressure",
    "ReplicationStop": "chaos.faults.replication_stop",
    "Restart": "chaos.faults.restart",
    "Repeat": "chaos.faults.composition",
    "Sequence": "chaos.faults.composition",
    "Together": "chaos.faults.composition",
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
