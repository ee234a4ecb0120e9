"""`rnnlab search`: trials of a configuration, chosen by Optuna, as jobs of a sweep."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, Override, RangeSweep
from hydra.errors import HydraException

from rnnlab.cli import plugins, sweeping, trial
from rnnlab.cli.compose import flatten, override, plugins_of
from rnnlab.cli.errors import UsageError, nearest
from rnnlab.cli.groups import groups, searches
from rnnlab.cli.words import last, read, readable
from rnnlab.sweeps import ledger, study
from rnnlab.sweeps.jobs import Job
from rnnlab.sweeps.ledger import Story

_EXPERIMENT = "best"


def main(words: list[str]) -> int:
    """Run `rnnlab search WORDS` and return the exit code.

    Raises:
        UsageError: bad input; nothing has been written.
    """
    plan = sweeping.parse(["search", *words])
    search, fixed, space = _settings(plan.words)
    config, hydra = sweeping.compose_first(fixed, plan.how)
    # A key of the space that is none is refused here, and not by every trial.
    sweeping.compose_first([*fixed, *study.words_of(study.corner(space))], plan.how)
    search = {**search, **_metric(search, config), "seed": config["seed"], "space": space}
    _check(search)
    name = len(str(search["trials"] - 1))
    jobs = [Job(f"trial={number:0{name}d}", fixed) for number in range(search["trials"])]
    first = _first(search, config, hydra) if search.pop("first") else None
    parts = {key: part._asdict() for key, part in space.items()}
    record = {**search, "space": parts, "first": first, "fixed": fixed}
    sweep_dir = sweeping.claim(plan, jobs, config, hydra, {"search": record})
    return resume(sweep_dir, plan.how, plan.again)


def resume(sweep_dir: Path, how: list[str], again: set[str]) -> int:
    """Run the trials of a search that are not over, tell and draw what was found, and return the exit code."""
    search, story = sweeping.read(sweep_dir)["search"], Story(sweep_dir)
    if again:
        raise UsageError(f"a trial that has {' or '.join(sorted(again))} is part of what its study knows: it stays so")
    try:
        opened = study.open_study(sweep_dir, search)
        if not opened.get_trials(deepcopy=False):
            if story.attempts:
                raise UsageError(
                    f"{search['storage'] or sweep_dir / study.JOURNAL} has lost the trials of {sweep_dir}, "
                    f"{len(story.attempts)} of which were begun; bring back a copy, or search anew elsewhere"
                )
            if search["first"] is not None:
                with ledger.exclusive(sweep_dir):  # another launcher may begin at the same time
                    if not opened.get_trials(deepcopy=False):
                        opened.enqueue_trial(search["first"])
        trial.settle(sweep_dir, search, story)
    except ValueError as error:
        raise UsageError(str(error)) from error
    code = sweeping.run(sweep_dir, how, again, trial.run_trial)
    _finish(sweep_dir, search)
    return code


def _finish(sweep_dir: Path, search: dict[str, Any]) -> None:
    """Write the best configuration as an experiment, and tell and draw what was found."""
    from rnnlab.analysis.search import draw_search
    from rnnlab.callbacks.console import console
    from rnnlab.callbacks.figures import write_png
    from rnnlab.callbacks.files import write_text

    trial.settle(sweep_dir, search, Story(sweep_dir))
    opened = study.open_study(sweep_dir, search)
    trials = study.tried(opened)
    best = study.best(trials, search["mode"])
    if best is None:
        console.print("no trial is complete", markup=False)
        return
    figure = draw_search(trials, study.importances(opened), search["metric"], search["mode"])
    write_png(sweep_dir / "search.png", figure)
    path = sweep_dir / "conf" / "experiment" / f"{_EXPERIMENT}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, _experiment(sweep_dir, search, best))
    states = [one.state for one in trials]
    told = ", ".join(f"{states.count(state)} {state}" for state in ("complete", "pruned", "fail") if state in states)
    told = f"{told}; best {search['metric']} {best.value:.6g} of {best.job}: {' '.join(best.words)}"
    console.print(told, markup=False)
    first = next((one for one in trials if one.number == 0 and one.state == "complete"), None)
    if first is not None and search["first"]:
        console.print(f"the configuration as it is: {first.value:.6g}", markup=False)
    folder = shlex.quote(str(sweep_dir / "conf"))
    also = "".join(f" {shlex.quote(word)}" for word in _beside(search["fixed"]))
    console.print(f"train it: rnnlab train --config-dir {folder} experiment={_EXPERIMENT}{also}", markup=False)


def _settings(words: list[str]) -> tuple[dict[str, Any], list[str], study.Space]:
    """Return the settings of a search, the words of all trials, and the space."""
    name, known = last(words, "search"), _searches(words)
    if name is None:
        raise UsageError(f"missing search=...: one of {', '.join(known)}, or a file of yours in conf/search")
    if name not in known:
        raise UsageError(f"no search is called '{name}'{nearest(name, known)}; there are {', '.join(known)}")
    settings = yaml.safe_load(known[name].read_text(encoding="utf-8"))
    space = {key: _part(f"{key}={text}") for key, text in settings.pop("space").items()}
    own = [word.removeprefix("search.") for word in words if word.startswith("search.")]
    for word in own:
        key = word.partition("=")[0]
        if key.split(".")[0] == "space":
            bare = word.removeprefix("space").lstrip(".=") or "KEY=interval(LOW,HIGH)"
            raise UsageError(f"search.{word}: what is searched is given as it is, {bare}")
        if key in settings:  # the pruner, too, which may be null
            settings[key] = read(word)
        else:
            settings = override({"search": settings}, [f"search.{word}"])["search"]
    fixed = []
    for word in (word for word in words if not word.startswith(("search=", "search."))):
        text = readable(word, sweeps=True)
        parsed = _parsed(text)
        if parsed.is_sweep_override():
            space[parsed.get_key_element()] = _part(text)
        else:
            space.pop(parsed.get_key_element(), None)  # what is said to be so is not searched
            fixed.append(text)
    if not space:
        raise UsageError("there is nothing to search: give KEY=interval(LOW,HIGH), range(...) or choice(...)")
    return settings, fixed, space


def _searches(words: list[str]) -> dict[str, Path]:
    """Return the files of searches: rnnlab's, those of plugins, and those in the folders of --config-dir."""
    plugins.find_conf(plugins_of(words))
    paths = [place for word in words if word.startswith("hydra.searchpath=") for place in read(word)]
    return searches([Path(place.removeprefix("file://")) for place in paths])


def _beside(fixed: list[str]) -> list[str]:
    """Return which words of all trials the file of an experiment cannot hold."""
    return [word for word in fixed if word.startswith("~") or re.match(r"[+]*(hydra\.|plugins=)", word)]


def _parsed(word: str) -> Override:
    try:
        return OverridesParser.create().parse_override(word)
    except HydraException as error:
        raise UsageError(f"{word} cannot be read: {error}") from error


def _part(word: str) -> study.Range | study.Choice:
    """Return the part of a space that a word of Hydra's grammar stands for."""
    value = _parsed(word).value()
    if isinstance(value, IntervalSweep | RangeSweep):
        low, high = (value.start, value.end) if isinstance(value, IntervalSweep) else (value.start, value.stop)
        step = value.step if isinstance(value, RangeSweep) else None
        whole = all(isinstance(number, int) for number in (low, high, *([] if step is None else [step])))
        if step is not None:  # its end is not among its values
            high = low + (-(-(high - low) // step) - 1) * step
        return study.Range(low, high, step, "log" in value.tags, whole)
    if isinstance(value, ChoiceSweep):
        return study.Choice(tuple(_parsed(word).sweep_string_iterator()))
    raise UsageError(f"{word}: a space is made of interval(LOW,HIGH), range(FROM,TO,STEP) and choice(A,B)")


def _metric(search: dict[str, Any], config: dict[str, Any]) -> dict[str, str]:
    """Return metric and mode, those of the task where none are given; the configuration is built once to find them."""
    from rnnlab.cli.build import build

    metric, mode = build(config).task.monitor
    if search["metric"] not in (None, metric):
        if search["mode"] is None:
            raise UsageError(f"search.metric={search['metric']} needs search.mode=min or max")
        metric, mode = search["metric"], search["mode"]
    mode = search["mode"] or mode
    if mode not in ("min", "max"):
        raise UsageError(f"search.mode must be min or max, got {mode!r}")
    return {"metric": metric, "mode": mode}


def _check(search: dict[str, Any]) -> None:
    """Refuse what trials would refuse."""
    trials = search["trials"]
    if not isinstance(trials, int) or isinstance(trials, bool) or trials < 1:
        raise UsageError(f"search.trials must be an integer of at least 1, got {trials!r}")
    try:
        import optuna  # noqa: F401
    except ImportError:
        raise UsageError('a search needs Optuna: pip install "rnnlab[sweep]"') from None
    try:
        study.distributions(search["space"])
        if search["storage"] is not None:
            study.storage(Path(), search["storage"])
    except ValueError as error:
        raise UsageError(str(error)) from error
    for part in (search["sampler"], search["pruner"]):
        if part:
            trial.instantiate(part)


def _first(search: dict[str, Any], config: dict[str, Any], hydra: dict[str, Any]) -> dict[str, Any] | None:
    """Return the configuration as it is, as a point of the space; None if it is none."""
    known = {**flatten(config), **hydra["runtime"]["choices"]}
    point: dict[str, Any] = {}
    for key, part in search["space"].items():
        value = known.get(key.lstrip("+"))
        if isinstance(part, study.Choice):
            point[key] = str(value)
            if point[key] not in part.words:
                return None
        elif not isinstance(value, int | float) or not part.low <= value <= part.high:
            return None
        else:
            point[key] = value
    return point


def _experiment(sweep_dir: Path, search: dict[str, Any], best: study.Tried) -> str:
    """Return the file of an experiment that is the best trial's."""
    record = sweeping.read(sweep_dir)
    base, defaults, values, left = "addition/lstm", [], {}, _beside(search["fixed"])
    for word in [*search["fixed"], *best.words]:
        key, _, text = word.partition("=")
        bare = key.lstrip("+")
        if word in left:
            continue
        if bare == "experiment":
            base = text
        elif bare.partition("@")[0] in groups():
            defaults.append({f"{'' if key != bare else 'override '}/{bare}": read(word)})
        else:
            values = _put(values, bare.split("."), read(word))
    command = ["rnnlab", "train", "--config-dir", str(sweep_dir / "conf"), f"experiment={_EXPERIMENT}", *left]
    lines = [
        "# @package _global_",
        f"# question: {record['config']['name']}, the best of a search of {search['trials']} trials",
        f"# command:  {shlex.join(command)}",
        f"# expected: {search['metric']} {best.value:.6g}",
    ]
    content = {"defaults": [base, *defaults], **values}
    return "\n".join([*lines, yaml.safe_dump(content, sort_keys=False, allow_unicode=True)])


def _put(values: dict[str, Any], path: list[str], value: Any) -> dict[str, Any]:
    """Return nested settings with one more."""
    head, *rest = path
    return {**values, head: _put(values.get(head) or {}, rest, value) if rest else value}
