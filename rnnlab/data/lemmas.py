"""Words and their lemmas, from CoNLL-U files: "dogs" as a NOUN is "dog"."""

from __future__ import annotations

import numbers
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rnnlab.baselines import most_frequent_answer, score_answers
from rnnlab.data.checks import check_integer
from rnnlab.data.conllu_text import lemmas, parse_sentences
from rnnlab.data.invented import invent_words
from rnnlab.data.pair_rows import SPECIAL, Pair, Tokens
from rnnlab.data.pairs import PairData
from rnnlab.data.treebanks import read_treebank, treebank_paths


class _Word(NamedTuple):
    form: str
    tag: str
    lemma: str


class LemmaData(PairData):
    """The words of CoNLL-U files: their UPOS and form, character by character, and their lemma.

    A source is a symbol for the UPOS, as '<NOUN>', and the characters of the form. Each word that differs in form, UPOS
    or lemma is one pair. In validation and test it has the weight of all its occurrences, so that a share by weight is
    that of all words, also where a form has several lemmas. A source is `unseen` if training lacks its form with this
    UPOS. '_' counts as it stands, as lemma and as UPOS, so that shares are of all words: UD gives it to parts of words
    that were torn apart.

    Args:
        train: file, plain or '.gz': as given, or below the folder that RNNLAB_DATA names, or of a known corpus, which
            is downloaded.
        val: likewise. None: that of the known corpus that `train` is of; or else the words of each tenth sentence of
            `train`, which is then not trained on.
        test: likewise; without it there is no such part.
        weight_power: a pair is trained on with the weight count ** weight_power, over their mean: 0 weighs all alike, 1
            by their occurrences.
        invented: made-up words to draw for training (`rnnlab.data.invented`), each as heavy as a word that occurs once.
        shared_vocabulary, max_tokens, eval_max_tokens, seed, encoding: see `PairData`.

    Raises:
        ValueError: an argument is out of range; in `setup`: a file cannot be read, or holds nothing to be learnt.
    """

    former = {"upos": "before the form"}

    def __init__(
        self,
        train: str | Path,
        val: str | Path | None = None,
        test: str | Path | None = None,
        weight_power: float = 0.5,
        invented: int = 0,
        shared_vocabulary: bool = False,
        max_tokens: int = 2_000,
        eval_max_tokens: int = 8_000,
        seed: int = 0,
        encoding: str = "utf-8",
    ) -> None:
        super().__init__(
            shared_vocabulary=shared_vocabulary,
            max_tokens=max_tokens,
            eval_max_tokens=eval_max_tokens,
            seed=seed,
            encoding=encoding,
        )
        self.paths = treebank_paths(train, val, test)
        if not isinstance(weight_power, numbers.Real) or not 0 <= float(weight_power) <= 1:
            raise ValueError(f"weight_power must be from 0 to 1, got {weight_power!r}")
        self.weight_power = float(weight_power)
        self.num_invented = check_integer("invented", invented, 0)
        self._counts: dict[str, Counter[_Word]] = {}

    def read_parts(self) -> tuple[dict[str, list[Pair]], dict[str, Any]]:
        sentences, state, notes = read_treebank(self.paths, self.encoding, _parse, self._state)
        self._reading_notes += notes
        parts = {}
        for part, rows in sentences.items():
            counts = self._counts[part] = Counter(word for row in rows for word in row)
            if all(word.lemma == "_" for word in counts):
                raise ValueError(f"there is nothing to learn or to score: the {part} part has no lemma but '_'")
            power = self.weight_power if part == "train" else 1.0
            weights = {word: count**power for word, count in counts.items()}
            mean = sum(weights.values()) / len(weights) if part == "train" else 1.0
            parts[part] = [
                Pair(source_of(word.form, word.tag), (tuple(word.lemma),), weight / mean)
                for word, weight in weights.items()
            ]
        return parts, state

    def _settings(self) -> dict[str, Any]:
        return super()._settings() | {"upos": "behind the form"}

    def invented(self) -> list[Pair]:
        train = list(self._counts["train"])
        weight = min(pair.weight for pair in self.pairs["train"])
        words = invent_words([(word.form, word.lemma) for word in train], self.num_invented, self.shuffle_seed)
        return [Pair(source_of(form, train[index].tag), (tuple(lemma),), weight) for index, form, lemma in words]

    def join_source(self, symbols: Iterable[str]) -> str:
        """Return 'dogs NOUN' of the symbols of a source."""
        *form, tag = symbols
        return f"{''.join(form)} {tag.strip('<>')}"

    def parse_source(self, line: str, place: str) -> Tokens:
        """Return the symbols of a line "form<TAB>UPOS".

        Raises:
            ValueError: it is no such line, or training has no such UPOS, with its place.
        """
        form, _, tag = line.strip().partition("\t")
        if not form or not tag:
            raise ValueError(f"{place}: expected a form, a tab and its UPOS, got {line!r}")
        source = source_of(form, tag.strip())
        if source[-1] not in self.source_symbols:
            tags = [symbol.strip("<>") for symbol in self.source_symbols if len(symbol) > 1 and symbol not in SPECIAL]
            raise ValueError(f"{place}: the UPOS must be one of {', '.join(tags)}, got {tag.strip()!r}")
        return source

    def measure_answers(self, pairs: Sequence[Pair], answers: Sequence[Sequence[str]]) -> dict[str, float]:
        """Return the share of right words, and that among words whose form training lacks with this UPOS."""
        known = {pair.source for pair in self.pairs["train"]}
        unseen = [(pair, answer) for pair, answer in zip(pairs, answers, strict=True) if pair.source not in known]
        result = {"exact_match": _share(pairs, answers)}
        if unseen:
            result["unseen_accuracy"] = _share(*zip(*unseen, strict=True))
        return result

    def baselines(self) -> dict[str, float]:
        """Return how right the most frequent lemma of form and UPOS is, in small letters the form of an unseen word.

        A name (PROPN) keeps its letters. Keys are 'baseline/most_frequent/<part>/exact_match' and
        '.../unseen_accuracy'.
        """
        self.setup()
        counts = [
            (source_of(word.form, word.tag), tuple(word.lemma), count) for word, count in self._counts["train"].items()
        ]
        return self.score_baseline("most_frequent", most_frequent_answer(counts, _plain_form))


def source_of(form: str, tag: str) -> Tokens:
    """Return the symbols of a source.

    Example:
        >>> source_of("dogs", "NOUN")
        ('d', 'o', 'g', 's', '<NOUN>')
    """
    return (*form, f"<{tag}>")


def _plain_form(source: Tokens) -> Tokens:
    *form, tag = source
    return tuple(form) if tag == "<PROPN>" else tuple("".join(form).lower())


def _share(pairs: Sequence[Pair], answers: Sequence[Sequence[str]]) -> float:
    return score_answers(answers, [pair.targets for pair in pairs], [pair.weight for pair in pairs]).exact_match


def _parse(text: str, place: str) -> list[list[_Word]]:
    """Return the words of each sentence."""
    sentences = parse_sentences(text, place, "upos")
    return [
        [_Word(form, tag or "_", lemma) for form, tag, lemma in zip(sentence.forms, sentence.tags, row, strict=True)]
        for sentence, row in zip(sentences, lemmas(text, place, sentences), strict=True)
    ]
