"""Sweeps: `rnnlab train -m ...` begins one or goes on with it, `rnnlab sweep resume DIR` goes on."""

from __future__ import annotations

import itertools
import re
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from rnnlab.cli import options
from rnnlab.cli.compose import compose
from rnnlab.cli.errors import UsageError
from rnnlab.cli.groups import groups
from rnnlab.cli.instantiate import instantiate
from rnnlab.cli.job import run_job
from rnnlab.cli.provenance import git_state, package_versions
from rnnlab.cli.stopping import sigterm_as_interrupt
from rnnlab.cli.words import quoted, readable
from rnnlab.sweeps import directory
from rnnlab.sweeps.board import Board
from rnnlab.sweeps.jobs import Job, named
from rnnlab.sweeps.ledger import Story

# Words of a sweep that are no part of any job's configuration: where it is, and how it runs this time.
_OPTIONS = ("sweep_dir", "retry_failed")
_HOW = re.compile(r"[+~]*(hydra[./](?!searchpath)|max_jobs=)")


def main(words: list[str]) -> int:
    """Run `rnnlab sweep resume DIR ...` and return the exit code."""
    if len(words) < 2 or words[0] != "resume" or "=" in words[1]:
        raise UsageError("give `rnnlab sweep resume DIR`, the directory of a sweep")
    sweep_dir, words = Path(words[1]), words[2:]
    try:
        record = directory.read(sweep_dir)
    except ValueError as error:
        raise UsageError(str(error)) from error
    given, how = options.take(words, (), _OPTIONS[1:])
    for word in how:
        if not _HOW.match(word):
            raise UsageError(
                f"{word}: the jobs of a sweep stay as they are; max_jobs=N, hydra/launcher=NAME, hydra.launcher.KEY= "
                "and retry_failed=true may be given"
            )
    kept = [word for word in record["how"] if not any(hydra_key(word) == hydra_key(new) for new in how)]
    return _run(sweep_dir, [*kept, *how], _retry(given))


def start(words: list[str]) -> int:
    """Run `rnnlab train -m WORDS` and return the exit code: 0 if every job is finished, 1 if not.

    Raises:
        UsageError: bad input, in what all jobs have in common or in what sets them apart; nothing has been written.
    """
    command = ["rnnlab", "train", *words]
    given, words = options.take(_without_flags(words), (), _OPTIONS)
    for word in words:
        if re.match(r"(paths\.)?(run_dir|sweep_dir)=", word):
            raise UsageError("a sweep has a directory for each job: sweep_dir=DIR says where they are")
        if word.startswith("hydra.sweep.") or re.match("[+]*resume=", word):
            raise UsageError(f"{word}: sweep_dir=DIR says where a sweep is, and the same command goes on with it")
    retry = _retry(given)
    how = [word for word in words if _HOW.match(word)]
    words = [readable(word, sweeps=True) for word in words if not _HOW.match(word)]
    jobs = expand(words)
    config, hydra = compose([*jobs[0].overrides, *map(_hydra_word, how)])
    _check_choices(jobs)
    launcher = _launcher(hydra)
    threads = launcher.threads() if config["threads"] is None else None
    extra = [f"threads={threads}"] if threads else []  # the same for all of its life, so that its results are
    jobs = [job._replace(overrides=[*job.overrides, *extra]) for job in jobs]
    record = {
        "command": command,
        "words": words,
        "how": how,
        "created": datetime.now().isoformat(timespec="seconds"),
        "provenance": dict(zip(("git_commit", "git_dirty"), git_state(), strict=True), versions=package_versions()),
        "config": config,
    }
    sweep_dir = Path(given["sweep_dir"]) if "sweep_dir" in given else _fresh(config)
    try:
        directory.claim(sweep_dir, jobs, record)
    except (ValueError, OSError) as error:
        raise UsageError(str(error) if isinstance(error, ValueError) else f"sweep_dir={sweep_dir}: {error}") from error
    return _run(sweep_dir, how, retry)


def expand(words: list[str]) -> list[Job]:
    """Return the jobs that words with values of a sweep, `seed=0,1`, stand for: every combination, the last first.

    Raises:
        UsageError: a word cannot be swept over.
    """
    parts: dict[str, list[str]] = {}
    varied = set()
    try:
        for override in OverridesParser.create().parse_overrides(words):
            key = override.get_key_element()
            parts[key] = [override.input_line or ""]
            if override.is_sweep_override():
                if not override.is_discrete_sweep():
                    raise UsageError(f"{override.input_line} is a range without steps, and a sweep takes values")
                parts[key] = [f"{key}={value}" for value in override.sweep_string_iterator()]
                varied.add(key)
    except HydraException as error:
        raise UsageError(str(error)) from error
    return named(
        [
            ([word for key, word in zip(parts, chosen, strict=True) if key in varied], chosen)
            for chosen in itertools.product(*parts.values())
        ]
    )


def _without_flags(words: Sequence[str]) -> list[str]:
    """Return the words that are not flags of Hydra's, `--config-dir DIR` as the override that does the same."""
    rest, left = iter(words), []
    for word in rest:
        flag, _, value = word.partition("=")
        if flag in ("--config-dir", "-cd"):
            path = Path(value or next(rest, "")).absolute()
            if not path.is_dir():
                raise UsageError(f"{flag}: there is no folder {path}")
            left.append(f"hydra.searchpath=[{quoted('', f'file://{path}')[1:]}]")
        elif word not in ("-m", "--multirun") and word.upper() != "HYDRA.MODE=MULTIRUN":
            if word.startswith("-"):
                raise UsageError(f"{word} is not for a sweep; leave -m out to use it")
            left.append(word)
    return left


def _hydra_word(word: str) -> str:
    return word.replace("max_jobs=", "hydra.launcher.max_jobs=", 1) if word.startswith("max_jobs=") else word


def hydra_key(word: str) -> str:
    """Return the key of a word that says how a sweep runs."""
    return _hydra_word(word).lstrip("+~").partition("=")[0]


def _check_choices(jobs: Sequence[Job]) -> None:
    """Compose one job of each choice among the options of groups: what differs in values alone composes alike."""
    seen = set()
    for job in jobs:
        choice = tuple(word for word in job.overrides if word.lstrip("+~").partition("=")[0] in groups())
        if choice not in seen:
            seen.add(choice)
            compose(job.overrides)


def _launcher(hydra: dict[str, Any]) -> Any:
    """Return what runs the jobs.

    Raises:
        UsageError: it is none of ours, or refuses its settings.
    """
    config = hydra["launcher"]
    if not str(config.get("_target_")).startswith("rnnlab."):
        raise UsageError(
            f"{config.get('_target_')} is a launcher of Hydra's: rnnlab has its own, `hydra/launcher=local` and those "
            "that conf/README.md lists"
        )
    try:
        return instantiate(config)
    except ValueError as error:
        raise UsageError(str(error)) from error


def _fresh(config: dict[str, Any]) -> Path:
    """Return this second's name for a sweep, or with _2, _3 and so on, that is not taken."""
    first = Path(config["paths"]["root"]) / config["name"] / f"sweep_{datetime.now():%Y-%m-%d_%H-%M-%S}"
    names = itertools.chain([first], (first.with_name(f"{first.name}_{count}") for count in itertools.count(2)))
    return next(path for path in names if not path.exists())


def _retry(given: dict[str, str]) -> bool:
    return options.flag("retry_failed", given.get("retry_failed", "false"))


def _run(sweep_dir: Path, how: list[str], retry_failed: bool) -> int:
    """Run what is left of a sweep, and tell what became of it."""
    story = Story(sweep_dir)
    directory.settle(sweep_dir, story)
    todo = directory.unfinished(story, retry_failed)
    jobs = list(story.jobs)
    if todo:
        _, hydra = compose([*todo[0].overrides, *map(_hydra_word, how)])
        launcher = _launcher(hydra)
        board = Board(story, jobs)
        try:
            with sigterm_as_interrupt(), board:
                launcher.launch(sweep_dir, todo, run_job, board)
        except KeyboardInterrupt as stop:
            raise type(stop)(f"go on with: rnnlab sweep resume {sweep_dir}") from None
    directory.settle(sweep_dir, story)
    return _verdict(sweep_dir, story)


def _verdict(sweep_dir: Path, story: Story) -> int:
    """Print what became of the jobs, on the last lines those that are not finished, and return the exit code."""
    states = directory.count_states(story, story.jobs)
    print(f"{len(story.jobs)} jobs: {', '.join(f'{number} {state}' for state, number in states.items())}")
    print(sweep_dir)
    left = [job for job in story.jobs if story.state(job) not in ("finished", "pruned")]
    for job in left:
        line = story.jobs[job]
        reason = line.get("error") or line.get("reason") or "was not run"
        print(f"rnnlab: {job} {line['state']}: {reason}; {directory.log_path(sweep_dir, job)}", file=sys.stderr)
    return 1 if left else 0
