"""A study of Optuna's behind a sweep: where its trials are kept, and what a job of the sweep is to it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from rnnlab.sweeps import lock

if TYPE_CHECKING:
    import optuna

JOURNAL = "journal.log"
_FEWEST = 12  # trials that tell what decided
_JOB = "job"  # the attribute of a trial that names its job


class Range(NamedTuple):
    """Numbers from `low` to `high`, both among them.

    Attributes:
        low: the least.
        high: the greatest.
        step: between two of them; None for all.
        log: whether every factor is worth the same.
        whole: whether they are integers.
    """

    low: float
    high: float
    step: float | None
    log: bool
    whole: bool


class Choice(NamedTuple):
    """Words, one of which is chosen."""

    words: tuple[str, ...]


Space = dict[str, Range | Choice]


def distributions(space: Space) -> dict[str, Any]:
    """Return a space in Optuna's terms.

    Raises:
        ValueError: a range is empty, or logarithmic and not positive.
    """
    import optuna.distributions as optuna

    def made(part: Range | Choice) -> Any:
        if isinstance(part, Choice):
            return optuna.CategoricalDistribution(part.words)
        if part.whole:
            return optuna.IntDistribution(int(part.low), int(part.high), log=part.log, step=int(part.step or 1))
        return optuna.FloatDistribution(part.low, part.high, log=part.log, step=part.step)

    found = {}
    for key, part in space.items():
        try:
            found[key] = made(part)
        except ValueError as error:
            raise ValueError(f"{key}: {error}") from error
    return found


def corner(space: Space) -> dict[str, Any]:
    """Return a point of a space: the least of each range, the first of each choice."""

    def least(part: Range | Choice) -> Any:
        if isinstance(part, Choice):
            return part.words[0]
        return int(part.low) if part.whole else part.low

    return {key: least(part) for key, part in space.items()}


def words_of(params: dict[str, Any]) -> list[str]:
    """Return the `key=value` words of what a trial was given."""
    return [f"{key}={value}" for key, value in params.items()]


def storage(sweep_dir: Path, url: str | None) -> Any:
    """Open what trials are kept in: a journal in the sweep's directory, which many processes may write, or a database.

    Raises:
        ValueError: it cannot be opened.
    """
    import optuna
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if url is None:
        own: Any = _Lock(sweep_dir / f"{JOURNAL}.flock") if lock.CAN_HOLD else None
        return optuna.storages.JournalStorage(JournalFileBackend(str(sweep_dir / JOURNAL), own))
    try:
        return optuna.storages.RDBStorage(url)
    except Exception as error:  # of SQLAlchemy and of the database's own package
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"search.storage={url} cannot be opened: {reason}") from error


class _Lock:
    """Holds a journal, and is let go of by the system when its process ends.

    Optuna's own is a file beside the journal: that of a process which was killed stays for half a minute, and a signal
    that comes while it is taken away ends a job as if it had failed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def acquire(self) -> bool:
        self._file = self.path.open("a")
        lock.hold(self._file.fileno())
        return True

    def release(self) -> None:
        self._file.close()


def open_study(sweep_dir: Path, search: dict[str, Any], sampler: Any = None, pruner: Any = None) -> optuna.Study:
    """Return the study of a search, made if it is not there.

    Raises:
        ValueError: its storage cannot be opened, or has lost it.
    """
    import optuna

    name = search["study"] or sweep_dir.absolute().name
    place = storage(sweep_dir, search["storage"])
    direction = {"min": "minimize", "max": "maximize"}[search["mode"]]
    return optuna.create_study(
        storage=place, study_name=name, direction=direction, sampler=sampler, pruner=pruner, load_if_exists=True
    )


def trial_of(study: optuna.Study, job: str, space: Space) -> optuna.Trial:
    """Return the trial of a job: the one that it had begun, or a new one."""
    import optuna

    running = (optuna.trial.TrialState.RUNNING,)
    for frozen in study.get_trials(deepcopy=False, states=running):
        if frozen.user_attrs.get(_JOB) == job:
            return optuna.Trial(study, frozen._trial_id)
    trial = study.ask(distributions(space))
    trial.set_user_attr(_JOB, job)
    return trial


def settle(study: optuna.Study, outcome: Callable[[str], float | str | None], lost: str | None) -> None:
    """Tell a study what it was not told by processes that were killed.

    Args:
        study: of a search.
        outcome: of a job by its name: its number, the name of another state, or None where it has not ended.
        lost: the same of a trial that no job has.
    """
    import optuna

    states = optuna.trial.TrialState
    for frozen in study.get_trials(deepcopy=False, states=(states.RUNNING,)):
        ended = outcome(frozen.user_attrs[_JOB]) if _JOB in frozen.user_attrs else lost
        if isinstance(ended, str):
            study.tell(frozen.number, state=states[ended.upper()])
        elif ended is not None:
            study.tell(frozen.number, ended)


class Tried(NamedTuple):
    """A trial that is over: its job, state (complete, pruned, fail), number and words, and its place among others."""

    job: str
    state: str
    value: float | None
    words: list[str]
    number: int


def tried(study: optuna.Study) -> list[Tried]:
    """Return the trials that are over, in the order in which they were begun."""
    return [
        Tried(
            trial.user_attrs.get(_JOB, ""),
            trial.state.name.lower(),
            trial.values[0] if trial.values else None,
            words_of(trial.params),
            trial.number,
        )
        for trial in study.get_trials(deepcopy=False)
        if trial.state.is_finished()
    ]


def importances(study: optuna.Study) -> dict[str, float]:
    """Return how much each key of the space decided which quarter of the trials was best: shares of 1, by PED-ANOVA.

    Pruned trials count among the worse ones, at the last number that they reported if that is worse than all that were
    completed. Of fewer than 12 trials nothing is told: three best ones look alike in one thing or another.

    Watanabe et al. 2023, "PED-ANOVA: Efficiently Quantifying Hyperparameter Importance in Arbitrary Subspaces".
    """
    import optuna

    is_max = study.direction == optuna.study.StudyDirection.MAXIMIZE
    worse = min if is_max else max
    states = optuna.trial.TrialState
    found = study.get_trials(deepcopy=False, states=(states.COMPLETE, states.PRUNED))
    complete = [trial.values[0] for trial in found if trial.state == states.COMPLETE]
    if len(found) < _FEWEST or not complete:
        return {}
    ranked = optuna.create_study(direction=study.direction)
    for trial in found:
        reported = [trial.intermediate_values[max(trial.intermediate_values)]] if trial.intermediate_values else []
        value = trial.values[0] if trial.state == states.COMPLETE else worse([worse(complete), *reported])
        made = optuna.create_trial(params=trial.params, distributions=trial.distributions, value=value)
        ranked.add_trial(made)
    varied = sorted(key for key in found[0].params if len({trial.params.get(key) for trial in found}) > 1)
    if not varied:
        return {}
    evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=0.25, evaluate_on_local=True)
    shares = optuna.importance.get_param_importances(ranked, evaluator=evaluator, params=varied)
    return {key: float(value) for key, value in shares.items()}


def best(trials: Iterable[Tried], mode: str) -> Tried | None:
    """Return the best of the complete trials."""
    complete = [trial for trial in trials if trial.state == "complete" and trial.value is not None]
    choose = max if mode == "max" else min
    return choose(complete, key=lambda trial: trial.value, default=None)
