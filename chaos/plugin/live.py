"""The live display of a running drill on a terminal, and the log of its messages for the report. Shows; decides nothing.

It writes to the terminal as it was before pytest began to capture, and only when there is one.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from typing import TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from chaos.core.durations import format_s
from chaos.engine.progress import Progress

MESSAGES_SHOWN = 5


class MessageLog:
    """Keeps what a drill says, with its time since the drill's start. A :data:`~chaos.engine.progress.Watch`."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def __call__(self, progress: Progress) -> None:
        if progress.message:
            self._lines.append(f"{progress.elapsed_s:8.3f} s  {progress.message}")

    def text(self) -> str:
        return "\n".join(self._lines)


class LiveDisplay:
    """Phase, rates, errors and times of one drill, redrawn a few times a second. A :data:`~chaos.engine.progress.Watch`."""

    def __init__(self, terminal_fd: int) -> None:
        self._file: TextIO = os.fdopen(os.dup(terminal_fd), "w", encoding="utf-8", errors="replace")
        self._console = Console(file=self._file, force_terminal=True)
        self._lock = threading.Lock()
        self._frame: Progress | None = None
        self._messages: deque[str] = deque(maxlen=MESSAGES_SHOWN)
        self._live = Live(
            get_renderable=self._draw,
            console=self._console,
            refresh_per_second=5,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def open(self) -> None:
        """Begin to draw, on a line of its own."""
        self._console.print()
        self._live.start()

    def __call__(self, progress: Progress) -> None:
        with self._lock:
            self._frame = progress
            if progress.message:
                self._messages.append(f"{progress.elapsed_s:7.2f} s  {progress.message}")

    def close(self, last_line: str = "") -> None:
        """Take the display away, leaving ``last_line``. May be called twice."""
        if self._file.closed:
            return
        self._live.stop()
        if last_line:
            self._console.print(Text(last_line))
        self._file.close()

    def _draw(self) -> Group:
        with self._lock:
            frame, messages = self._frame, list(self._messages)
        if frame is None:
            return Group(Text("drill: getting its system ready …", style="dim"))
        times = f"{format_s(frame.elapsed_s)} elapsed"
        if frame.since_fault_s is not None:
            times += f", {format_s(frame.since_fault_s)} since the fault"
        parts: list[Text | Table] = [
            Text.assemble((frame.drill, "bold")),
            Text.assemble(("▶ ", "cyan"), (frame.phase or "starting", "bold cyan"), ("   " + times, "dim")),
        ]
        if frame.workloads:
            parts.append(self._rates(frame))
        parts.extend(Text(line, style="dim") for line in messages)
        return Group(*parts)

    @staticmethod
    def _rates(frame: Progress) -> Table:
        table = Table(box=None, pad_edge=False, header_style="dim")
        table.add_column("workload")
        for title in ("good/s", "bad/s", "good", "errors"):
            table.add_column(title, justify="right")
        for one in frame.workloads:
            bad_per_s = Text(f"{one.bad_per_s:.0f}", style="red" if one.bad_per_s else "")
            bad = Text(str(one.bad), style="red" if one.bad else "")
            table.add_row(one.name, f"{one.good_per_s:.0f}", bad_per_s, str(one.good), bad)
        return table
