"""The file of a part: rows that are there stay, and what hung is not tried again.

Beside NAME.json, NAME.running says which arm of which row is running. A run that finds such a file was preceded by one
that was killed in that arm: most likely it hung, so that arm is left out of that row, and the file says so.
"""

import faulthandler
import json
import os
import sys
from pathlib import Path
from typing import Any

from rnnlab_kernels.bench.arms import COMPILED
from rnnlab_kernels.bench.work import Work

# Numbers of one file are comparable: these are the same for all of them.
FIXED = ("device", "torch", "triton", "cuDNN", "threads", "commit", "changed files", "rounds")
# Seconds an arm of a GPU may run without a sign of life, compiling included; then the process ends.
PATIENCE, PATIENCE_COMPILED = 90.0, 400.0


def write(file: Path, content: dict[str, Any]) -> None:
    """Write JSON so that a kill leaves the old file or the new one."""
    beside = file.with_suffix(".new")
    beside.write_text(json.dumps(content, indent=1), encoding="utf-8")
    os.replace(beside, file)


class Part:
    """The rows of a part that are measured, as in its file.

    Attributes:
        data: what the file holds: about the machine, rows, and what was running when a run was cut short.
        seen: verdicts of this process, see `gate.check`.
        different: in words, why its rows cannot stand beside new ones; "" if they can.
    """

    def __init__(self, name: str, folder: Path, about: dict[str, str], watch: bool) -> None:
        self.name, self.file, self.watch = name, folder / f"{name}.json", watch
        self.marker = folder / f"{name}.running"
        self.data: dict[str, Any] = {"about": about, "rows": [], "cut short": []}
        self.seen: dict[Any, Any] = {}
        self.different = ""
        if self.file.exists():
            self.data = json.loads(self.file.read_text(encoding="utf-8"))
            old = self.data["about"]
            changes = [
                f"{key} {old.get(key)} then, {about.get(key)} now" for key in FIXED if old.get(key) != about.get(key)
            ]
            self.different = ", ".join(changes)
        if self.marker.exists() and not self.different:
            last = json.loads(self.marker.read_text(encoding="utf-8"))
            print(f"{name}: {last['arm']} was running when a run ended, and is left out there: {last['work']}")
            self.data["cut short"].append(last)
            write(self.file, self.data)
            self.marker.unlink()

    def has(self, work: Work) -> bool:
        """Return whether the row is there."""
        return work._asdict() in [row["work"] for row in self.data["rows"]]

    def without(self, work: Work) -> dict[str, str]:
        """Return the arms to leave out of a row, with the reason."""
        own = [last["arm"] for last in self.data["cut short"] if last["work"] == work._asdict()]
        return dict.fromkeys(own, "was running when an earlier run was cut short")

    def note(self, work: Work, arm: str) -> None:
        """Say what runs now, and end the process if it hangs: a kernel that waits for ever cannot be interrupted."""
        if self.watch:
            write(self.marker, {"work": work._asdict(), "arm": arm})
            faulthandler.dump_traceback_later(PATIENCE_COMPILED if arm in COMPILED else PATIENCE, exit=True)

    def done(self) -> None:
        """Say that nothing runs."""
        if self.watch:
            faulthandler.cancel_dump_traceback_later()
            self.marker.unlink(missing_ok=True)

    def add(self, row: dict[str, Any]) -> None:
        """Write a row."""
        self.data["rows"].append(row)
        write(self.file, self.data)

    def refuse(self) -> None:
        """Say why no row can be added."""
        print(
            f"{self.name}: its numbers are of another kind ({self.different}): delete {self.file}, or --out",
            file=sys.stderr,
        )
