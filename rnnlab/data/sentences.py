"""Tagged sentences in numbers: what is known of words, and the batches a tagger reads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from rnnlab.data.batches import IGNORED
from rnnlab.data.conllu_text import Sentence
from rnnlab.data.vocabulary import PADDING, UNKNOWN, Vocabulary

UNKNOWN_TAG = -1  # of a word that has a tag, but none that can be given


class TaggedBatch(NamedTuple):
    """B sentences of at most T words, W of which are different, of at most C characters each.

    Attributes:
        words: number of each word in the vocabulary, int64 (B, T); 0 in padding, 1 for a word that is not there.
        forms: row of `chars` that spells each word, int64 (B, T); 0 in padding.
        chars: characters of the different words, int64 (W, C); 0 behind their ends, 1 for one not in the vocabulary.
        char_lengths: characters of each of them, at least 1, int64 (W,).
        lengths: words of each sentence, at least 1, int64 (B,).
        unseen: whether a word, as it is written, does not occur in training, bool (B, T); False in padding.
        tags: number of each tag, int64 (B, T); -100 in padding and where a word has none, -1 for a tag that training
            does not have.
    """

    words: Tensor
    forms: Tensor
    chars: Tensor
    char_lengths: Tensor
    lengths: Tensor
    unseen: Tensor
    tags: Tensor


class Symbols(NamedTuple):
    """What words, characters and tags are known, and how words are looked up.

    Attributes:
        counts: how often each form occurs in training.
        words: PADDING, UNKNOWN and the words.
        chars: PADDING, UNKNOWN and the characters.
        tags: the tags.
        lowercase: whether words are in lower case.
        max_chars: how many characters of a word are read.
    """

    counts: Mapping[str, int]
    words: Vocabulary
    chars: Vocabulary
    tags: Vocabulary
    lowercase: bool
    max_chars: int

    @classmethod
    def of(
        cls, counts: Mapping[str, int], tags: Sequence[str], min_count: int, lowercase: bool, max_chars: int
    ) -> Symbols:
        """Return the symbols of training data with these counts of forms.

        For the arguments see `rnnlab.data.tagged.SentenceData`.
        """
        special = (PADDING, UNKNOWN)
        words: Counter[str] = Counter()
        for form, count in counts.items():
            words[form.lower() if lowercase else form] += count
        kept = sorted(word for word, count in words.items() if count >= min_count and word not in special)
        chars = Vocabulary.of("".join(counts), special)
        return cls(counts, Vocabulary((*special, *kept)), chars, Vocabulary(tags), lowercase, max_chars)

    def word(self, form: str) -> int:
        """Return the number of a form."""
        return self.words[form.lower() if self.lowercase else form]


class TaggedSentences(Dataset):
    """Sentences in numbers; a list of indices is answered by a batch, a single index by a batch of one.

    What concerns a form is kept once for all its occurrences.

    Attributes:
        lengths: words of each sentence, int64 (N,).

    Args:
        sentences: with tags, or None for a word without one.
        symbols: of the training data.
    """

    def __init__(self, sentences: Sequence[Sentence], symbols: Symbols) -> None:
        self.lengths = np.array([len(sentence.forms) for sentence in sentences], dtype=np.int64)
        self._starts = self.lengths.cumsum() - self.lengths
        index: dict[str, int] = {}
        self._forms = np.array([index.setdefault(form, len(index)) for row in sentences for form in row.forms])
        tag_ids = {None: IGNORED, **{tag: number for number, tag in enumerate(symbols.tags)}}
        self._tags = np.array([tag_ids.get(tag, UNKNOWN_TAG) for sentence in sentences for tag in sentence.tags])
        self._words = np.array([symbols.word(form) for form in index])
        self._unseen = np.array([form not in symbols.counts for form in index])
        spelt = [form[: symbols.max_chars] for form in index]
        self._char_lengths = np.array([len(form) for form in spelt])
        self._chars = np.zeros((len(spelt), self._char_lengths.max()), dtype=np.int64)
        self._chars[np.arange(self._chars.shape[1]) < self._char_lengths[:, None]] = symbols.chars.encode(
            "".join(spelt)
        )

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def num_tokens(self) -> int:
        """Return the words of all sentences."""
        return len(self._forms)

    def __getitem__(self, indices: int | Sequence[int]) -> TaggedBatch:
        rows = np.atleast_1d(indices)
        lengths = self.lengths[rows]
        is_word = np.arange(lengths.max()) < lengths[:, None]  # (B, T)
        at = np.where(is_word, self._starts[rows, None] + np.arange(lengths.max()), 0)
        forms, inverse = np.unique(self._forms[at[is_word]], return_inverse=True)
        places = np.zeros_like(at)
        places[is_word] = inverse
        char_lengths = self._char_lengths[forms]
        arrays = (
            np.where(is_word, self._words[self._forms[at]], 0),
            places,
            self._chars[forms, : char_lengths.max()],
            char_lengths,
            lengths,
            np.where(is_word, self._unseen[self._forms[at]], False),
            np.where(is_word, self._tags[at], IGNORED),
        )
        return TaggedBatch(*map(torch.from_numpy, arrays))
