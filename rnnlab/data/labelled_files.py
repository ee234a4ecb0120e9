"""The user's own labelled sequences."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from rnnlab.data.checks import check_encoding, check_fraction, check_integer
from rnnlab.data.folds import hold_out, stratified_folds
from rnnlab.data.labelled import ClassData
from rnnlab.data.series_files import LongForm, Series, SeriesTable, read_series


class SeriesFileData(ClassData):
    """Sequences of files, of any layout of `rnnlab.data.series_files`, and the class of each.

    Args:
        train: file: as given, or below the folder that RNNLAB_DATA names.
        val: likewise, of no class that `train` lacks; None: a share `val_size` of the sequences of `train`, of each
            class.
        test: likewise; without it there is no such part, unless `fold` makes one.
        fold: from 0 on: test is that one of `num_folds` stratified folds of `train`, which is then not trained on.
        num_folds: of cross-validation.
        val_size: see `val`.
        split_seed: decides folds and held-out sequences.
        id_column, time_column, label_column: of CSV files; all other columns are values.
        scale, batch_steps, eval_batch_steps, seed: see `ClassData`.
        encoding: of the files, as Python names it.

    Raises:
        ValueError: an argument is out of range; in `setup`: a file cannot be read, with file and line, or files do not
            fit together.
    """

    def __init__(
        self,
        train: str | Path,
        val: str | Path | None = None,
        test: str | Path | None = None,
        fold: int | None = None,
        num_folds: int = 5,
        val_size: float = 0.15,
        split_seed: int = 0,
        id_column: str = "id",
        time_column: str = "time",
        label_column: str = "label",
        scale: str = "train",
        batch_steps: int = 4_000,
        eval_batch_steps: int = 40_000,
        seed: int = 0,
        encoding: str = "utf-8",
    ) -> None:
        super().__init__(scale, batch_steps, eval_batch_steps, seed)
        if train is None:
            raise ValueError("train must name a file of sequences and their classes, got None")
        self.paths = {"train": train, "val": val, "test": test}
        self.num_folds = check_integer("num_folds", num_folds, 2)
        self.fold = None if fold is None else check_integer("fold", fold, 0, self.num_folds - 1)
        if fold is not None and test is not None:
            raise ValueError(f"fold={fold} takes the test part out of train, and test={test} is another one: give one")
        self.val_size = check_fraction("val_size", val_size)
        self.split_seed = check_integer("split_seed", split_seed, 0)
        self.form = LongForm(id_column, time_column, label_column)
        if len(set(self.form)) < len(self.form):
            raise ValueError(f"id_column, time_column and label_column must differ, got {', '.join(self.form)}")
        self.encoding = check_encoding(encoding)
        self._columns: list[str] | None = None

    def read_parts(self) -> dict[str, list[Series]]:
        tables = {
            part: read_series(path, self.encoding, self.form) for part, path in self.paths.items() if path is not None
        }
        for table in tables.values():
            self._check(table, tables["train"])
        self._columns = tables["train"].columns
        parts = {part: table.series for part, table in tables.items()}
        if self.fold is not None:
            folds = stratified_folds(_labels(parts["train"]), self.num_folds, np.random.default_rng(self.split_seed))
            parts["train"], parts["test"] = _parted(parts["train"], folds == self.fold)
        if "val" not in parts:
            rng = np.random.default_rng([self.split_seed, 1])
            parts["train"], parts["val"] = _parted(
                parts["train"], hold_out(_labels(parts["train"]), self.val_size, rng)
            )
            if not parts["val"]:
                raise ValueError(
                    f"{self.paths['train']}: a share of {self.val_size:g} of each class holds out no sequence to "
                    "validate with; give a larger val_size, or val=FILE"
                )
        return parts

    def columns(self) -> list[str] | None:
        return self._columns

    def _check(self, table: SeriesTable, train: SeriesTable) -> None:
        classes = {one.label for one in train.series}
        for one in table.series:
            if one.label is None:
                raise ValueError(f"{one.place}: the class is missing")
            if one.label not in classes:
                known = ", ".join(sorted(filter(None, classes)))
                raise ValueError(f"{one.place}: class {one.label!r} is none of those of {train.path}: {known}")
        if table.columns is not None and train.columns is not None and table.columns != train.columns:
            raise ValueError(
                f"{table.path}:1: values are {', '.join(table.columns)}, and {', '.join(train.columns)} in train"
            )
        widths = [some.series[0].values.shape[1] for some in (table, train)]
        if widths[0] != widths[1]:
            raise ValueError(f"{table.path}: has {widths[0]} values a step, {train.path} has {widths[1]}")


def _labels(series: list[Series]) -> list[str]:
    return [str(one.label) for one in series]


def _parted(series: list[Series], is_taken: np.ndarray) -> tuple[list[Series], list[Series]]:
    """Return those that stay, and those that are taken."""
    kept, taken = ([one for one, flag in zip(series, is_taken, strict=True) if flag == side] for side in (False, True))
    return kept, taken
