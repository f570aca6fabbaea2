"""Runbooks: an ordered list of steps that a drill executes, times, and stops at the first that fails.

::

    drill.run(Runbook("failover", (
        Phase("assess", (Shell("ping the standby", ["ping", "-c1", "10.66.0.3"]),), budget="30s"),
        Phase("promote", (Shell("promote", "pg_ctl promote -D /data", node=standby, expect="promoting"),), budget="5m"),
    )))

What a step is stands in :mod:`chaos.engine.runbook.steps`; how it is run is nobody else's affair.
"""

from chaos.core.acts import PhaseOutcome, RunbookOutcome, StepOutcome
from chaos.engine.runbook.steps import Call, Phase, Playbook, Runbook, Shell, Step

__all__ = ["Call", "Phase", "PhaseOutcome", "Playbook", "Runbook", "RunbookOutcome", "Shell", "Step", "StepOutcome"]
