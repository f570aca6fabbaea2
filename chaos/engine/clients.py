"""The workloads of a drill as running processes: start them where clients live, watch them through the history, stop them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from chaos.core.clock import wait_for
from chaos.core.errors import DeadlineExceeded, EnvironmentFailed
from chaos.engine.system import System
from chaos.measure.live import Tail
from chaos.measure.worker import WorkerSpec, drain_s, worker_argv, write_spec
from chaos.measure.workload import WorkloadSpec

START_WITHIN_S = 20.0


class RunningWorkload:
    """One workload's process. ``wait_recovered`` is what a drill's test calls."""

    def __init__(self, spec: WorkloadSpec, index: int, system: System, directory: Path, wait: Callable[[RunningWorkload], bool]) -> None:
        self.spec, self.index, self._wait = spec, index, wait
        stem = directory / f"workload-{index}"
        self._log = stem.with_suffix(".log")
        worker = WorkerSpec(workload=spec, index=index, history=str(directory / "history.jsonl"))
        path = write_spec(stem.with_suffix(".json"), worker)
        self._process = system.spawn_client(worker_argv(path), log=self._log)

    @property
    def name(self) -> str:
        return self.spec.name

    def wait_recovered(self) -> bool:
        """Wait until this workload has recovered in a sustained way from the last fault (or never failed for as long), or until the
        horizon (budget + window) has passed. False in the latter case; the verdict says the same."""
        return self._wait(self)

    def wait_started(self, tail: Tail) -> None:
        """Raises EnvironmentFailed with the process' own words."""

        def look() -> bool:
            tail.poll()
            if self._process.poll() is not None:
                raise EnvironmentFailed(
                    f"the workload {self.name!r} ended at once with {self._process.poll()}", where=str(self._log), observed=self._said()
                )
            return any(counts.name == self.name and counts.good + counts.bad > 0 for counts in tail.counts())

        try:
            wait_for(look, timeout_s=START_WITHIN_S, what=f"the first operation of {self.name}", interval_s=0.01)
        except DeadlineExceeded as err:
            raise EnvironmentFailed(f"the workload {self.name!r} did not start", where=str(self._log), observed=str(err)) from err

    def ended(self) -> str:
        """Why it is not running any more; "" while it runs."""
        code = self._process.poll()
        return "" if code is None else f"workload {self.name!r} ended with {code}: {self._said()}"

    def _said(self) -> str:
        return " ".join(self._log.read_text(errors="replace")[-800:].split()) if self._log.exists() else "nothing"

    def stop(self) -> str:
        """Let what is in flight settle, then end it. Idempotent. Returns what went wrong: records that were not written are writes that
        nobody would miss."""
        if self._process.poll() is not None:
            return ""
        self._process.terminate()
        try:
            code = self._process.wait(drain_s(self.spec.timeout_s or 1.0))
        except (DeadlineExceeded, EnvironmentFailed):
            self._process.kill()
            self._process.wait(10.0)
            return f"workload {self.name!r} did not end in time and was killed: {self._said()}"
        return f"workload {self.name!r} ended with {code}: {self._said()}" if code else ""
