"""Runs one step and says what it said. Knows no budget, no order and no verdict.

A program on the machine of the drill runs as a process group of its own, and the whole group is ended where the step's time is up or the
drill is interrupted. One on a node is ended by the node's environment.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import tempfile
import time
from typing import IO

from chaos.core.errors import BadInput, DeadlineExceeded, GamedayError, Unavailable
from chaos.engine.acting import OUR_OWN, Acting, TimeIsUp, said
from chaos.engine.runbook.steps import Call, Playbook, Shell, Step, timeout_s
from chaos.environments.base import Exec, require

GRACE_S = 2.0
OUTPUT_READ_BYTES = 1 << 20


class StepFailed(Exception):
    """Why, and what the step had said by then."""

    def __init__(self, why: str, output: str = "") -> None:
        super().__init__(why)
        self.why, self.output = why, output


def execute(step: Step, acting: Acting) -> str:
    """What the step said, which is what was expected of it.

    Raises:
        StepFailed: it failed, was not done in time, or said something else.
    """
    match step:
        case Shell(node=None):
            output = _here(step, acting)
        case Shell():
            output = _on_node(step, acting)
        case Call():
            output = _call(step, acting)
        case Playbook():
            from chaos.engine.runbook.ansible import play  # an extra, and slow to load

            output = play(step, acting)
    _expected(step, output)
    return output


def _here(step: Shell, acting: Acting) -> str:
    with tempfile.TemporaryFile() as out:
        try:
            process = subprocess.Popen(
                step.argv,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                cwd=step.cwd,
                env={**os.environ, **step.env},
                start_new_session=True,
            )
        except OSError as err:
            raise StepFailed(f"it could not be started: {err}") from err
        try:
            code = acting.aside(step.name, process.wait, timeout_s=timeout_s(step), cancel=lambda: end_group(process))
        except TimeIsUp:
            raise StepFailed(f"it was ended after {timeout_s(step):g} s, its timeout", _read(out)) from None
        output = _read(out)
    if code:
        raise StepFailed(_exit_words(code), output)
    return output


def end_group(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM to the whole process group, SIGKILL to what is left of it a moment later."""
    group = process.pid
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, number)
        until = time.monotonic() + GRACE_S
        while time.monotonic() < until and _alive(group):
            process.poll()
            time.sleep(0.02)


def _alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _read(out: IO[bytes]) -> str:
    size = out.seek(0, os.SEEK_END)
    out.seek(max(0, size - OUTPUT_READ_BYTES))
    return out.read().decode("utf-8", "replace")


def _on_node(step: Shell, acting: Acting) -> str:
    assert step.node is not None
    allowed_s = timeout_s(step)
    try:
        found = acting.resolve(step.node)
        node = require(found, Exec, for_what=f"the step {step.name!r}", next_step="run it elsewhere, or do it by a Call")
        done = acting.aside(
            step.name,
            lambda: node.run(step.argv, timeout_s=allowed_s, privileged=step.privileged),
            timeout_s=allowed_s + 2 * GRACE_S,
        )
    except DeadlineExceeded as err:
        raise StepFailed(f"it was ended after {allowed_s:g} s, its timeout", err.observed) from None
    except (BadInput, Unavailable):
        raise
    except (GamedayError, OSError) as err:
        raise StepFailed(f"it could not be run on {step.node.name}: {said(err)}") from err
    output = "\n".join(filter(None, (done.out.rstrip(), done.err.rstrip())))
    if done.code:
        raise StepFailed(_exit_words(done.code), output)
    return output


def _exit_words(code: int) -> str:
    return f"it ended with {code}" if code >= 0 else f"it was ended by {signal.Signals(-code).name}"


def _call(step: Call, acting: Acting) -> str:
    try:
        found = acting.aside(step.name, step.function, timeout_s=timeout_s(step))
    except OUR_OWN:
        raise
    except Exception as err:  # whatever the function raises, the step has failed
        raise StepFailed(said(err)) from err
    if found is False:
        raise StepFailed("it returned False")
    return "" if found is None or found is True else str(found)


def _expected(step: Step, output: str) -> None:
    expect = step.expect
    if expect is None:
        return
    if isinstance(expect, str | re.Pattern):
        if not re.search(expect, output, 0 if isinstance(expect, re.Pattern) else re.MULTILINE):
            pattern = expect if isinstance(expect, str) else expect.pattern
            raise StepFailed(f"it did not say what was expected, /{pattern}/", output)
        return
    try:
        if expect(output) is False:
            raise StepFailed("what it said is not what was expected", output)
    except (StepFailed, *OUR_OWN):
        raise
    except Exception as err:  # whatever it raises, it is not met
        raise StepFailed(f"what it said is not what was expected: {said(err)}", output) from err
