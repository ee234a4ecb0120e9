"""`rnnlab sweep resume DIR`: go on with a sweep or a search."""

from __future__ import annotations

from pathlib import Path

from rnnlab.cli import options, search, sweeping
from rnnlab.cli.errors import UsageError, nearest
from rnnlab.cli.job import run_job

_MAY = ("max_jobs", "code", "preemption", "hydra/launcher", *sweeping.AGAIN)


def main(words: list[str]) -> int:
    """Run `rnnlab sweep resume DIR ...` and return the exit code."""
    if len(words) < 2 or words[0] != "resume" or "=" in words[1]:
        raise UsageError("give `rnnlab sweep resume DIR`, the directory of a sweep")
    sweep_dir, words = Path(words[1]), words[2:]
    record = sweeping.read(sweep_dir)
    given, how = options.take(words, (), sweeping.AGAIN)
    for word in how:
        if not sweeping.HOW.match(word):
            raise UsageError(
                f"{word}: the jobs of a sweep stay as they are{nearest(word.partition('=')[0], _MAY)}; max_jobs=N, "
                "code=, preemption=, hydra/launcher=NAME, hydra.launcher.KEY=, retry_failed=true and "
                "skip_finished=false may be given"
            )
    how = sweeping.renewed(record["how"], how)
    if "search" in record:
        return search.resume(sweep_dir, how, sweeping.again(given))
    return sweeping.run(sweep_dir, how, sweeping.again(given), run_job)
