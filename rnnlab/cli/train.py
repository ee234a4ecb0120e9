"""`rnnlab train`: one run, or one for each job of a sweep."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from rnnlab.cli import plugins
from rnnlab.cli.compose import run_jobs
from rnnlab.cli.errors import JobFailed, UsageError
from rnnlab.cli.main import explain, report
from rnnlab.cli.words import quoted, read, readable

# Hydra's own settings that mean nothing here, and what to use in their place.
_NOT_HERE = {
    r"hydra\.(run\.dir|output_subdir)=": "run_dir=DIR says where a run goes",
    r"(--shell-completion|-[a-z]*sc)\b": "there is no tab completion; `rnnlab train --help` lists the experiments",
}


def main(words: list[str]) -> int:
    """Run `rnnlab train WORDS` and return the exit code; in a sweep a failing job does not stop the others."""
    sweeps = any(word in ("-m", "--multirun") or word.upper() == "HYDRA.MODE=MULTIRUN" for word in words)
    for word in words:
        if sweeps and re.match(r"(paths\.)?run_dir=", word):
            raise UsageError("a sweep has a directory for each job: set paths.root=DIR instead of run_dir")
        if not sweeps and word.startswith("hydra.sweep."):
            raise UsageError(f"{word} goes with -m: a single run has run_dir=DIR")
        for pattern, hint in _NOT_HERE.items():
            if re.match(pattern, word):
                raise UsageError(f"{word} is not for rnnlab: {hint}")
    plugins.open_conf(next((read(word) for word in reversed(words) if word.startswith("plugins=")), None))
    words = [_run_dir_override(word) if word.startswith("run_dir=") else readable(word, sweeps) for word in words]
    failures = run_jobs(words, _run_one_of_many if sweeps else _run)
    if not sweeps:
        for failure in failures:
            raise failure
    return max((report(failure) for failure in failures), default=0)


def _run(config: dict[str, Any]) -> None:
    # Only now, so that `--cfg job` and a mistyped override do not wait for torch.
    from hydra.core.hydra_config import HydraConfig

    from rnnlab.cli.fit import train

    train(config, given=list(HydraConfig.get().overrides.task))


def _run_one_of_many(config: dict[str, Any]) -> None:
    """Run a job of a sweep, in its own directory.

    Raises:
        JobFailed: whatever went wrong; it is said here at once, and at the end by the process that began the sweep.
    """
    from hydra.core.hydra_config import HydraConfig

    from rnnlab.callbacks.files import is_empty

    hydra = HydraConfig.get()
    run_dir = Path(hydra.runtime.output_dir)
    config["paths"]["run_dir"] = str(run_dir)
    config["resume"] = config["resume"] and not is_empty(run_dir)  # a sweep that is resumed starts what it had not
    try:
        _run(config)
    except Exception as error:
        text, code = explain(error)
        own = " ".join(word for word in hydra.overrides.task if word not in sys.argv and not word.startswith("resume="))
        failure = JobFailed(f"job {hydra.job.num}{own and f' ({own})'} in {run_dir}: {text}", code)
        report(failure)
        raise failure from error


def _run_dir_override(word: str) -> str:
    """Return Hydra's form of `run_dir=DIR`: a path is text, even where it could be read as more."""
    value = word.partition("=")[2]
    is_plain = value in ("", "null") or value[0] in "'\""
    return f"paths.{word}" if is_plain else quoted("paths.run_dir", value)
