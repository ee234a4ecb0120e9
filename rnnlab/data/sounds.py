"""Sounds and what they say: the data of transcribers.

Letters: T frames, B rows of a batch, F features, U symbols of a target.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rnnlab.data.batches import Queries
from rnnlab.data.buckets import BucketData
from rnnlab.data.features import LogBands, Totals, standardise
from rnnlab.data.nbest import nbest_lines, nbest_texts
from rnnlab.data.question_files import sound_files
from rnnlab.data.sound_files import find_sounds, sound_blocks
from rnnlab.data.sound_rows import FileRows, LongSound, Recording, SoundBatch, SoundFile, SoundRows
from rnnlab.data.vocabulary import Vocabulary

BLANK = "<blank>"  # number 0


class SoundData(BucketData):
    """Base of the data modules of transcribers; a subclass writes `read_parts`. A batch is a `SoundBatch`.

    Attributes:
        symbols: a Vocabulary whose number 0 is the blank.
        bands: from waves to frames.
        error_names: which error rates are of interest: of characters 'cer', of words 'wer', of symbols 'ler'.

    Args:
        symbols: all but the blank; None: a run's own, that `read_parts` gives to `know_symbols`.
        bands: the features of a frame.
        each: whether each feature is standardised over a sound by itself, or all together.
        max_frames: padded size of a training batch, rows times frames.
        eval_max_frames: the same of all other batches; a longer sound of a query is a `LongSound`.
        seed: decides the order of training.

    Raises:
        ValueError: an argument is out of range.
    """

    remembers = True
    size_names = ("max_frames", "eval_max_frames")
    error_names: tuple[str, ...] = ("cer", "wer")

    def __init__(
        self,
        symbols: Iterable[str] | None,
        bands: LogBands,
        each: bool,
        max_frames: int,
        eval_max_frames: int,
        seed: int,
    ) -> None:
        super().__init__(max_frames, eval_max_frames, seed)
        self.bands, self.each = bands, each
        self.has_own_symbols = symbols is None
        if symbols is not None:
            self.know_symbols(symbols)

    def know_symbols(self, symbols: Iterable[str]) -> None:
        """Take these for the symbols of texts, in this order."""
        self.symbols = Vocabulary((BLANK, *symbols))
        self.sizes = {"num_features": self.bands.num_features, "num_classes": len(self.symbols)}

    @property
    def frame_seconds(self) -> float:
        return self.bands.frame_seconds

    def read_parts(self) -> dict[str, list[Recording]]:
        """Return the recordings of 'train', 'val' and perhaps 'test'."""
        raise NotImplementedError

    def make_splits(self) -> dict[str, SoundRows]:
        self._reading_notes = []
        parts = self.read_parts()
        state: dict[str, Any] = {"sha256": hashlib.sha256(self.known_by(parts).encode()).hexdigest()}
        state["settings"] = self._settings()
        self._keep(state | ({"symbols": list(self.symbols)[1:]} if self.has_own_symbols else {}))
        self.notes = list(self._reading_notes)
        return {part: SoundRows(recordings) for part, recordings in parts.items()}

    def _settings(self) -> dict[str, Any]:
        """Return what makes the features that a run reads: a model hears others without a complaint, and wrongly."""
        return {name: getattr(self.bands, name) for name in ("sample_rate", "num_features", "low", "high")}

    def rehearsal_batch(self) -> SoundBatch:
        """Return the first sound of training and the one with the fewest frames a symbol: a model must have enough."""
        part = self.splits["train"]
        needed = [len(ids) + sum(symbol == before for before, symbol in pairwise(ids)) for _, ids in part.recordings]
        return part[[0, int((part.lengths / np.maximum(needed, 1)).argmin())]]

    def known_by(self, parts: dict[str, list[Recording]]) -> str:
        """Return what a run knows its training part by: its texts, unless a subclass can be measured with others."""
        return repr([recording.ids for recording in parts["train"]])

    def features_of(self, wave: Tensor) -> Tensor:
        """Return the features (T, F) of a wave (N,), float32."""
        bands = self.bands(wave)
        return self.features_from(bands, Totals(self.bands.num_features).add(bands))

    def features_from(self, bands: Tensor, totals: Totals) -> Tensor:
        """Return the features (T, F) of some frames of `bands`, given the totals of all frames of their sound."""
        return standardise(bands, totals, self.each)

    def state_dict(self) -> dict[str, Any]:
        """Return what a trained model takes for granted: the hash of its texts, and their symbols."""
        return self._state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._check_settings(state_dict, self._settings())
        self._keep(state_dict)
        if self.has_own_symbols:
            self.know_symbols(state_dict["symbols"])

    @property
    def epoch_size(self) -> int:
        return int(self.splits["train"].lengths.sum())

    unit = "frames"

    def references(self, part: str, rows: Tensor | Sequence[int]) -> list[list[int]]:
        """Return the numbers of the text of each row of a part."""
        numbers = rows.tolist() if isinstance(rows, Tensor) else rows
        return [self.splits[part].recordings[row].ids for row in numbers]

    def text(self, ids: Iterable[int]) -> str:
        """Return the text of numbers."""
        return "".join(self.symbols.decode(ids))

    def encode(self, text: str, place: str) -> list[int]:
        """Return the numbers of a text.

        Raises:
            ValueError: a symbol is not known, with its place.
        """
        strange = sorted({letter for letter in text if letter not in self.symbols})
        if strange:
            known = "".join(self.symbols.symbols[1:])
            raise ValueError(f"{place}: {', '.join(map(repr, strange))} is not among the symbols {known!r}")
        return self.symbols.encode(text)

    def read_queries(self, path: str | Path, encoding: str | None = None) -> Queries:
        """Read a sound file, or all of a folder, once through: features are read when they are asked for.

        Raises:
            ValueError: one is broken ("file: what is wrong"), or too short for a single frame.
        """
        notes: list[str] = []
        files = [self._heard(file, notes) for file in find_sounds(path)]
        rows = FileRows(files, self._features, self.eval_max_tokens)
        return Queries(rows, ([file.path for file in files], self._fixed_batches(rows, self.eval_max_tokens)), notes)

    def queries_from(self, questions: Any, folder: Path) -> Queries:
        """Return sounds (wave (N,), samples a second) as questions, or the path of a file or folder."""
        return self.read_queries(questions if isinstance(questions, Path) else sound_files(questions, folder))

    def _heard(self, path: Path, notes: list[str]) -> SoundFile:
        """Return what one must know of a file before its features can be read; it is whole, then."""
        totals = Totals(self.bands.num_features)
        for bands in self._bands(path, notes):
            totals.add(bands)
        if not totals.count:
            size = sum(len(block) for block in sound_blocks(path, self.bands.sample_rate, []))
            raise ValueError(f"{path}: has {size} samples, and a frame needs {self.bands.window}")
        return SoundFile(path, totals)

    def _features(self, file: SoundFile) -> Iterator[Tensor]:
        """Yield the features of a file, some frames at a time."""
        return (self.features_from(bands, file.totals) for bands in self._bands(file.path, []))

    def _bands(self, path: Path, notes: list[str]) -> Iterator[Tensor]:
        return self.bands.stream(map(torch.from_numpy, sound_blocks(path, self.bands.sample_rate, notes)))

    def query_batches(self, queries: Queries) -> Iterator[SoundBatch | LongSound]:
        """Yield the sounds in batches, from the shortest to the longest, each read when it is asked for."""
        return (queries.inputs[indices] for indices in queries.context[1])

    def write_answers(self, queries: Queries, outputs: Sequence[Sequence[Sequence[Any]]]) -> str:
        """Return a line "file<TAB>text" a sound, by file; with several answers "file<TAB>text<TAB>log-probability".

        Args:
            queries: what `read_queries` returned.
            outputs: for each of `query_batches`, for each of its rows, transcripts with `ids` and `log_prob`, the best
                one first.
        """
        return nbest_lines(queries.context[0], self.answers(queries, outputs))

    def answers(self, queries: Queries, outputs: Sequence[Sequence[Sequence[Any]]]) -> list[Any]:
        """Return a text a sound; of a search for several, texts with their log-probabilities, the best first."""
        return nbest_texts(self._by_file(queries, outputs), self.text)

    def write_times(self, queries: Queries, outputs: Sequence[Sequence[Sequence[Any]]]) -> str:
        """Return a table of file, symbol, start and end in seconds.

        Args:
            queries: what `read_queries` returned.
            outputs: for each of `query_batches`, for each of its rows, spans with `id`, `start` and `end` in frames.
        """
        rows = [
            f"{file}\t{self.symbols.symbols[span.id]}\t{span.start * step:.3f}\t{span.end * step:.3f}\n"
            for step in (self.frame_seconds,)
            for file, spans in zip(queries.context[0], self._by_file(queries, outputs), strict=True)
            for span in spans
        ]
        return "".join(["file\tsymbol\tstart\tend\n", *rows])

    def _by_file(self, queries: Queries, outputs: Sequence[Sequence[Any]]) -> list[Any]:
        files, batches = queries.context
        found: list[Any] = [()] * len(files)
        for indices, output in zip(batches, outputs, strict=True):
            for index, answer in zip(indices, output, strict=True):
                found[index] = answer
        return found
