"""Sounds that are easily told apart: each symbol is its own feature for a few frames, with pauses in between."""

import torch

from rnnlab.data.buckets import BucketData
from rnnlab.data.sounds import Recording, SoundData, SoundRows
from rnnlab.data.vocabulary import Vocabulary


def rows_of(texts, seed=0, steps=3):
    """Return sounds of texts, numbers of symbols from 1 to 3, of `steps` frames a symbol and two."""
    generator = torch.Generator().manual_seed(seed)
    recordings = []
    for ids in texts:
        features = 0.1 * torch.randn(steps * len(ids) + 2, 3, generator=generator)
        for place, symbol in enumerate(ids):
            features[1 + steps * place : steps * (place + 1), symbol - 1] += 1
        recordings.append(Recording(features, ids))
    return SoundRows(recordings)


class TinySounds(BucketData):
    """Texts of 1 to 4 of the letters a, b and the space; `texts` gives those of single parts."""

    frame_seconds = 0.01
    references, text = SoundData.references, SoundData.text

    def __init__(self, error_names=("cer", "wer"), **texts):
        super().__init__(200, 200, 0)
        self.error_names, self.texts = error_names, texts
        self.symbols = Vocabulary(("<blank>", "a", "b", " "))
        self.sizes = {"num_features": 3, "num_classes": 4}

    def make_splits(self):
        generator = torch.Generator().manual_seed(1)
        parts = {}
        for number, (part, size) in enumerate({"train": 60, "val": 8, "test": 8}.items()):
            lengths = torch.randint(1, 5, (size,), generator=generator).tolist()
            drawn = [torch.randint(1, 4, (length,), generator=generator).tolist() for length in lengths]
            parts[part] = rows_of(self.texts.get(part, drawn), number)
        return parts
