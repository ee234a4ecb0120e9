"""Rows of sounds: those of a part, in memory, and those of files, which are read when they are asked for.

Letters: T frames, B rows of a batch, F features, U symbols of a target.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from rnnlab.data.features import Totals


class Recording(NamedTuple):
    """One sound and its text.

    Attributes:
        features: float32 (T, F).
        ids: the symbols of its text, none of them the blank.
    """

    features: Tensor
    ids: list[int]


class SoundBatch(NamedTuple):
    """B sounds and their texts.

    Attributes:
        features: float32 (T, B, F), zero in padding.
        lengths: frames of each sound, int64 (B,).
        target: numbers of the text's symbols, from 1 on, int64 (B, U); 0 in padding.
        target_lengths: int64 (B,).
        rows: number of the sound in its part, int64 (B,).
    """

    features: Tensor
    lengths: Tensor
    target: Tensor
    target_lengths: Tensor
    rows: Tensor


class SoundRows(Dataset):
    """Recordings of a part; a list of indices is answered by a batch, a single index by a batch of one."""

    def __init__(self, recordings: Sequence[Recording]) -> None:
        self.recordings = recordings
        self.lengths = np.array([len(recording.features) for recording in recordings], dtype=np.int64)

    def __len__(self) -> int:
        return len(self.recordings)

    def __getitem__(self, indices: int | Sequence[int]) -> SoundBatch:
        rows = np.atleast_1d(np.asarray(indices, dtype=np.int64))
        chosen = [self.recordings[row] for row in rows]
        targets = [torch.tensor(recording.ids, dtype=torch.int64) for recording in chosen]
        return SoundBatch(
            pad_sequence([recording.features for recording in chosen]),
            torch.from_numpy(self.lengths[rows]),
            pad_sequence(targets, batch_first=True),
            torch.tensor([len(target) for target in targets]),
            torch.from_numpy(rows),
        )


class SoundFile(NamedTuple):
    """A file that was read through once: its path, and the totals of its frames before they become features."""

    path: Path
    totals: Totals


class LongSound(NamedTuple):
    """A sound that is never held as a whole.

    Attributes:
        name: of its file.
        num_frames: T.
        parts: gives its features anew with each call, in parts (T_i, F) one after the other, perhaps empty ones.
    """

    name: str
    num_frames: int
    parts: Callable[[], Iterator[Tensor]]


class FileRows(Dataset):
    """Sounds of files; a list of indices is answered by a batch, that of one long sound by a `LongSound`.

    Args:
        files: of at least one frame each.
        read: gives the features of a file in parts.
        max_frames: a sound of more is a long one.
    """

    def __init__(
        self, files: Sequence[SoundFile], read: Callable[[SoundFile], Iterator[Tensor]], max_frames: int
    ) -> None:
        self.files, self.read, self.max_frames = files, read, max_frames
        self.lengths = np.array([file.totals.count for file in files], dtype=np.int64)

    def __len__(self) -> int:
        return len(self.files)

    def long_sounds(self) -> list[LongSound]:
        """Return those that are long, by file."""
        return [self._long(row) for row in np.flatnonzero(self.lengths > self.max_frames).tolist()]

    def __getitem__(self, indices: Sequence[int]) -> SoundBatch | LongSound:
        if len(indices) == 1 and self.lengths[indices[0]] > self.max_frames:
            return self._long(indices[0])
        rows = SoundRows([Recording(torch.cat(list(self.read(self.files[row]))), []) for row in indices])
        return rows[range(len(rows))]

    def _long(self, row: int) -> LongSound:
        file = self.files[row]
        return LongSound(str(file.path), file.totals.count, lambda: self.read(file))
