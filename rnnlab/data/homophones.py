"""Spoken sentences as words whose borders are known, many of which only context can spell."""

from __future__ import annotations

import bisect
import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool1d
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from rnnlab.data.batches import IGNORED, Queries
from rnnlab.data.buckets import BucketData
from rnnlab.data.checks import check_integer
from rnnlab.data.espeak import ACCENTS, Speaker
from rnnlab.data.sound_cache import Arrays
from rnnlab.data.speech import SpokenData
from rnnlab.data.utterances import Heard, plain
from rnnlab.data.vocabulary import Vocabulary

# Spelt differently, and said alike by most voices.
HOMOPHONES = (
    *("to two too", "their there they're", "see sea", "write right", "for four", "no know", "here hear", "our hour"),
    *("by buy bye", "would wood", "one won", "new knew", "your you're", "its it's", "meet meat", "whole hole"),
    *("piece peace", "wait weight", "sale sail", "mail male", "fair fare", "where wear", "whether weather"),
    *("through threw", "some sum", "passed past", "hi high", "read red", "led lead", "son sun", "do due", "role roll"),
    *("whose who's", "week weak", "site sight cite", "blue blew", "break brake", "knows nose", "seen scene"),
    *("principal principle", "waste waist", "so sew", "be bee", "not knot", "or oar ore", "plane plain", "add ad"),
    *("war wore", "way weigh", "great grate", "made maid", "days daze", "board bored", "allowed aloud", "eye i"),
)


class SegmentBatch(NamedTuple):
    """B sentences of at most T words, each of which is F numbers.

    Attributes:
        segments: float32 (T, B, F), zero in padding.
        lengths: words of each sentence, at least 1, int64 (B,).
        homophones: whether a word has another spelling among the classes, bool (B, T); False in padding.
        tags: number of each word, int64 (B, T); -100 in padding and where a word is none of the classes.
    """

    segments: Tensor
    lengths: Tensor
    homophones: Tensor
    tags: Tensor


class SegmentRows(Dataset):
    """Sentences of a part; a list of indices is answered by a batch, a single index by a batch of one."""

    def __init__(self, segments: Sequence[Tensor], tags: Sequence[Tensor], has_twin: Tensor) -> None:
        self.segments, self.tags, self.has_twin = segments, tags, has_twin
        self.lengths = np.array([len(sentence) for sentence in segments], dtype=np.int64)

    def __len__(self) -> int:
        return len(self.segments)

    def __getitem__(self, indices: int | Sequence[int]) -> SegmentBatch:
        rows = np.atleast_1d(np.asarray(indices, dtype=np.int64))
        tags = pad_sequence([self.tags[row] for row in rows], batch_first=True, padding_value=IGNORED)
        return SegmentBatch(
            pad_sequence([self.segments[row] for row in rows]),
            torch.from_numpy(self.lengths[rows]),
            self.has_twin[tags.clamp(min=0)] & (tags >= 0),
            tags,
        )


class HomophoneData(BucketData):
    """Sentences of a text, spoken by espeak-ng, cut where its words are: what word is each segment?

    A segment is the log-mel frames between the borders of a word, their number brought to `num_slices` by averaging.
    Classes are the most frequent words of training. Segments of other words, and of two that espeak-ng says as one ('of
    the'), are heard and have no class. Voices and sentences of the parts differ as those of `SpokenData` do.

    Attributes:
        tags: the words that are classes.
        twins: of each class, the classes that sound like it, itself among them; only those that have another one.

    Args:
        texts: file of sentences, see `SpokenData`.
        num_train, num_val, num_test: sentences of each part; a sentence is said again, by another voice, when all were.
        num_words: classes.
        num_slices: vectors of a segment, one after the other; F is this times 40 bands.
        accents, test_accents, min_snr, max_snr, corpus_seed, cache: see `SpokenData`.
        max_tokens, eval_max_tokens: padded size of a batch, sentences times words, of training and of evaluation.
        seed: decides the order of training.

    Raises:
        ValueError: an argument is out of range; in `setup`: as `SpokenData`.
    """

    remembers = True
    unit = "words"

    def __init__(
        self,
        texts: str | Path = "ud-ewt/en_ewt-ud-train.conllu",
        num_train: int = 8_000,
        num_val: int = 600,
        num_test: int = 1_000,
        num_words: int = 1_500,
        num_slices: int = 8,
        accents: Sequence[str] = ACCENTS[:-1],
        test_accents: Sequence[str] | None = None,
        min_snr: float = 10.0,
        max_snr: float = 30.0,
        corpus_seed: int = 0,
        max_tokens: int = 600,
        eval_max_tokens: int = 4_000,
        seed: int = 0,
        cache: str | Path | None = None,
    ) -> None:
        super().__init__(max_tokens, eval_max_tokens, seed)
        if texts is None:
            raise ValueError("texts must name a file of sentences, got None")
        self.num_words = check_integer("num_words", num_words, 2)
        self.num_slices = check_integer("num_slices", num_slices, 1)
        self.spoken = SpokenData(
            texts,
            *(num_train, num_val, num_test),
            accents=accents,
            test_accents=test_accents,
            min_snr=min_snr,
            max_snr=max_snr,
            corpus_seed=corpus_seed,
            cache=cache,
        )

    def make_splits(self) -> dict[str, SegmentRows]:
        sentences = self.spoken.sentences["train"]
        counts = Counter(word for sentence in sentences for word in plain(sentence).split())
        words = self._state.get("words") or sorted(word for word, _ in counts.most_common(self.num_words))
        sha256 = hashlib.sha256("\n".join(sentences).encode()).hexdigest()
        self._remember({"sha256": sha256, "words": words, "counts": {word: counts[word] for word in words}})
        has_twin = torch.tensor([word in self.twins for word in self.tags])
        with Speaker() as speaker:
            parts = {part: self._rows(part, speaker, has_twin) for part in self.spoken.num_sounds}
        self.notes = list(self.spoken._reading_notes)
        return parts

    def _rows(self, part: str, speaker: Speaker, has_twin: Tensor) -> SegmentRows:
        slices = {"num_slices": self.num_slices}
        arrays = self.spoken.kept(part, speaker, slices, lambda: self._arrays(part, speaker))
        numbers = [self.tags[word] if word in self.tags else IGNORED for word in arrays["words"].tolist()]
        sizes = arrays["sizes"].tolist()
        segments = torch.from_numpy(arrays["segments"]).split(sizes)
        return SegmentRows(segments, torch.tensor(numbers, dtype=torch.int64).split(sizes), has_twin)

    def _arrays(self, part: str, speaker: Speaker) -> Arrays:
        """Return the segments and words of the sounds of a part that have some, and how many each has."""
        cut = [self._cut(heard) for heard in self.spoken.sounds(part, speaker)]
        found = [(segments, words) for segments, words in cut if words]
        return {
            "segments": torch.cat([segments for segments, _ in found]).numpy(),
            "words": np.array([word for _, words in found for word in words]),
            "sizes": np.array([len(words) for _, words in found]),
        }

    def _cut(self, heard: Heard) -> tuple[Tensor, list[str]]:
        """Return the segments of a sound (T, F) and the word of each, empty where the next one was said with it."""
        features = self.spoken.features_of(torch.from_numpy(heard.wave))
        words = heard.said.split(" ")
        ends = np.cumsum([len(word) + 1 for word in words]) - 1
        borders: dict[int, tuple[float, float]] = {}
        for word in heard.words:
            index = min(bisect.bisect_right(ends, word.first), len(words) - 1)
            borders[index] = (borders.get(index, (word.start, 0.0))[0], word.end)
        segments, names = [], []
        for index, (start, end) in sorted(borders.items()):
            first = min(round(start / self.spoken.frame_seconds), len(features) - 1)
            last = max(first + 1, round(end / self.spoken.frame_seconds))
            segments.append(adaptive_avg_pool1d(features[first:last].T, self.num_slices).T.flatten())
            is_alone = index + 1 in borders or index + 1 == len(words)
            names.append(plain(words[index]) if is_alone else "")
        return torch.stack(segments) if segments else torch.empty(0, self.sizes["num_features"]), names

    def _remember(self, state: Mapping[str, Any]) -> None:
        self._keep(dict(state))
        self.tags = Vocabulary(state["words"])
        groups = [[word for word in group.split() if word in self.tags] for group in HOMOPHONES]
        self.twins = {word: group for group in groups if len(group) > 1 for word in group}
        self.sizes = {"num_features": self.num_slices * self.spoken.bands.num_features, "num_tags": len(self.tags)}

    def state_dict(self) -> dict[str, Any]:
        """Return what a trained model takes for granted: the hash of its sentences, and its words."""
        return self._state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._remember(state_dict)

    @property
    def epoch_size(self) -> int:
        return int(self.splits["train"].lengths.sum())

    def read_queries(self, path: str | Path, encoding: str | None = None) -> Queries:
        """Refuse: only a synthesiser knows where words begin.

        Raises:
            ValueError: always.
        """
        raise ValueError(f"{path}: the borders of words are not known in sounds of one's own; see data=speech")

    def baselines(self) -> dict[str, float]:
        """Return 'baseline/most_frequent/<part>/accuracy_homophones': how often the most frequent spelling is right.

        That is what one who hears every word rightly reaches without context.
        """
        self.setup()
        counts = self._state["counts"]
        best = {word: max(group, key=lambda twin: counts[twin]) for word, group in self.twins.items()}
        result = {}
        for part in ("val", "test"):
            words = [word for tags in self.splits[part].tags for word in self.tags.decode(tags[tags >= 0].tolist())]
            right = [best[word] == word for word in words if word in best]
            if right:
                result[f"baseline/most_frequent/{part}/accuracy_homophones"] = sum(right) / len(right)
        return result
