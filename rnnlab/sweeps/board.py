"""What a sweep shows while it runs: a live table on a terminal, a line for each job that ends elsewhere."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from rnnlab.sweeps.directory import RUNNING, count_states
from rnnlab.sweeps.ledger import OVER, Line, Story

_TOLD = (*OVER, "interrupted", "requeued")


class Board:
    """Follow a ledger and show the jobs of one sweep; launchers call `update` while they wait.

    Args:
        story: of the sweep.
        jobs: those to count.
        console: where to.
    """

    def __init__(self, story: Story, jobs: list[str], console: Console | None = None) -> None:
        self.story, self.jobs = story, jobs
        self.console = console or Console(highlight=False, soft_wrap=True)
        self._began: dict[str, float] = {}
        self._over = {job for job in jobs if story.state(job) in OVER}
        # Drawn by `update` alone: a thread that draws would not survive the forking of workers.
        self._live = (
            Live(console=self.console, auto_refresh=False, transient=True) if self.console.is_terminal else None
        )

    def __enter__(self) -> Board:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.update()
        if self._live is not None:
            self._live.stop()

    def update(self) -> list[Line]:
        """Show what the ledger says by now, and return its new lines."""
        lines = self.story.update()
        for line in lines:
            if line["state"] == "started":
                self._began[line["job"]] = time.monotonic()
            if line["state"] in OVER:
                self._over.add(line["job"])
            if line["state"] in _TOLD:
                self.console.print(self._told(line))
        if self._live is not None:
            self._live.update(self._table(), refresh=True)
        return lines

    def _told(self, line: Line) -> Text:
        seconds = f" in {line['seconds']:.1f} s" if "seconds" in line else ""
        reason = f": {line.get('error') or line['reason']}" if line.keys() & {"error", "reason"} else ""
        text = f"{len(self._over)}/{len(self.jobs)}  {line['job']} {line['state']}{seconds}{reason}"
        return Text(text, style="red" if line["state"] == "failed" else "")

    def _table(self) -> Table:
        states = count_states(self.story, self.jobs)
        told = ", ".join(f"{number} {state}" for state, number in states.items())
        table = Table(title=told, title_justify="left", box=None)
        for column in ("job", "epoch", "seconds", "process"):
            table.add_column(column, justify="left" if column == "job" else "right")
        for job in self.jobs:
            line = self.story.jobs.get(job, {})
            if line.get("state") in RUNNING:
                seconds = f"{time.monotonic() - self._began[job]:.0f}" if job in self._began else ""
                epoch = f"{line.get('epoch', 0)}/{line['epochs']}" if "epochs" in line else str(line.get("epoch", ""))
                table.add_row(job, epoch, seconds, f"{line.get('host', '')}:{line.get('pid', '')}")
        return table
