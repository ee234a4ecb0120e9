"""Sweeps of `rnnlab train -m ...` and `rnnlab search ...`: what their words say, and running them."""

from __future__ import annotations

import itertools
import re
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from rnnlab.cli import options, snapshot
from rnnlab.cli.compose import compose
from rnnlab.cli.errors import UsageError
from rnnlab.cli.groups import groups
from rnnlab.cli.instantiate import instantiate
from rnnlab.cli.job import run_job
from rnnlab.cli.provenance import git_state, package_versions
from rnnlab.cli.stopping import signals_as_interrupt
from rnnlab.cli.words import quoted, readable
from rnnlab.sweeps import directory
from rnnlab.sweeps.batch import Batch
from rnnlab.sweeps.board import Board
from rnnlab.sweeps.jobs import Job, Refused, named
from rnnlab.sweeps.ledger import Story
from rnnlab.sweeps.local import RunJob

# Words of a sweep that are no part of any job's configuration: where it is, and how it runs this time.
AGAIN = ("retry_failed", "skip_finished")
_LIMITS = ("max_jobs", "n_jobs", "array_parallelism")  # what launchers call that which is `max_jobs=N` to all
HOW = re.compile(r"[+~]*(hydra[./](?!searchpath)|(max_jobs|code|preemption)=)")


class Plan(NamedTuple):
    """What the words of a sweep say.

    Attributes:
        words: of its jobs.
        how: how it runs, this time.
        sweep_dir: where it is to be; None for a fresh directory.
        again: states of jobs that have ended and are to be run again.
        command: all of it, as typed.
    """

    words: list[str]
    how: list[str]
    sweep_dir: Path | None
    again: set[str]
    command: list[str]


def start(words: list[str]) -> int:
    """Run `rnnlab train -m WORDS` and return the exit code: 0 if every job is finished, 1 if not.

    Raises:
        UsageError: bad input, in what all jobs have in common or in what sets them apart; nothing has been written.
    """
    plan = parse(["train", *words])
    plan = plan._replace(words=[readable(word, sweeps=True) for word in plan.words])
    jobs = expand(plan.words)
    config, hydra = compose_first(jobs[0].overrides, plan.how)
    _check_choices(jobs)
    return run(claim(plan, jobs, config, hydra), plan.how, plan.again, run_job)


def compose_first(words: list[str], how: list[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the configuration of a job, and Hydra's part with what says how the sweep runs."""
    given = [_hydra_word(word) for word in how]
    limits = [word for word in given if word.startswith("hydra.launcher.max_jobs=")]
    config, hydra = compose([*words, *(word for word in given if word not in limits)])
    if not limits:
        return config, hydra
    own = next((name for name in _LIMITS if name in hydra["launcher"]), "max_jobs")
    return compose(
        [*words, *(re.sub(r"^hydra\.launcher\.max_jobs=", f"hydra.launcher.{own}=", word) for word in given)]
    )


def parse(words: list[str]) -> Plan:
    """Return what the words of a command say, its verb the first of them.

    Raises:
        UsageError: one of them means nothing in a sweep.
    """
    given, rest = options.take(without_flags(words[1:]), (), ("sweep_dir", *AGAIN))
    for word in rest:
        if re.match(r"(paths\.)?(run_dir|sweep_dir)=", word):
            raise UsageError("a sweep has a directory for each job: sweep_dir=DIR says where they are")
        if word.startswith("hydra.sweep.") or re.match("[+]*resume=", word):
            raise UsageError(f"{word}: sweep_dir=DIR says where a sweep is, and the same command goes on with it")
    how = [word for word in rest if HOW.match(word)]
    sweep_dir = Path(given["sweep_dir"]) if "sweep_dir" in given else None
    rest = [word for word in rest if not HOW.match(word)]
    return Plan(rest, how, sweep_dir, again(given), ["rnnlab", *words])


def claim(
    plan: Plan, jobs: Sequence[Job], config: dict[str, Any], hydra: dict[str, Any], more: dict[str, Any] | None = None
) -> Path:
    """Make the directory of a sweep, or find that it is there, and return it.

    Args:
        plan: what was asked for.
        jobs: all of them.
        config: of the first one.
        hydra: its part for Hydra.
        more: to keep in sweep.yaml.

    Raises:
        UsageError: the launcher cannot be made, or the directory is another's; nothing has been written.
    """
    threads = _launcher(hydra).threads() if config["threads"] is None else None
    extra = [f"threads={threads}"] if threads else []  # the same for all of its life, so that its results are
    record = {
        "command": plan.command,
        "words": plan.words,
        "how": plan.how,
        "created": datetime.now().isoformat(timespec="seconds"),
        "provenance": dict(zip(("git_commit", "git_dirty"), git_state(), strict=True), versions=package_versions()),
        **(more or {}),
        "config": config,
    }
    sweep_dir = plan.sweep_dir or _fresh(config)
    try:
        directory.claim(sweep_dir, [job._replace(overrides=[*job.overrides, *extra]) for job in jobs], record)
    except (ValueError, OSError) as error:
        raise UsageError(str(error) if isinstance(error, ValueError) else f"sweep_dir={sweep_dir}: {error}") from error
    return sweep_dir


def read(sweep_dir: Path) -> dict[str, Any]:
    """Return the record of a sweep.

    Raises:
        UsageError: there is none.
    """
    try:
        return directory.read(sweep_dir)
    except ValueError as error:
        raise UsageError(str(error)) from error


def expand(words: list[str]) -> list[Job]:
    """Return the jobs that words with values of a sweep, `seed=0,1`, stand for: every combination, the last first.

    Raises:
        UsageError: a word cannot be swept over, or has a value twice.
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
    for values in parts.values():
        if twice := [word for number, word in enumerate(values) if word in values[:number]]:
            raise UsageError(f"{twice[0]} is among the values of this sweep twice: its jobs would be the same")
    return named(
        [
            ([word for key, word in zip(parts, chosen, strict=True) if key in varied], chosen)
            for chosen in itertools.product(*parts.values())
        ]
    )


def without_flags(words: Sequence[str]) -> list[str]:
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
                raise UsageError(f"{word} is for a single run: `rnnlab train` without -m")
            left.append(word)
    return left


def _hydra_word(word: str) -> str:
    return word if word.lstrip("+~").startswith("hydra") else f"hydra.launcher.{word}"


def renewed(former: Sequence[str], new: Sequence[str]) -> list[str]:
    """Return what says how a sweep runs, renewed: another launcher has other settings."""
    keys = {hydra_key(word) for word in new}
    if "hydra/launcher" in keys:
        keys |= {hydra_key(word) for word in former if hydra_key(word).startswith("hydra.launcher.")}
    return [*(word for word in former if hydra_key(word) not in keys), *new]


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
        launcher = instantiate(config)
    except ValueError as error:
        raise UsageError(str(error)) from error
    if isinstance(launcher, Batch) and launcher.code == "clean":
        snapshot.check_clean()
    return launcher


def _fresh(config: dict[str, Any]) -> Path:
    """Return this second's name for a sweep, or with _2, _3 and so on, that is not taken."""
    first = Path(config["paths"]["root"]) / config["name"] / f"sweep_{datetime.now():%Y-%m-%d_%H-%M-%S}"
    names = itertools.chain([first], (first.with_name(f"{first.name}_{count}") for count in itertools.count(2)))
    return next(path for path in names if not path.exists())


def again(given: dict[str, str]) -> set[str]:
    """Return the states of jobs that have ended and are to be run again: none, unless the words say so."""
    retries = options.flag("retry_failed", given.get("retry_failed", "false"))
    skips = options.flag("skip_finished", given.get("skip_finished", "true"))
    return {state for state, wanted in (("failed", retries), ("finished", not skips)) if wanted}


def run(sweep_dir: Path, how: list[str], again: set[str], run_one: RunJob) -> int:
    """Run what is left of a sweep, tell what became of it, and return the exit code.

    Args:
        sweep_dir: the sweep.
        how: words of Hydra's that say how it runs.
        again: states of jobs that have ended and are to be run again.
        run_one: what runs one job.
    """
    story = Story(sweep_dir)
    jobs = list(story.jobs)
    # What words say of a launcher is wrong whatever is left to run, and before runs are set aside.
    launcher = _launcher(compose_first(story.jobs[jobs[0]]["overrides"], how)[1]) if jobs else None
    directory.settle(sweep_dir, story)
    if todo := directory.take_up(story, again):
        assert launcher is not None
        if isinstance(launcher, Batch) and launcher.code != "live":
            launcher.code_dir = snapshot.take(sweep_dir)
        board = Board(story, jobs)
        try:
            with signals_as_interrupt(), board:
                launcher.launch(sweep_dir, todo, run_one, board)
        except Refused as error:
            raise UsageError(f"{error}; go on with: rnnlab sweep resume {sweep_dir}") from error
        except KeyboardInterrupt as stop:
            raise type(stop)("; ".join([*stop.args, f"go on with: rnnlab sweep resume {sweep_dir}"])) from None
    directory.settle(sweep_dir, story)
    return _verdict(sweep_dir, story)


def _verdict(sweep_dir: Path, story: Story) -> int:
    """Print what became of the jobs, on the last lines those that are not finished, and return the exit code."""
    states = directory.count_states(story, story.jobs)
    noun = "job" if len(story.jobs) == 1 else "jobs"
    print(f"{len(story.jobs)} {noun}: {', '.join(f'{number} {state}' for state, number in states.items())}")
    print(sweep_dir)
    left = [job for job in story.jobs if story.state(job) not in ("finished", "pruned")]
    for job in left:
        line = story.jobs[job]
        reason = line.get("error") or line.get("reason") or "was not run"
        print(f"rnnlab: {job} {line['state']}: {reason}; {directory.log_path(sweep_dir, job)}", file=sys.stderr)
    return 1 if left else 0
