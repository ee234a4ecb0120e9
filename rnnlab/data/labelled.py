"""Sequences of unequal length with one class each: the data of classifiers.

Letters: T steps, B rows of a batch, I values a step, K classes.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from rnnlab.baselines import classes as baselines
from rnnlab.data.batches import Queries
from rnnlab.data.buckets import BucketData
from rnnlab.data.checks import check_choice
from rnnlab.data.series_files import LongForm, Series, read_series
from rnnlab.data.vocabulary import Vocabulary

_ROUNDING = 1e-8  # share of the largest value; what moves by less does not move
SCALES = ("none", "series", "columns", "train")
UNKNOWN_CLASS = -1


class ClassBatch(NamedTuple):
    """B sequences and their classes.

    Attributes:
        values: float32 (T, B, I), zero in padding.
        lengths: steps of each sequence, int64 (B,).
        labels: number of each class, int64 (B,); -1 for one that training lacks, or that is not known.
    """

    values: Tensor
    lengths: Tensor
    labels: Tensor


class ClassRows(Dataset):
    """Sequences of a part; a list of indices is answered by a batch, a single index by a batch of one.

    Args:
        values: float32 (T, I) of each.
        labels: number of the class of each.
    """

    def __init__(self, values: Sequence[Tensor], labels: Sequence[int]) -> None:
        self.values, self.labels = values, torch.tensor(labels, dtype=torch.int64)
        self.lengths = np.array([len(sequence) for sequence in values], dtype=np.int64)

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, indices: int | Sequence[int]) -> ClassBatch:
        rows = np.atleast_1d(np.asarray(indices, dtype=np.int64))
        return ClassBatch(
            pad_sequence([self.values[row] for row in rows]), torch.from_numpy(self.lengths[rows]), self.labels[rows]
        )


class ClassData(BucketData):
    """Base of the data modules of classifiers; a subclass writes `read_parts`. A batch is a `ClassBatch`.

    Classes are known from training alone: a sequence of another one counts as an error, and `notes` tells of it.

    Attributes:
        classes: a Vocabulary, known after `setup`.
        series: the sequences of each part, as they were read; known after `setup`.
        form: names of the columns of CSV files.

    Args:
        scale: "none" takes values as they are; "series" brings those of each sequence to mean 0 and deviation 1, all
            together, "columns" each of its columns by itself, "train" each column by the mean and deviation of all
            steps of training. What does not move, but for its rounding, is 0.
        batch_steps: padded size of a training batch, rows times steps.
        eval_batch_steps: the same of all other batches.
        seed: decides the order of training.

    Raises:
        ValueError: an argument is out of range.
    """

    remembers = True
    size_names = ("batch_steps", "eval_batch_steps")
    form = LongForm()

    def __init__(self, scale: str, batch_steps: int, eval_batch_steps: int, seed: int) -> None:
        super().__init__(batch_steps, eval_batch_steps, seed)
        self.scale = check_choice("scale", scale, SCALES)
        self.series: dict[str, list[Series]] = {}

    def read_parts(self) -> dict[str, list[Series]]:
        """Return the sequences of 'train', 'val' and perhaps 'test', all with a label.

        And perhaps 'more': to be trained on too, made out of those of 'train', which baselines do not learn from.
        """
        raise NotImplementedError

    def make_splits(self) -> dict[str, ClassRows]:
        self._reading_notes = []
        self.series = self.read_parts()
        train = self.series["train"]
        steps = np.concatenate([one.values for one in train])
        mean, deviation = _moments(steps, axis=0)
        state = {
            "sha256": hashlib.sha256(self.known_by(train)).hexdigest(),
            "settings": self._settings(),
            "classes": sorted({one.label for one in train if one.label is not None}),
            "columns": self._state.get("columns", self.columns()),
            "mean": mean.tolist(),
            "deviation": np.where(np.isfinite(deviation), deviation, 1.0).tolist(),
        }
        if len(state["classes"]) < 2:
            raise ValueError(f"there is nothing to learn: training has {len(state['classes'])} classes, 2 are needed")
        self._keep(state)
        self._know(state)
        return self._encode()

    def known_by(self, train: Sequence[Series]) -> bytes:
        """Return what a run knows its training part by; values are not for it where they are computed, and rounded."""
        return b"".join(repr((one.values.shape, one.label)).encode() + one.values.tobytes() for one in train)

    def columns(self) -> list[str] | None:
        """Return the names of the values of a step, where there are any."""
        return None

    def _settings(self) -> dict[str, Any]:
        """Return what decides what a run reads: a model reads other values without a complaint, and wrongly."""
        return {"scale": self.scale}

    def _know(self, state: dict[str, Any]) -> None:
        self.classes = Vocabulary(state["classes"])
        self.sizes = {"input_size": len(state["mean"]), "num_classes": len(self.classes)}

    def _encode(self) -> dict[str, ClassRows]:
        self.notes = list(self._reading_notes)
        for part in ("val", "test"):
            strange = Counter(str(one.label) for one in self.series.get(part, ()) if one.label not in self.classes)
            if strange:
                self.notes.append(
                    f"{part}: {strange.total()} of {len(self.series[part])} sequences have a class that training lacks "
                    f"({', '.join(sorted(strange))}); each counts as wrong"
                )
        parts = {part: self.series[part] for part in ("train", "val", "test") if part in self.series}
        parts["train"] = parts["train"] + self.series.get("more", [])
        return {part: self._rows(series) for part, series in parts.items()}

    def _rows(self, series: Sequence[Series]) -> ClassRows:
        labels = [self.classes[one.label] if one.label in self.classes else UNKNOWN_CLASS for one in series]
        return ClassRows([torch.from_numpy(self._scaled(one.values)) for one in series], labels)

    def _scaled(self, values: np.ndarray) -> np.ndarray:
        """Return values (T, I) as the network reads them, float32."""
        if self.scale in ("series", "columns"):
            mean, deviation = _moments(values, axis=0 if self.scale == "columns" else None)
            values = (values - mean) / deviation
        elif self.scale == "train":
            values = (values - self._state["mean"]) / self._state["deviation"]
        return values.astype(np.float32)

    def state_dict(self) -> dict[str, Any]:
        """Return what a trained model takes for granted: classes, columns, mean and deviation of the training part."""
        return self._state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Know the classes of a run, without its files.

        Raises:
            ValueError: the training part that was read is another one, or a setting is.
        """
        self._check_settings(state_dict, self._settings())
        self._keep(state_dict)
        self._know(state_dict)

    def class_counts(self) -> Tensor:
        """Return how many sequences are trained on of each class, int64 (K,)."""
        return torch.bincount(self.splits["train"].labels, minlength=len(self.classes))

    def baselines(self) -> dict[str, float]:
        """Return accuracy and macro-F1 of the most frequent class and of the nearest neighbour.

        Keys are 'baseline/<name>/<part>/accuracy' and '.../macro_f1', names most_frequent and nearest. Both learn from
        the training part, and for test from validation too, which a network is chosen by.
        """
        self.setup()
        result = {}
        for part in ("val", "test") if "test" in self.series else ("val",):
            known = self.series["train"] + (self.series["val"] if part == "test" else [])
            labels, truth = [one.label for one in known], [one.label for one in self.series[part]]
            sequences, asked = ([self._scaled(one.values) for one in some] for some in (known, self.series[part]))
            answers = {
                "most_frequent": baselines.most_frequent_class(labels, len(truth)),
                "nearest": baselines.nearest_neighbour(sequences, labels, asked),
            }
            for name, given in answers.items():
                scores = baselines.score_classes(truth, given)
                result[f"baseline/{name}/{part}/accuracy"] = scores.accuracy
                result[f"baseline/{name}/{part}/macro_f1"] = scores.macro_f1
        return result

    def read_queries(self, path: str | Path, encoding: str | None = None) -> Queries:
        """Read sequences whose class is asked for, of any layout of `rnnlab.data.series_files`.

        Classes that the file has are not looked at. A sequence is named by its series in CSV, else by its number.

        Raises:
            ValueError: the file is missing, broken, or has other columns than those of training.
        """
        table = read_series(path, encoding or self.encoding, self.form)
        width, columns = self.sizes["input_size"], self._state["columns"]
        if columns is not None and table.columns is not None and columns != table.columns:
            raise ValueError(
                f"{table.path}:1: values are {', '.join(table.columns)}, and {', '.join(columns)} in the run"
            )
        if table.series[0].values.shape[1] != width:
            raise ValueError(f"{table.path}: has {table.series[0].values.shape[1]} values a step, the run {width}")
        return self.queries_of(table.series)

    def queries_from(self, questions: Any, folder: Path) -> Queries:
        """Return sequences of numbers, (T,) or (T, I) each, as questions, or the path of a file of them."""
        if isinstance(questions, Path):
            return self.read_queries(questions)
        width, series = self.sizes["input_size"], []
        for number, question in enumerate(questions, start=1):
            values = np.asarray(question, dtype=np.float64)
            values = values[:, None] if values.ndim == 1 else values
            if values.ndim != 2 or values.shape[1] != width or not len(values) or not np.isfinite(values).all():
                raise ValueError(f"question {number}: expected finite numbers (T, {width}), got shape {values.shape}")
            series.append(Series(str(number), values, None))
        return self.queries_of(series)

    def queries_of(self, series: Sequence[Series], notes: Sequence[str] = ()) -> Queries:
        """Return questions for the class of each sequence."""
        rows = self._rows([one._replace(label=None) for one in series])
        names = [one.name for one in series]
        return Queries(rows, (names, self._fixed_batches(rows, self.eval_max_tokens)), notes)

    def write_answers(self, queries: Queries, outputs: Sequence[Tensor]) -> str:
        """Return a line "name<TAB>class<TAB>probability" a sequence, in the order of the questions.

        Args:
            queries: what `read_queries` returned.
            outputs: probabilities of the classes, one tensor (B, K) for each of `query_batches`.
        """
        answers = zip(queries.context[0], self.answers(queries, outputs), strict=True)
        return "".join(f"{name}\t{label}\t{share:.4f}\n" for name, (label, share) in answers)

    def answers(self, queries: Queries, outputs: Sequence[Tensor]) -> list[tuple[str, float]]:
        """Return class and probability for each sequence."""
        names, batches = queries.context
        found = [("", 0.0)] * len(names)
        for indices, output in zip(batches, outputs, strict=True):
            best = output.max(dim=1)
            for index, share, number in zip(indices, best.values.tolist(), best.indices.tolist(), strict=True):
                found[index] = self.classes.symbols[number], share
        return found


def _moments(values: np.ndarray, axis: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and deviation along an axis, infinity for one of rounding, which divided by it comes to 0."""
    deviation = values.std(axis=axis)
    return values.mean(axis=axis), np.where(deviation > _ROUNDING * np.abs(values).max(axis=axis), deviation, np.inf)
