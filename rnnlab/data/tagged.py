"""Sentences with a tag for each word, from CoNLL-U files."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rnnlab.baselines import hmm, most_frequent, score_tags, suffix_backoff
from rnnlab.data.batches import Queries
from rnnlab.data.buckets import BucketData
from rnnlab.data.checks import check_encoding, check_integer
from rnnlab.data.conllu_text import Sentence, check_column, fill_column, from_plain_text, is_conllu, parse_sentences
from rnnlab.data.files import read_as_it_is
from rnnlab.data.sentences import Symbols, TaggedSentences
from rnnlab.data.treebanks import read_treebank, treebank_paths
from rnnlab.data.vectors import read_vectors

# The time of an HMM's search grows with the cube of their number.
_MOST_HMM_TAGS = 100


class SentenceData(BucketData):
    """Base of the data modules of taggers; a subclass writes `read_parts`.

    A batch is a `TaggedBatch`. Words, characters and tags are known from training alone: a word that has another tag
    counts as an error, in validation and test alike, and `notes` tells how many there are.

    Attributes:
        sentences: those of each part, known after `setup`.
        words, chars, tags: the vocabularies; those of words and characters begin with PADDING and UNKNOWN.
        num_vectors: how many of the words have a pre-trained vector, known after `setup`.

    Args:
        column: what the tags are, see `rnnlab.data.conllu_text.read_sentences`.
        min_count: how often a word occurs in training, to be known.
        lowercase: whether words that differ in case only are one; characters always keep their case.
        max_chars: how many characters of a word are read.
        max_tokens: padded size of a training batch, sentences times words.
        eval_max_tokens: the same of all other batches.
        vectors: file of pre-trained word vectors, see `rnnlab.data.vectors.read_vectors`.
        seed: decides the order of training.
        encoding: of text files, as Python names it.

    Raises:
        ValueError: an argument is out of range.
    """

    remembers = True
    unit = "tokens"

    def __init__(
        self,
        column: str,
        min_count: int,
        lowercase: bool,
        max_chars: int,
        max_tokens: int,
        eval_max_tokens: int,
        vectors: str | Path | None,
        seed: int,
        encoding: str = "utf-8",
    ) -> None:
        super().__init__(max_tokens, eval_max_tokens, seed)
        self.column = check_column(column)
        self.min_count = check_integer("min_count", min_count, 1)
        self.lowercase = lowercase
        self.max_chars = check_integer("max_chars", max_chars, 1)
        self.vectors = vectors
        self.encoding = check_encoding(encoding)
        self.sentences: dict[str, list[Sentence]] = {}
        self.num_vectors = 0

    def read_parts(self) -> tuple[dict[str, list[Sentence]], dict[str, Any]]:
        """Return the sentences of 'train', 'val' and perhaps 'test', and what a run remembers of where they are from.

        That is 'sha256', of what it is trained on, and whatever else `read_parts` wants to find in `_state` later on.
        """
        raise NotImplementedError

    def make_splits(self) -> dict[str, TaggedSentences]:
        self.sentences, state = self.read_parts()
        train = self.sentences["train"]
        state |= {
            "counts": dict(Counter(form for sentence in train for form in sentence.forms)),
            "tags": self._state.get("tags") or sorted(_tags(train)),
            "vector_size": None,
        }
        self._remember(state)
        if self.vectors is not None:
            self.sizes["vectors"], self.num_vectors = read_vectors(self.vectors, self.words.symbols)
            state["vector_size"] = self.sizes["vectors"].shape[1]
        return self._encode()

    def _remember(self, state: dict[str, Any]) -> None:
        self._keep(state)
        self._symbols = Symbols.of(state["counts"], state["tags"], self.min_count, self.lowercase, self.max_chars)
        self.words, self.chars, self.tags = self._symbols.words, self._symbols.chars, self._symbols.tags
        self.sizes = {
            "num_words": len(self.words),
            "num_chars": len(self.chars),
            "num_tags": len(self.tags),
            "vectors": None,
        }

    def _encode(self) -> dict[str, TaggedSentences]:
        """Return the sentences in numbers, and note which tags are not known."""
        self.notes = list(self._reading_notes)
        for part, sentences in self.sentences.items():
            found = _tags(sentences)
            if sum(found[tag] for tag in self.tags) == 0 or (part == "train" and len(found) < 2):
                have = f"no tag but {', '.join(map(repr, sorted(found)))}" if found else "no tag"
                known = "" if part == "train" or not found else f", and training has {', '.join(self.tags)}"
                raise ValueError(
                    f"there is nothing to learn or to score: the {part} part has {have} as {self.column}{known}"
                )
            others = sorted(found.keys() - set(self.tags))
            if others:
                self.notes.append(
                    f"{part}: {sum(found[tag] for tag in others)} of {found.total()} words have a tag that training "
                    f"lacks ({', '.join(others)}); each counts as wrong"
                )
        return {part: TaggedSentences(sentences, self._symbols) for part, sentences in self.sentences.items()}

    def state_dict(self) -> dict[str, Any]:
        """Return what a trained model takes for granted: forms and tags, and the hash of what they were learnt from."""
        return self._state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Know the words, characters and tags of a run, without its files.

        Raises:
            ValueError: the training part that was read is another one, or a part has no tag that the run knows.
        """
        vectors = self.sizes["vectors"] if self._state else None
        has_other_tags = state_dict["tags"] != self._state.get("tags")
        self._remember(state_dict)
        if vectors is None and state_dict["vector_size"] is not None:
            vectors = torch.zeros(len(self.words), state_dict["vector_size"])  # a place for the trained ones
        self.sizes["vectors"] = vectors
        if self.splits and has_other_tags:
            self.splits = self._encode()

    @property
    def epoch_size(self) -> int:
        return self.splits["train"].num_tokens

    def baselines(self) -> dict[str, float]:
        """Return the accuracy of taggers that count, learnt from the training part.

        Keys are 'baseline/<name>/val/accuracy' and, on words that do not occur in training, '.../accuracy_unseen', for
        validation and test. Names are most_frequent, suffix and hmm, the last left out where the tags are so many that
        its search would take minutes.
        """
        self.setup()
        pairs = {part: [(s.forms, s.tags) for s in sentences] for part, sentences in self.sentences.items()}
        taggers = {"most_frequent": most_frequent, "suffix": suffix_backoff}
        if len(self.tags) <= _MOST_HMM_TAGS:
            taggers["hmm"] = hmm
        result = {}
        for part in ("val", "test"):
            for name, tagger in taggers.items() if part in pairs else ():
                scores = score_tags(pairs["train"], pairs[part], tagger(pairs["train"], pairs[part]))
                result[f"baseline/{name}/{part}/accuracy"] = scores.accuracy
                if not math.isnan(scores.unseen_accuracy):
                    result[f"baseline/{name}/{part}/accuracy_unseen"] = scores.unseen_accuracy
        return result

    def read_queries(self, path: str | Path, encoding: str | None = None) -> Queries:
        """Read sentences to be tagged: CoNLL-U (see `rnnlab.data.conllu_text.is_conllu`), or text, one sentence a line.

        Both may be packed, '.gz'. Words of a text stand between spaces; lines without words are left out.

        Raises:
            ValueError: the file is missing, broken ("file:line: what is wrong") or has no sentence.
        """
        file, text = read_as_it_is(path, "file of sentences", encoding or self.encoding)
        if is_conllu(text, file.name):
            sentences = parse_sentences(text, str(file), column=None)
        else:
            text, sentences = from_plain_text(text)
            if not sentences:
                raise ValueError(f"{file}: is empty, a sentence a line is expected")
        inputs = TaggedSentences(sentences, self._symbols)
        return Queries(inputs, (text, sentences, self._fixed_batches(inputs, self.eval_max_tokens)))

    def write_answers(self, queries: Queries, outputs: Sequence[Tensor]) -> str:
        """Return the file of the questions as CoNLL-U, the column of the tags filled and nothing else changed.

        Args:
            queries: what `read_queries` returned. Of plain text, each sentence stands below a comment '# text ='.
            outputs: numbers of the tags, one tensor (B, T) for each of `query_batches`.
        """
        text, sentences, _ = queries.context
        return fill_column(text, sentences, self.answers(queries, outputs), self.column)

    def answers(self, queries: Queries, outputs: Sequence[Tensor]) -> list[list[str]]:
        """Return the tags of the words of each sentence."""
        _, sentences, batches = queries.context
        tags: list[list[str]] = [[] for _ in sentences]
        for indices, output in zip(batches, outputs, strict=True):
            for index, ids in zip(indices, output.tolist(), strict=True):
                tags[index] = self.tags.decode(ids[: len(sentences[index].forms)])
        return tags


class TaggerData(SentenceData):
    """The sentences of CoNLL-U files.

    Args:
        train: file, plain or '.gz': as given, or below the folder that RNNLAB_DATA names, or of a known corpus, which
            is downloaded.
        val: likewise. None: that of the known corpus that `train` is of; or else each tenth sentence of `train`, which
            is then not trained on.
        test: likewise; without it there is no such part.
        column, min_count, lowercase, max_chars, max_tokens, eval_max_tokens, vectors, seed, encoding: see
            `SentenceData`.

    Raises:
        ValueError: an argument is out of range; in `setup`: a file cannot be read, or holds nothing to be learnt.
    """

    def __init__(
        self,
        train: str | Path,
        val: str | Path | None = None,
        test: str | Path | None = None,
        column: str = "upos",
        min_count: int = 1,
        lowercase: bool = False,
        max_chars: int = 30,
        max_tokens: int = 2_000,
        eval_max_tokens: int = 4_000,
        vectors: str | Path | None = None,
        seed: int = 0,
        encoding: str = "utf-8",
    ) -> None:
        super().__init__(column, min_count, lowercase, max_chars, max_tokens, eval_max_tokens, vectors, seed, encoding)
        self.paths = treebank_paths(train, val, test)

    def read_parts(self) -> tuple[dict[str, list[Sentence]], dict[str, Any]]:
        parts, state, self._reading_notes = read_treebank(
            self.paths, self.encoding, lambda text, place: parse_sentences(text, place, self.column), self._state
        )
        return parts, state


def _tags(sentences: Sequence[Sentence]) -> Counter[str]:
    """Return how many words have each tag."""
    return Counter(tag for sentence in sentences for tag in sentence.tags if tag is not None)
