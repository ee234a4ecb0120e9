"""`rnnlab train`: one run; with `-m` a sweep, which sweeping.py begins."""

from __future__ import annotations

import re
from typing import Any

from rnnlab.cli import processes
from rnnlab.cli.compose import run
from rnnlab.cli.errors import UsageError
from rnnlab.cli.stopping import OutOfTime
from rnnlab.cli.words import quoted, readable

# Hydra's own settings that mean nothing here, and what to use in their place.
_NOT_HERE = {
    r"hydra\.(run\.dir|output_subdir)=": "run_dir=DIR says where a run goes",
    r"hydra\.sweep\.": "sweep_dir=DIR says where a sweep goes",
    r"(--shell-completion|-[a-z]*sc)\b": "`rnnlab completion bash` prints what completes words",
    r"--(?!(cfg|info|package|config-\w+|experimental-\w+)=)\S+=": "words have no hyphens before them; the agent of a "
    "W&B sweep leaves them out with ${args_no_hyphens}",
}
_SHOWS = ("--cfg", "-c", "--info", "-i")  # Hydra's flags that show the configuration and run nothing


def main(words: list[str]) -> int:
    """Run `rnnlab train WORDS` and return the exit code."""
    for word in words:
        for pattern, hint in _NOT_HERE.items():
            if re.match(pattern, word):
                raise UsageError(f"{word} is not for rnnlab: {hint}")
    if processes.rank() > 0:
        from rnnlab.cli.follower import follow

        return follow()
    try:
        return _first(words)
    finally:
        processes.dismiss()


def _first(words: list[str]) -> int:
    """Do the same in the first process, or the only one."""
    sweeps = any(word in ("-m", "--multirun") or word.upper() == "HYDRA.MODE=MULTIRUN" for word in words)
    if sweeps and not any(word.partition("=")[0] in _SHOWS for word in words):
        from rnnlab.cli import sweeping

        if by := processes.started_by():
            raise UsageError(f"a sweep starts the processes of its jobs itself: start it without {by}")
        return sweeping.start(words)
    for word in words:
        if re.match(r"(paths\.)?sweep_dir=|max_jobs=|retry_failed=|skip_finished=|hydra[/.]launcher[=.]", word):
            raise UsageError(f"{word} goes with -m: a single run has run_dir=DIR")
    words = sorted(
        words, key=lambda word: not re.match("--.*=", word)
    )  # argparse wants what stands behind in one piece
    run([_run_dir_override(word) if word.startswith("run_dir=") else readable(word, sweeps) for word in words], _train)
    return 0


def _train(config: dict[str, Any]) -> None:
    # Only now, so that `--cfg job` and a mistyped override do not wait for torch.
    from hydra.core.hydra_config import HydraConfig

    from rnnlab.cli import preemption
    from rnnlab.cli.fit import train

    preemption.check(config)
    try:
        train(config, given=list(HydraConfig.get().overrides.task))
    except OutOfTime:
        if config["preemption"] == "lightning":
            preemption.requeue()
        raise


def _run_dir_override(word: str) -> str:
    """Return Hydra's form of `run_dir=DIR`: a path is text, even where it could be read as more."""
    value = word.partition("=")[2]
    is_plain = value in ("", "null") or value[0] in "'\""
    return f"paths.{word}" if is_plain else quoted("paths.run_dir", value)
