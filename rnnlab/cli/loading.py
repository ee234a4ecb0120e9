"""`rnnlab.load`: a trained run in a notebook or a program of one's own."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from torch import nn

from rnnlab.callbacks.ledger import read_rows
from rnnlab.cli import answering, checkpoints, rundir
from rnnlab.cli.build import load as load_parts
from rnnlab.cli.compose import override
from rnnlab.cli.errors import UsageError
from rnnlab.cli.instantiate import root_cause
from rnnlab.data.files import FileMissing

if TYPE_CHECKING:
    import pandas


class TrainedRun:
    """A run of the past, ready to answer.

    Attributes:
        path: its directory.
        config: the resolved configuration, plain data.
        model: the network with the weights of the checkpoint, in evaluation mode, on the CPU.
        task, data: what it was trained with; `data.setup()` reads what it was trained on, where that is wanted.
        epoch: after how many epochs the checkpoint was written.
        checkpoint: its file.
    """

    def __init__(self, path: Path, ckpt: str, overrides: Sequence[str]) -> None:
        self.data, self.task, content = load_parts(path, ckpt, overrides)
        self.config: dict[str, Any] = override(rundir.read_config(path), overrides)
        self.path, self.checkpoint = path, checkpoints.checkpoint_path(path, ckpt)
        self.epoch: int = content["epoch"] + 1

    @property
    def model(self) -> nn.Module:
        return self.task.model

    @cached_property
    def metrics(self) -> dict[str, float]:
        """The final numbers, baselines among them; empty if the run was not finished."""
        path = self.path / "metrics.json"
        try:
            return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        except (OSError, ValueError) as error:
            raise UsageError(f"{path} cannot be read: {error}") from error

    @cached_property
    def history(self) -> pandas.DataFrame:
        """What each epoch measured: a data frame, a row an epoch, NaN where nothing was measured."""
        try:
            import pandas
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError('history needs pandas: pip install "rnnlab[forecast]"', name="pandas") from error
        try:
            return pandas.DataFrame(read_rows(self.path / "metrics.csv"))
        except ValueError as error:
            raise UsageError(str(error)) from error

    def predict(
        self, questions: Any, *, n_best: int | None = None, beam: int | None = None, horizon: int | None = None
    ) -> Any:
        """Answer questions as `rnnlab predict` answers those of a file.

        Args:
            questions: texts, such as "12+345" or a sentence; rows of numbers; sequences (T,) or (T, I) that have a
                class; sounds or a lead as (samples (N,), samples a second); a data frame with the columns trained on;
                or the path of a file that `rnnlab predict` would read.
            n_best, beam: of models that search: how many answers are given, and searched among.
            horizon: steps to forecast, of models of tables; None for those of training.

        Returns:
            One answer for each question, of a single text its answer alone: texts; tags of each word; (class,
            probability); (text, log-probability) of each of `n_best`; forecasts as an array, or as a data frame where
            tables were learnt; beats as rows of a table.

        Raises:
            UsageError: they are no questions for this model, or an option is not for it; character models answer none.
        """
        search = {name: value for name, value in (("n_best", n_best), ("beam", beam)) if value is not None}
        former = {name: getattr(self.task, name, None) for name in ("n_best", "beam")}
        try:
            if search:
                answering.set_search(self.task, search, self.path)
            if horizon is not None:
                answering.ask_horizon(self.data, horizon, self.path)
            with TemporaryDirectory() as folder:
                try:
                    queries = self.data.queries_from(questions, Path(folder))
                except ValueError as error:  # the file is ours, and gone when it is read of
                    raise ValueError(str(error).replace(f"{folder}/", "")) from None
                for note in answering.notes_on(self.task, queries):
                    print(f"rnnlab: {note}", file=sys.stderr)
                outputs = answering.outputs_of(self.data, queries, self.task.predict_step)
                answers = self.data.answers(queries, outputs)
        except (ValueError, TypeError) as error:
            raise UsageError(str(error)) from error
        finally:  # for the next call
            if search and former["beam"]:
                self.task.set_search(former["beam"], former["n_best"])
            if horizon is not None and hasattr(self.data, "ask_horizon"):
                self.data.ask_horizon(self.data.horizon)
        return answers[0] if isinstance(questions, str) else answers

    def __repr__(self) -> str:
        sizes = f"{sum(parameter.numel() for parameter in self.model.parameters()):,} parameters"
        return f"TrainedRun({self.config['name']}, epoch {self.epoch}, {sizes}, {self.path})"


def load(run_dir: str | Path, ckpt: str = "best", overrides: Sequence[str] = ()) -> TrainedRun:
    """Return a trained run with its best weights.

    Its files are read as data: nothing in them is unpickled or run. What the run was trained on is needed only where
    the checkpoint does not remember enough of it: a single series; and is looked for where it was, then below the
    folder that RNNLAB_DATA names.

    Args:
        run_dir: its directory, wherever it is now.
        ckpt: 'best', 'last' or the path of a checkpoint.
        overrides: `key=value` words that change the configuration, such as "data.path=FILE".

    Raises:
        UsageError: no such run, checkpoint or setting, or a file of its data is not found; one line.
    """
    if isinstance(overrides, str):
        overrides = [overrides]
    try:
        return TrainedRun(Path(run_dir), ckpt, overrides)
    except UsageError as error:
        if not isinstance(root_cause(error), FileMissing):
            raise
        message = f"{error}; rnnlab.load(..., overrides=['data.path=FILE']) says where it is now"
        raise UsageError(message) from error
