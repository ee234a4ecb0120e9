"""Sources and their answers, symbol by symbol: the data of sequence-to-sequence models.

Letters: B rows of a batch, S symbols of its longest source, U those of its longest target, END included.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from rnnlab.baselines import score_answers
from rnnlab.data.batches import Queries
from rnnlab.data.buckets import BucketData
from rnnlab.data.checks import check_choice, check_encoding, check_integer
from rnnlab.data.files import read_text
from rnnlab.data.nbest import nbest_lines, nbest_texts
from rnnlab.data.pair_rows import SPECIAL, Pair, PairBatch, PairRows, Tokens, encode_symbols
from rnnlab.data.vocabulary import UNKNOWN, Vocabulary

IMPOSSIBLE = -1  # a symbol of a right answer that no answer can have
JOINTS = {"characters": "", "words": " "}  # what a text is cut into, and what joins the parts again

_MOST_NAMED = 10  # symbols in a note


class PairData(BucketData):
    """Base of the data modules of sequence-to-sequence models; a subclass writes `read_parts`.

    A batch is a `PairBatch`. Batches hold sources of one length, where that costs little. Symbols are known from
    training alone, those of targets from the first right answers: `notes` tells what other parts have besides.

    Attributes:
        pairs: those of each part, known after `setup`.
        source_symbols, target_symbols: the vocabularies, the same one if they are shared.
        error_names: what the share of wrong answers and the rate of wrong symbols are called, if by names of their own.

    Args:
        source_tokens, target_tokens: what a source and a target are sequences of: 'characters', or 'words' between
            spaces.
        shared_vocabulary: whether both sides have the same symbols.
        min_count: how often a symbol occurs in training, to be known.
        max_tokens: padded size of a training batch, rows times symbols of a source.
        eval_max_tokens: the same of all other batches.
        seed: decides the order of training.
        encoding: of text files, as Python names it.

    Raises:
        ValueError: an argument is out of range.
    """

    remembers = True
    unit = "target_symbols"
    even = True
    error_names: tuple[str, str] | None = None

    def __init__(
        self,
        source_tokens: str = "characters",
        target_tokens: str = "characters",
        shared_vocabulary: bool = False,
        min_count: int = 1,
        max_tokens: int = 2_000,
        eval_max_tokens: int = 4_000,
        seed: int = 0,
        encoding: str = "utf-8",
    ) -> None:
        super().__init__(max_tokens, eval_max_tokens, seed)
        self.source_tokens = check_choice("source_tokens", source_tokens, JOINTS)
        self.target_tokens = check_choice("target_tokens", target_tokens, JOINTS)
        self.shared_vocabulary = shared_vocabulary
        self.min_count = check_integer("min_count", min_count, 1)
        self.encoding = check_encoding(encoding)
        self.pairs: dict[str, list[Pair]] = {}

    def read_parts(self) -> tuple[dict[str, list[Pair]], dict[str, Any]]:
        """Return the pairs of 'train', 'val' and perhaps 'test', and what is to be found in `_state` later on.

        What a user should be told of the reading goes to `_reading_notes`.
        """
        raise NotImplementedError

    def invented(self) -> list[Pair]:
        """Return pairs that training reads beside its own, which count as neither seen nor right."""
        return []

    def make_splits(self) -> dict[str, PairRows]:
        self._reading_notes = []
        self.pairs, state = self.read_parts()
        for part, pairs in self.pairs.items():
            if not pairs:
                raise ValueError(f"the {part} part has no pair of a source and a target")
        train = self.pairs["train"]
        source, target = self._known_symbols(train)
        if not source or not target:
            raise ValueError(f"min_count={self.min_count} leaves no symbol of {'targets' if source else 'sources'}")
        state |= {
            "sha256": hashlib.sha256(repr([pair[:2] for pair in train]).encode("utf-8", "surrogatepass")).hexdigest(),
            "settings": self._settings(),
            "source": self._state.get("source", source),
            "target": self._state.get("target", target),
        }
        self._remember(state)
        return self._to_numbers()

    def _known_symbols(self, train: Sequence[Pair]) -> tuple[list[str], list[str]]:
        """Return the symbols of sources and targets, without the special ones."""
        sides = [chain.from_iterable(pair.source for pair in train)]
        sides.append(chain.from_iterable(pair.targets[0] for pair in train))
        if self.shared_vocabulary:
            sides = [chain(*sides)]
        vocabularies = [Vocabulary.of(side, min_count=self.min_count) for side in sides]
        found = [[symbol for symbol in vocabulary if symbol not in SPECIAL] for vocabulary in vocabularies]
        return found[0], found[-1]

    def _settings(self) -> dict[str, Any]:
        """Return the arguments that a run cannot do without: what symbols are, and on which side."""
        names = ("source_tokens", "target_tokens", "shared_vocabulary")
        return {name: getattr(self, name) for name in names}

    def _remember(self, state: dict[str, Any]) -> None:
        self._check_settings(state, self._settings())
        self._keep(state)
        self.source_symbols = Vocabulary((*SPECIAL, *state["source"]))
        self.target_symbols = (
            self.source_symbols if self.shared_vocabulary else Vocabulary((*SPECIAL, *state["target"]))
        )
        self.sizes = {
            "source_size": len(self.source_symbols),
            "target_size": len(self.target_symbols),
            "shared_vocabulary": self.shared_vocabulary,
        }

    def _to_numbers(self) -> dict[str, PairRows]:
        """Return the pairs in numbers, and note what training does not know of them."""
        self.notes = list(self._reading_notes)
        for part, pairs in self.pairs.items():
            if part != "train":
                self.notes += self._unknown_notes(part, pairs)
        known = {pair.source for pair in self.pairs["train"]}
        read = self.pairs | {"train": [*self.pairs["train"], *self.invented()]}
        return {part: PairRows(pairs, self.source_symbols, self.target_symbols, known) for part, pairs in read.items()}

    def _unknown_notes(self, part: str, pairs: Sequence[Pair]) -> list[str]:
        """Return what is to be said of symbols that a part has and training lacks."""
        notes = self._strange_sources(part, [pair.source for pair in pairs])
        strange = [
            set().union(*found) if all(found) else set()
            for found in ([_strange(target, self.target_symbols) for target in pair.targets] for pair in pairs)
        ]
        if any(strange):
            notes.append(
                f"{part}: {sum(map(bool, strange))} of {len(pairs)} pairs have no right answer without a symbol that "
                f"training lacks ({_named(strange)}); each counts as wrong"
            )
        return notes

    def _strange_sources(self, where: str, sources: Sequence[Tokens]) -> list[str]:
        """Return a line about the symbols of sources that training lacks, if there are any."""
        strange = [_strange(source, self.source_symbols) for source in sources]
        if not any(strange):
            return []
        return [
            f"{where}: {sum(map(bool, strange))} of {len(sources)} sources have a symbol that training lacks "
            f"({_named(strange)}), which is read as unknown"
        ]

    def rehearsal_batch(self) -> PairBatch:
        """Return the first pair of training and the longest, which a model must be able to read too."""
        return self.splits["train"][[0, int(self.splits["train"].lengths.argmax())]]

    def state_dict(self) -> dict[str, Any]:
        """Return what a trained model takes for granted: the symbols, and the hash of the pairs they are from."""
        return self._state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Know the symbols of a run, without its files.

        Raises:
            ValueError: the training part that was read is another one.
        """
        has_other_symbols = any(state_dict[side] != self._state.get(side) for side in ("source", "target"))
        self._remember(state_dict)
        if self.splits and has_other_symbols:
            self.splits = self._to_numbers()

    @property
    def epoch_size(self) -> int:
        return self.splits["train"].num_target_symbols

    def references(self, part: str, rows: Tensor | Sequence[int]) -> list[list[list[int]]]:
        """Return the numbers of all right answers of each row, without END.

        Args:
            part: 'train', 'val' or 'test'.
            rows: of a batch of that part, (B,).

        Returns:
            B lists of one answer or more; `IMPOSSIBLE` stands for a symbol that training lacks.
        """
        numbers = rows.tolist() if isinstance(rows, Tensor) else rows
        return [[self._answer_ids(target) for target in self.pairs[part][row].targets] for row in numbers]

    def _answer_ids(self, target: Sequence[str]) -> list[int]:
        ids = encode_symbols(target, self.target_symbols)
        return np.where(ids < len(SPECIAL), IMPOSSIBLE, ids).tolist()

    def source_text(self, ids: Iterable[int]) -> str:
        """Return the source of numbers; '\\ufffd' stands for unknown symbols, other special ones are left out."""
        return self.join_source(_texts(ids, self.source_symbols))

    def target_text(self, ids: Iterable[int]) -> str:
        """Return the target of numbers, likewise."""
        return self.join_target(_texts(ids, self.target_symbols))

    def join_source(self, symbols: Iterable[str]) -> str:
        """Return the text of a source."""
        return JOINTS[self.source_tokens].join(symbols)

    def join_target(self, symbols: Iterable[str]) -> str:
        """Return the text of a target."""
        return JOINTS[self.target_tokens].join(symbols)

    def parse_source(self, line: str, place: str) -> Tokens:
        """Return the symbols of a line that asks for an answer.

        Raises:
            ValueError: it is no source, with its place: "file:line: what is wrong".
        """
        symbols = cut(line, self.source_tokens)
        if not symbols:
            raise ValueError(f"{place}: is empty, a source is expected")
        if "\t" in line.strip():
            raise ValueError(f"{place}: a source has no tab, which stands before its answer, got {line[:60]!r}")
        return symbols

    def read_queries(self, path: str | Path, encoding: str | None = None) -> Queries:
        """Read a source a line; blank lines at the end are ignored.

        Raises:
            ValueError: the file is missing, empty or broken ("file:line: what is wrong").
        """
        file, text = read_text(path, "file of sources", encoding or self.encoding)
        lines = text.rstrip().split("\n")
        if lines == [""]:
            raise ValueError(f"{file}: is empty, a source a line is expected")
        sources = [self.parse_source(line, f"{file}:{number}") for number, line in enumerate(lines, start=1)]
        rows = PairRows([Pair(source, ((),)) for source in sources], self.source_symbols, self.target_symbols)
        context = [line.strip() for line in lines], self._fixed_batches(rows, self.eval_max_tokens)
        return Queries(rows, context, self._strange_sources(str(file), sources))

    def write_answers(self, queries: Queries, outputs: Sequence[Sequence[Sequence[Any]]]) -> str:
        """Return a line "source<TAB>answer" a source, in the order of their file.

        Where a source has several answers, all lines are "source<TAB>answer<TAB>log-probability", the best first.

        Args:
            queries: what `read_queries` returned.
            outputs: for each of `query_batches`, for each of its rows, hypotheses with `ids`, without END, and
                `log_prob`, the best one first.
        """
        return nbest_lines(queries.context[0], self.answers(queries, outputs))

    def answers(self, queries: Queries, outputs: Sequence[Sequence[Sequence[Any]]]) -> list[Any]:
        """Return a text a source; of a search for several, texts with their log-probabilities, the best first."""
        lines, batches = queries.context
        answers: list[Sequence[Any]] = [()] * len(lines)
        for indices, output in zip(batches, outputs, strict=True):
            for index, hypotheses in zip(indices, output, strict=True):
                answers[index] = hypotheses
        return nbest_texts(answers, self.target_text)

    def score_baseline(self, name: str, answer: Callable[[list[Tokens]], Sequence[Sequence[str]]]) -> dict[str, float]:
        """Return 'baseline/<name>/<part>/<metric>' of what answers sources, for validation and test."""
        result = {}
        for part in ("val", "test"):
            pairs = self.pairs.get(part)
            if pairs:
                answers = answer([pair.source for pair in pairs])
                metrics = self.measure_answers(pairs, answers)
                result |= {f"baseline/{name}/{part}/{metric}": value for metric, value in metrics.items()}
        return result

    def measure_answers(self, pairs: Sequence[Pair], answers: Sequence[Sequence[str]]) -> dict[str, float]:
        """Return the metrics of answers to pairs, one or more, by name."""
        scores = score_answers(answers, [pair.targets for pair in pairs], [pair.weight for pair in pairs])
        return {"exact_match": scores.exact_match}


def cut(text: str, tokens: str) -> Tokens:
    """Return the symbols of a text: its characters, without spaces around it, or its 'words'."""
    return tuple(text.strip() if tokens == "characters" else text.split())


def _strange(symbols: Iterable[str], vocabulary: Vocabulary) -> set[str]:
    return {symbol for symbol in symbols if symbol not in vocabulary or symbol in SPECIAL}


def _named(strange: Iterable[set[str]]) -> str:
    names = sorted(set().union(*strange))
    more = "" if len(names) <= _MOST_NAMED else f" and {len(names) - _MOST_NAMED} more"
    return ", ".join(map(repr, names[:_MOST_NAMED])) + more


def _texts(ids: Iterable[int], vocabulary: Vocabulary) -> list[str]:
    unknown = (IMPOSSIBLE, vocabulary[UNKNOWN])
    return [
        "\ufffd" if index in unknown else vocabulary.symbols[index]
        for index in map(int, ids)
        if index in unknown or index >= len(SPECIAL)
    ]
