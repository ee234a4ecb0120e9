"""MNIST-1D (Greydanus & Kobak, 2024): ten digits as curves of 40 values, drawn by the package `mnist1d`."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np

from rnnlab.data.checks import check_fraction, check_integer
from rnnlab.data.folds import hold_out
from rnnlab.data.labelled import ClassData
from rnnlab.data.series_files import Series

_TEST_SHARE = 0.2  # of the package: 4,000 to train on, 1,000 to test with


class MNIST1DData(ClassData):
    """The 5,000 curves of MNIST-1D, generated, never downloaded; the last fifth is the test part of all who report.

    Each is a template of 12 points, padded, stretched, shifted, sheared and put in noise by the package
    `mnist1d`, at its own settings. Validation is a share of the 4,000 to train on.

    Args:
        num_sequences: of all parts.
        corpus_seed: of the generator; results are reported for 42.
        val_size: share of the training sequences that validate, of each class.
        scale, batch_steps, eval_batch_steps, seed: see `ClassData`.

    Raises:
        ValueError: an argument is out of range; in `setup`: the package is missing.
    """

    def __init__(
        self,
        num_sequences: int = 5_000,
        corpus_seed: int = 42,
        val_size: float = 0.1,
        scale: str = "none",
        batch_steps: int = 4_000,
        eval_batch_steps: int = 40_000,
        seed: int = 0,
    ) -> None:
        super().__init__(scale, batch_steps, eval_batch_steps, seed)
        self.num_sequences = check_integer("num_sequences", num_sequences, 100)
        self.corpus_seed = check_integer("corpus_seed", corpus_seed, 0, 2**32 - 1)
        self.val_size = check_fraction("val_size", val_size)

    def read_parts(self) -> dict[str, list[Series]]:
        drawn = _draw(self.num_sequences, self.corpus_seed)
        train, test = (
            [Series(str(row), drawn[x][row][:, None], str(label)) for row, label in enumerate(drawn[y])]
            for x, y in (("x", "y"), ("x_test", "y_test"))
        )
        is_val = hold_out([str(one.label) for one in train], self.val_size, np.random.default_rng(self.corpus_seed))
        return {
            "train": [one for one, held in zip(train, is_val, strict=True) if not held],
            "val": [one for one, held in zip(train, is_val, strict=True) if held],
            "test": test,
        }

    def known_by(self, train: Sequence[Series]) -> bytes:
        return repr([(one.name, one.label) for one in train]).encode()


def _draw(num_sequences: int, seed: int) -> dict[str, Any]:
    """Return what the package draws; the global generators that it seeds are put back."""
    try:
        from mnist1d.data import get_dataset_args, make_dataset
    except ImportError as error:
        raise ValueError('MNIST-1D is drawn by the package mnist1d: pip install "rnnlab[mnist1d]"') from error
    former = random.getstate(), np.random.get_state()
    arguments = get_dataset_args()
    arguments.num_samples, arguments.train_split, arguments.seed = num_sequences, 1 - _TEST_SHARE, seed
    try:
        return make_dataset(arguments)
    finally:
        random.setstate(former[0])
        np.random.set_state(former[1])
