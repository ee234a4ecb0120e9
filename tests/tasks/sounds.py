"""Sounds that are easily told apart: each symbol is its own feature for a few frames, with pauses in between."""

from typing import NamedTuple

import torch
from torch import Tensor

from rnnlab.data.buckets import BucketData
from rnnlab.data.vocabulary import Vocabulary


class SoundBatch(NamedTuple):
    features: Tensor
    lengths: Tensor
    target: Tensor
    target_lengths: Tensor
    rows: Tensor


class Rows:
    """Sounds of texts; a list of indices is answered by a batch."""

    def __init__(self, texts, num_features, seed, steps=3):
        generator = torch.Generator().manual_seed(seed)
        self.texts, self.sounds = texts, []
        for ids in texts:
            sound = 0.1 * torch.randn(steps * len(ids) + 2, num_features, generator=generator)
            for place, symbol in enumerate(ids):
                sound[1 + steps * place : steps * (place + 1), symbol - 1] += 1
            self.sounds.append(sound)
        self.lengths = torch.tensor([len(sound) for sound in self.sounds]).numpy()

    def __len__(self):
        return len(self.texts)

    def __getitem__(self, indices):
        rows = [indices] if isinstance(indices, int) else list(indices)
        target = torch.nn.utils.rnn.pad_sequence([torch.tensor(self.texts[row]) for row in rows], batch_first=True)
        return SoundBatch(
            torch.nn.utils.rnn.pad_sequence([self.sounds[row] for row in rows]),
            torch.tensor([len(self.sounds[row]) for row in rows]),
            target.long(),
            torch.tensor([len(self.texts[row]) for row in rows]),
            torch.tensor(rows),
        )


class TinySounds(BucketData):
    """Texts of 1 to 4 of the letters a, b and the space; `texts` gives those of single parts."""

    frame_seconds = 0.01

    def __init__(self, num_train=60, error_names=None, seed=0, **texts):
        super().__init__(200, 200, seed)
        self.error_names, self.num_train, self.texts = error_names, num_train, texts
        self.symbols = Vocabulary(("<blank>", "a", "b", " "))
        self.sizes = {"num_features": 3, "num_classes": 4}

    def make_splits(self):
        generator = torch.Generator().manual_seed(1)
        parts = {}
        for number, (part, size) in enumerate({"train": self.num_train, "val": 8, "test": 8}.items()):
            lengths = torch.randint(1, 5, (size,), generator=generator).tolist()
            drawn = [torch.randint(1, 4, (length,), generator=generator).tolist() for length in lengths]
            parts[part] = Rows(self.texts.get(part, drawn), 3, number)
        return parts

    @property
    def epoch_size(self):
        return len(self.splits["train"])

    def references(self, part, rows):
        return [self.splits[part].texts[int(row)] for row in rows]

    def text(self, ids):
        return "".join(self.symbols.decode(ids))
